"""Least privilege: a role for each process of a run, and a token of it instead of the user's own rights.

    with granted(target, checkout, run_id, private) as access:
        gateway.apply(access.roles(), namespace)       # in each arm's namespace, before anything else
        access.target_as("chaos")                      # the target by a token of that role

The roles are the files of ``deploy/roles``: a ``Role`` is bound in each arm's namespace, a ``ClusterRole`` once for the run. The accounts live
in a namespace of their own, so that they outlive an arm; their tokens (TokenRequest) end with it. The conductor alone keeps the user's rights:
it makes and deletes namespaces, volumes and these roles. Kubeconfigs with tokens lie in the run's private directory, never in the run.
Limit: RBAC cannot bound what a role that may run something in a pod does there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from harness.errors import NotReady, StackFailed
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.model.target import Target
from harness.stack import lifecycle
from harness.stack.clearing import taking_down
from harness.stack.render import NAMESPACE_LABEL, Manifest
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress, SilentProgress

ROLES = ("deploy", "chaos", "observe", "census")
SUFFIX = "roles"
ONLY_ON = "mailgale.dev/only-on"
#: Longer than any run; a token ends earlier, with its namespace.
TOKEN_S = 24 * 3600
#: No pod ever runs beside the accounts.
POD_SECURITY = {"pod-security.kubernetes.io/enforce": "restricted"}
_IN_FORCE_S = 20.0
_RBAC = "rbac.authorization.k8s.io/v1"


@dataclass(frozen=True)
class Access:
    """The roles of one run. ``namespace`` is where their accounts are, ``kubeconfigs`` role → file."""

    target: Target
    namespace: str
    kubeconfigs: Mapping[str, Path]
    manifests: Mapping[str, Sequence[Manifest]]

    def target_as(self, role: str) -> Target:
        """The target by a token of ``role``. KeyError where there is no such role."""
        return replace(self.target, kubeconfig=str(self.kubeconfigs[role]), context=role)

    def roles(self) -> list[Manifest]:
        """Role and RoleBinding of each role, for the namespace of an arm."""
        found: list[Manifest] = []
        for role, manifests in self.manifests.items():
            for one in (m for m in manifests if m["kind"] == "Role"):
                name = f"mailgale-{one['metadata']['name']}"
                found += [{**one, "metadata": {"name": name}}, _binding("Role", name, role, self.namespace)]
        return found

    def until_in_force(self, namespace: str) -> None:
        """Wait until each role may list what it reads in ``namespace``: an API server learns of a new binding a moment later.

        :raises NotReady: one may not in time.
        """
        for role in self.kubeconfigs:
            path = f"/api/v1/namespaces/{namespace}/{'configmaps' if role == 'deploy' else 'pods'}"
            allowed = partial(_allowed, Cluster(self.target_as(role)), path)
            wait_for(allowed, deadline_s=_IN_FORCE_S, what=f"the role '{role}' to be in force in {namespace}", every_s=0.1)


@contextmanager
def granted(target: Target, checkout: Checkout, run_id: str, private: Path, *, progress: Progress | None = None) -> Iterator[Access]:
    """Accounts, roles and tokens for one run; all of it is taken back on every way out.

    :param private: kubeconfigs are written there, mode 0600.
    :raises NotReady: the user's rights do not suffice to give them.
    :raises CleanupIncomplete: they could not be taken back.
    """
    namespace, gateway = checkout.namespace(SUFFIX), Gateway(Cluster(target), checkout.id, run_id)
    manifests = {role: read(checkout, role) for role in ROLES}
    try:
        _gone(target, checkout, namespace, progress)
        yield _given(gateway, target, namespace, private, manifests)
    finally:
        with taking_down(namespace):
            lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress or SilentProgress())


def read(checkout: Checkout, role: str) -> list[Manifest]:
    """The manifests of one role.

    :raises StackFailed: they do not read.
    """
    path = checkout.root / "deploy" / SUFFIX / f"{role}.yaml"
    try:
        return [m for m in yaml.safe_load_all(path.read_text()) if isinstance(m, dict)]
    except (OSError, yaml.YAMLError) as error:
        raise StackFailed(f"cannot be read: {error}", where=str(path)) from error


def cluster_wide(manifests: Sequence[Manifest], role: str, namespace: str, target: Target) -> list[Manifest]:
    """ClusterRoles of a role for this kind of target, and what binds them; named by the namespace of the accounts."""
    found: list[Manifest] = []
    for one in (m for m in manifests if m["kind"] == "ClusterRole"):
        only = (one["metadata"].get("annotations") or {}).get(ONLY_ON)
        if only in (None, "kind" if target.kind == "kind" else "context" if not target.ours else ""):
            name, labels = f"{namespace}-{one['metadata']['name']}", {NAMESPACE_LABEL: namespace}
            binding = _binding("ClusterRole", name, role, namespace)
            found += [{**m, "metadata": {"name": name, "labels": labels}} for m in (one, binding)]
    return found


def _given(gateway: Gateway, target: Target, namespace: str, private: Path, manifests: Mapping[str, Sequence[Manifest]]) -> Access:
    try:
        gateway.create_namespace(namespace, labels=POD_SECURITY)
        gateway.apply([_account(role) for role in manifests], namespace)
        for role, ones in manifests.items():
            gateway.apply(cluster_wide(ones, role, namespace, target), namespace)
        files = {role: _kubeconfig(gateway, role, namespace, private) for role in manifests}
    except ApiFailed as error:
        raise NotReady(f"the roles of a run cannot be given: {error}", where=target.name, todo="use a context that may do so") from error
    return Access(target, namespace, files, manifests)


def _allowed(cluster: Cluster, path: str) -> bool:
    try:
        cluster.items(path)
    except ApiFailed as error:
        if error.status != 403:
            raise
        return False
    return True


def _gone(target: Target, checkout: Checkout, namespace: str, progress: Progress | None) -> None:
    """What a killed run left is taken back before: its accounts would be another run's."""
    if Cluster(target).namespace(namespace) is not None:
        lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress or SilentProgress())


def _kubeconfig(gateway: Gateway, role: str, namespace: str, private: Path) -> Path:
    token = gateway.token(role, namespace, seconds=TOKEN_S)
    path = private / f"kubeconfig-{role}"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(gateway.cluster.api.kubeconfig_with(token, role)))
    return path


def _account(role: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": role}, "automountServiceAccountToken": False}


def _binding(kind: str, name: str, role: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": _RBAC, "kind": f"{kind}Binding", "metadata": {"name": name}, "roleRef": {"apiGroup": _RBAC.split("/")[0], "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": namespace}],
    }

"""The one place that changes a cluster. Every mutation passes the guards of ``harness.kube.guards`` first and is recorded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.errors import GuardRefused, MailgaleError, UsageError
from harness.kube import guards
from harness.kube.api import APPLY, JSON_PATCH, MERGE, STRATEGIC, ApiFailed, Conflict, NotFound
from harness.kube.client import Cluster, Executed
from harness.kube.guards import Owner
from harness.model.target import Target

FIELD_MANAGER = "mailgale"
#: What others are applied into or refer to comes first.
_ORDER = ("Namespace", "StorageClass", "PersistentVolume", "ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding",
          "RoleBinding", "NetworkPolicy", "ConfigMap", "Secret", "Service", "PersistentVolumeClaim")
_PATCHES = {"merge": MERGE, "strategic": STRATEGIC, "json": JSON_PATCH}


@dataclass(frozen=True)
class Mutation:
    """One change, as it is recorded. ``outcome``: ``done``, ``refused: why`` (by a guard) or ``failed: why``."""

    verb: str
    what: str  #: ``Kind/name``
    namespace: str
    outcome: str
    detail: Mapping[str, Any] = field(default_factory=dict)


Record = Callable[[Mutation], None]


class Gateway:
    """Changes to one cluster, in the name of one owner.

    :param checkout_id: ``Checkout.id``.
    :param run_id: the run's id, ``none`` outside a run; a namespace of another run is refused.
    :param record: called with every Mutation, refused and failed ones included (for the run's log).
    :param any_run: clean-up only: namespaces of this checkout, whichever run made them.
    :param may: what the plan lets be done to nodes (guard 4).

    Every method raises ``GuardRefused`` when a guard says no or cannot be evaluated, and ``kube.api.ApiFailed``
    (``NotFound``, ``Conflict``) when the API server does.
    """

    def __init__(
        self, cluster: Cluster, checkout_id: str, run_id: str = "none", record: Record | None = None, *, any_run: bool = False,
        may: Collection[str] = (),
    ) -> None:
        self.cluster = cluster
        self.owner = Owner(checkout_id, run_id)
        self._record = record or (lambda mutation: None)
        self._any_run, self._may = any_run, frozenset(may)

    def acting_as(self, target: Target) -> Gateway:
        """The same owner and record with other rights on the same cluster."""
        return Gateway(Cluster(target), self.owner.checkout_id, self.owner.run_id, self._record, any_run=self._any_run, may=self._may)

    # -- whole objects

    def create_namespace(self, name: str, *, labels: Mapping[str, str] | None = None) -> str:
        """Make the namespace ``name`` with the owner labels; its UID. One that is there already must be ours.

        :raises Conflict: it is being deleted.
        """
        with self._mutation("create", f"Namespace/{name}", ""):
            guards.check_cluster(self.cluster)
            if not name.startswith(f"mailgale-{self.owner.checkout_id}"):
                raise GuardRefused(f"our namespaces are called mailgale-{self.owner.checkout_id}…", where=name)
            meta = {"name": name, "labels": {**(labels or {}), **self.owner.labels}}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
            try:
                made = self.cluster.api.call("POST", "/api/v1/namespaces", query={"fieldManager": FIELD_MANAGER}, body=body)
            except Conflict:
                made = guards.check_namespace(self.cluster, name, self.owner)
                if made["metadata"].get("deletionTimestamp"):
                    raise
            return str(made["metadata"]["uid"])

    def apply(self, manifests: Iterable[Mapping[str, Any]], namespace: str) -> list[dict[str, Any]]:
        """Apply server-side, as field manager ``mailgale``, with the owner labels on objects, pod templates and claims.

        :param namespace: where all namespaced manifests belong; one that names another namespace is refused.
        :return: the objects as the server has them now.
        """
        ordered = sorted((self.owned(m) for m in manifests), key=_rank)
        with self._mutation("guard", "apply", namespace):
            guards.check_cluster(self.cluster)
            guards.check_namespace(self.cluster, namespace, self.owner)
        return [self._apply_one(m, namespace) for m in ordered]

    def owned(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of ``manifest`` with the owner labels wherever objects come of it."""
        made: dict[str, Any] = copy.deepcopy(dict(manifest))
        found = made.get("spec")
        spec: dict[str, Any] = found if isinstance(found, dict) else {}
        places = [made, *(spec.get("volumeClaimTemplates") or [])]
        if isinstance(spec.get("template"), dict):
            places.append(spec["template"])
        for place in places:
            meta = place.setdefault("metadata", {})
            meta["labels"] = {**(meta.get("labels") or {}), **self.owner.labels}
        return made

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None, uid: str = "",
        propagation: str = "Background",
    ) -> bool:
        """Delete one object; False when there is none.

        :param uid: delete only this very object (Conflict otherwise): a pod of the same name may be a new one.
        """
        with self._mutation("delete", f"{kind}/{name}", namespace, grace_s=grace_s, uid=uid):
            if kind == "Namespace":
                raise GuardRefused("namespaces are deleted by delete_namespace", where=name)
            self._guard(api_version, kind, name, namespace)
            body = _delete_options(grace_s, uid, propagation)
            try:
                self.cluster.api.call("DELETE", self.cluster.path_of(api_version, kind, namespace, name), body=body)
            except NotFound:
                return False
            return True

    def delete_namespace(self, name: str) -> bool:
        """Begin to delete a namespace of ours with all that is in it; False when there is none."""
        with self._mutation("delete", f"Namespace/{name}", ""):
            guards.check_cluster(self.cluster)
            if guards.namespace_or_none(self.cluster, name) is None:
                return False
            guards.check_namespace(self.cluster, name, self.owner, any_run=self._any_run)
            self.cluster.api.call("DELETE", f"/api/v1/namespaces/{name}", body=_delete_options(None, "", "Background"))
            return True

    # -- pods

    def delete_pod(self, name: str, namespace: str, grace_s: int | None = None, *, uid: str = "") -> bool:
        """Delete a pod; ``grace_s=0`` kills it without waiting for its node. False when there is none."""
        return self.delete("v1", "Pod", name, namespace, grace_s=grace_s, uid=uid)

    def evict(self, name: str, namespace: str, grace_s: int | None = None, *, uid: str = "") -> bool:
        """Evict a pod (policy/v1), as a drain does. False when a PodDisruptionBudget forbids it for now."""
        with self._mutation("evict", f"Pod/{name}", namespace, grace_s=grace_s):
            self._guard("v1", "Pod", name, namespace)
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
                    "deleteOptions": _delete_options(grace_s, uid, "")}
            try:
                self.cluster.api.call("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body=body)
            except ApiFailed as error:
                if error.status != 429:
                    raise
                return False
            return True

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes | None = None
    ) -> Executed:
        """Run a command that changes something in a container. Arguments as of ``Cluster.exec``."""
        with self._mutation("exec", f"Pod/{pod}", namespace, container=container, argv=list(argv)):
            self._guard("v1", "Pod", pod, namespace)
            return self.cluster.exec(namespace, pod, container, argv, timeout_s=timeout_s, stdin=stdin)

    # -- fields

    def scale(self, workload: str, namespace: str, replicas: int) -> int:
        """Set the replicas of ``Kind/name`` (Deployment, StatefulSet); how many there were before."""
        kind, _, name = workload.partition("/")
        if kind not in ("Deployment", "StatefulSet"):
            raise UsageError(f"cannot scale '{workload}'", todo="Deployment/NAME or StatefulSet/NAME")
        with self._mutation("scale", workload, namespace, replicas=replicas):
            self._guard("apps/v1", kind, name, namespace)
            path = self.cluster.path_of("apps/v1", kind, namespace, name) + "/scale"
            before = int(self.cluster.get(path)["spec"].get("replicas", 0))
            self.cluster.api.call("PATCH", path, content_type=MERGE, body={"spec": {"replicas": replicas}})
            return before

    def patch(
        self, api_version: str, kind: str, name: str, namespace: str, patch: Mapping[str, Any] | Sequence[Any], *, how: str = "merge"
    ) -> dict[str, Any]:
        """Patch one object: ``how`` is ``merge`` (RFC 7396), ``strategic`` or ``json`` (RFC 6902). The object after it.

        A patch that would take the owner labels away is refused.
        """
        with self._mutation("patch", f"{kind}/{name}", namespace, patch=patch, how=how):
            if kind == "Namespace":
                raise GuardRefused("namespaces are not patched: their labels are what the guards go by", where=name)
            if _touches_owner(patch):
                raise GuardRefused("the patch touches the owner labels", where=f"{kind}/{name}")
            self._guard(api_version, kind, name, namespace)
            path = self.cluster.path_of(api_version, kind, namespace, name)
            query = {"fieldManager": FIELD_MANAGER}
            return self.cluster.api.call("PATCH", path, content_type=_PATCHES[how], query=query, body=patch)

    def resize(self, pod: str, namespace: str, container: str, *, cpu: str) -> None:
        """Set a running container's CPU limit (subresource ``resize``, Kubernetes ≥1.33); the container goes on running."""
        with self._mutation("resize", f"Pod/{pod}", namespace, container=container, cpu=cpu):
            self._guard("v1", "Pod", pod, namespace)
            path = self.cluster.path_of("v1", "Pod", namespace, pod) + "/resize"
            body = {"spec": {"containers": [{"name": container, "resources": {"limits": {"cpu": cpu}}}]}}
            self.cluster.api.call("PATCH", path, content_type=STRATEGIC, body=body)

    def cordon(self, node: str, *, on: bool = True) -> None:
        """Make a node of our own kind cluster unschedulable, or schedulable again (``on=False``)."""
        with self._mutation("cordon" if on else "uncordon", f"Node/{node}", ""):
            guards.check_cluster(self.cluster)
            guards.check_node(self.cluster, node)
            if on:
                guards.check_nodes_stay(self.cluster, [node], self._may)
            self.cluster.api.call("PATCH", f"/api/v1/nodes/{node}", content_type=MERGE, body={"spec": {"unschedulable": on or None}})

    # -- the run's lease, and tokens of the run's roles

    def put_lease(self, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str], *, version: str) -> dict[str, Any]:
        """Make the cluster's lease (``version`` "") or replace what it was at ``version``; the lease after it.

        Renewals come every few seconds, so none of this is recorded as a Mutation; ``kube.runlease`` records who takes it.

        :raises Conflict: somebody else was faster.
        """
        guards.check_cluster(self.cluster)
        guards.check_lease(self.cluster, name)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{guards.LEASE_NAMESPACE}/leases"
        meta = {"name": name, "labels": {guards.MANAGED_BY: guards.MANAGER}, "annotations": dict(annotations)}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": dict(spec)}
        if not version:
            return self.cluster.api.call("POST", path, query={"fieldManager": FIELD_MANAGER}, body=body)
        meta["resourceVersion"] = version
        return self.cluster.api.call("PATCH", f"{path}/{name}", content_type=MERGE, query={"fieldManager": FIELD_MANAGER}, body=body)

    def delete_lease(self, name: str, *, version: str) -> None:
        """Delete the cluster's lease as it was at ``version``; one that is another by now stays.

        :raises Conflict: it is another by now.
        """
        guards.check_cluster(self.cluster)
        guards.check_lease(self.cluster, name)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": version}}
        path = f"/apis/coordination.k8s.io/v1/namespaces/{guards.LEASE_NAMESPACE}/leases/{name}"
        with suppress(NotFound):
            self.cluster.api.call("DELETE", path, body=body)

    def token(self, account: str, namespace: str, *, seconds: int) -> str:
        """A token of a ServiceAccount of ours (TokenRequest, authentication.k8s.io/v1). Known limit: the server may give it less time."""
        with self._mutation("token", f"ServiceAccount/{account}", namespace, seconds=seconds):
            self._guard("v1", "ServiceAccount", account, namespace)
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": account},
                    "spec": {"expirationSeconds": seconds}}
            return str(self.cluster.api.call("POST", path, body=body)["status"]["token"])

    # -- the inside

    def _apply_one(self, manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
        api_version, kind, name = str(manifest["apiVersion"]), str(manifest["kind"]), str(manifest["metadata"]["name"])
        inside = self.cluster.namespaced(api_version, kind)
        with self._mutation("apply", f"{kind}/{name}", namespace if inside else ""):
            if kind == "Namespace":
                raise GuardRefused("namespaces are made by create_namespace", where=name)
            if inside:
                if manifest["metadata"].setdefault("namespace", namespace) != namespace:
                    raise GuardRefused(f"{kind}/{name} belongs to another namespace", where=manifest["metadata"]["namespace"])
            else:
                guards.check_cluster_object(self.cluster, manifest, self.owner)
            path = self.cluster.path_of(api_version, kind, namespace, name)
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            return self.cluster.api.call("PATCH", path, content_type=APPLY, query=query, body=manifest)

    def _guard(self, api_version: str, kind: str, name: str, namespace: str) -> None:
        guards.check_cluster(self.cluster)
        if self.cluster.namespaced(api_version, kind):
            guards.check_namespace(self.cluster, namespace, self.owner, any_run=self._any_run)
        else:
            guards.check_cluster_object(self.cluster, {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}, self.owner)

    @contextmanager
    def _mutation(self, verb: str, what: str, namespace: str, **detail: Any) -> Iterator[None]:
        try:
            yield
        except GuardRefused as error:
            self._record(Mutation(verb, what, namespace, f"refused: {error}", detail))
            raise
        except MailgaleError as error:
            self._record(Mutation(verb, what, namespace, f"failed: {error}", detail))
            raise
        self._record(Mutation(verb, what, namespace, "done", detail))


def _rank(manifest: Mapping[str, Any]) -> int:
    kind = str(manifest.get("kind"))
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _touches_owner(patch: Mapping[str, Any] | Sequence[Any]) -> bool:
    if not isinstance(patch, Mapping):
        return any(str(op.get("path", "")) in ("", "/metadata") or str(op.get("path", "")).startswith("/metadata/labels") for op in patch)
    meta = patch.get("metadata", {})
    if not isinstance(meta, Mapping) or ("labels" in meta and not isinstance(meta["labels"], Mapping)):
        return True
    return bool({guards.MANAGED_BY, guards.CHECKOUT, guards.RUN} & set(meta.get("labels", {})))


def _delete_options(grace_s: int | None, uid: str, propagation: str) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if propagation:
        body["propagationPolicy"] = propagation
    if grace_s is not None:
        body["gracePeriodSeconds"] = grace_s
    if uid:
        body["preconditions"] = {"uid": uid}
    return body

"""The guards before every mutation. A guard that cannot be evaluated refuses.

1. The cluster is the one of the target: UID of ``kube-system``.
2. The namespace is ours: labels ``managed-by=mailgale``, this checkout's id, and the run's id.
3. A cluster-scoped object is of a kind we need, is called ``mailgale-…`` with this checkout's id or is one of the shared
   names, and what exists under that name carries our labels.
4. Nodes are touched only on clusters that we made ourselves (``kind``); never the control plane nor the last one that takes pods,
   unless the plan says so.
5. The cluster's lease carries our label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.errors import GuardRefused
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.model.plan import CONTROL_PLANE, LAST_READY

T = TypeVar("T")

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "mailgale"
CHECKOUT = "mailgale.dev/checkout"
RUN = "mailgale.dev/run"
#: Where the cluster's one lease lies: a namespace that every cluster has, so that nothing stays behind but an object that is deleted.
LEASE_NAMESPACE = "default"
#: Cluster-scoped kinds that a stack may need. Nodes are judged apart.
CLUSTER_KINDS = frozenset({"PersistentVolume", "StorageClass", "ClusterRole", "ClusterRoleBinding"})
#: Cluster-scoped objects that two checkouts on one cluster share.
SHARED_NAMES = frozenset({"mailgale-volumes"})
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")


@dataclass(frozen=True)
class Owner:
    """Who acts: this checkout, in this run (``none`` outside one)."""

    checkout_id: str
    run_id: str = "none"

    def __post_init__(self) -> None:
        for value in (self.checkout_id, self.run_id):
            if not _LABEL.match(value):
                raise GuardRefused(f"'{value}' cannot be a label, so what is ours could not be told apart")

    @property
    def labels(self) -> dict[str, str]:
        """The labels on everything we own."""
        return {MANAGED_BY: MANAGER, CHECKOUT: self.checkout_id, RUN: self.run_id}

    def owns(self, metadata: Mapping[str, Any], *, any_run: bool = False) -> bool:
        """Whether an object's labels say that it is ours; ``any_run``: of whichever run."""
        labels = metadata.get("labels") or {}
        keys = [MANAGED_BY, CHECKOUT] if any_run else [MANAGED_BY, CHECKOUT, RUN]
        return all(labels.get(k) == self.labels[k] for k in keys)


def check_cluster(cluster: Cluster) -> None:
    """Guard 1.

    :raises GuardRefused: another cluster answers there, the target has no UID, or the UID cannot be read.
    """
    expected = cluster.target.uid
    if not expected:
        raise GuardRefused("the target has no cluster UID to compare with", where=cluster.target.name)
    found = _evaluated(cluster.uid, "the cluster's UID", cluster.target.name)
    if found != expected:
        raise GuardRefused(
            f"another cluster answers: UID {found}, expected {expected}", where=cluster.target.context, todo="mailgale cluster status"
        )


def check_namespace(cluster: Cluster, name: str, owner: Owner, *, any_run: bool = False) -> dict[str, Any]:
    """Guard 2. The namespace as it is.

    :param any_run: for clean-up: a namespace of this checkout, whichever run made it.
    :raises GuardRefused: it is not there, not ours, of another run, or cannot be read.
    """
    if not name:
        raise GuardRefused("no namespace is named")
    found = namespace_or_none(cluster, name)
    if found is None:
        raise GuardRefused("there is no such namespace", where=name)
    if not owner.owns(found["metadata"], any_run=any_run):
        theirs = {k: v for k, v in (found["metadata"].get("labels") or {}).items() if k in owner.labels}
        raise GuardRefused(f"the namespace is not ours: it has {theirs or 'no owner labels'}, we are {owner.labels}", where=name)
    return found


def namespace_or_none(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """The namespace as it is, None where there is none.

    :raises GuardRefused: it cannot be read.
    """
    return _evaluated(lambda: cluster.namespace(name), f"the labels of namespace {name}", cluster.target.name)


def check_cluster_object(cluster: Cluster, manifest: Mapping[str, Any], owner: Owner) -> None:
    """Guard 3, for one object without a namespace.

    :raises GuardRefused: a kind or name that is none of ours, or an object of somebody else's has that name.
    """
    kind, name = str(manifest.get("kind")), str(manifest.get("metadata", {}).get("name", ""))
    if kind not in CLUSTER_KINDS:
        raise GuardRefused(f"{kind} is no cluster-scoped kind that mailgale may touch", where=name)
    if name not in SHARED_NAMES and not name.startswith(f"{MANAGER}-{owner.checkout_id}"):
        raise GuardRefused(f"{kind} must be called mailgale-{owner.checkout_id}…", where=name)
    found = _evaluated(
        lambda: cluster.find(str(manifest["apiVersion"]), kind, name), f"the owner of {kind} {name}", cluster.target.name
    )
    if found is None:
        return
    labels = found["metadata"].get("labels") or {}
    shared = name in SHARED_NAMES and labels.get(MANAGED_BY) == MANAGER
    if not shared and not owner.owns(found["metadata"], any_run=True):
        raise GuardRefused(f"there is a {kind} of this name that is not ours", where=name)


def check_lease(cluster: Cluster, name: str) -> None:
    """Guard 5, for the cluster's lease: its name is ours, and so is what exists under it.

    :raises GuardRefused: otherwise, or it cannot be read.
    """
    if not name.startswith(f"{MANAGER}-"):
        raise GuardRefused("our lease is called mailgale-…", where=name)
    found = _evaluated(
        lambda: cluster.find("coordination.k8s.io/v1", "Lease", name, LEASE_NAMESPACE), f"the owner of lease {name}", cluster.target.name
    )
    if found is not None and (found["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        raise GuardRefused("there is a lease of this name that is not ours", where=f"{LEASE_NAMESPACE}/{name}")


def check_node(cluster: Cluster, name: str) -> None:
    """Guard 4.

    :raises GuardRefused: the cluster is not one of mailgale's own, or the target does not know the node.
    """
    if cluster.target.kind != "kind":
        raise GuardRefused("nodes are changed on mailgale's own kind clusters only", where=name)
    if name not in {n.name for n in cluster.target.nodes}:
        raise GuardRefused("the target has no such node", where=name)


def check_nodes_stay(cluster: Cluster, names: Sequence[str], may: Collection[str]) -> None:
    """Guard 4, before nodes are taken away.

    :param may: ``control-plane``, ``last-ready``: what the plan says that it means.
    :raises GuardRefused: a node of the control plane, or none that takes pods would be left, or they cannot be read.
    """
    for name in names:
        check_node(cluster, name)
    control = [n.name for n in cluster.target.nodes if n.role == "control-plane" and n.name in names]
    if control and CONTROL_PLANE not in may:
        raise GuardRefused("a node of the control plane is not touched unless the plan says so", where=", ".join(control))
    states = _evaluated(cluster.nodes, "the nodes", cluster.target.name)
    if not any(n.takes_pods for n in states if n.name not in names) and LAST_READY not in may:
        raise GuardRefused("no node that takes pods would be left", where=", ".join(names))


def _evaluated(read: Callable[[], T], what: str, where: str) -> T:
    try:
        return read()
    except ApiFailed as error:
        raise GuardRefused(f"{what} cannot be read, so nothing is changed: {error}", where=where) from error

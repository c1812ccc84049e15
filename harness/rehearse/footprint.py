"""The cluster's state before an arm and after it: what a run may change and must put back.

Nodes (schedulable, taints, ready), packet rules and queueing disciplines of kind's nodes but for the cluster's own, our namespaces and our
cluster-scoped objects. What a fault changes inside an arm's namespace goes with the namespace. Limit: labels of nodes and objects of
others are not compared, since nothing here changes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from harness.errors import CleanupIncomplete, ClusterFailed, CommandFailed, GuardRefused, NotReady
from harness.kube.api import ApiFailed, selector
from harness.kube.client import Cluster
from harness.kube.guards import CHECKOUT, MANAGED_BY, MANAGER
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.shell import run

#: So long a difference may take to go by itself: a node that was started again, a taint of the node controller.
SETTLES_S = 60.0
_OURS = (("v1", "Namespace"), ("v1", "PersistentVolume"), ("rbac.authorization.k8s.io/v1", "ClusterRole"),
         ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"))  # fmt: skip
#: Chains that the cluster itself writes to whenever pods and services come and go, and counters.
_OTHERS = re.compile(r"KUBE-|CNI-|KIND-|KINDNET|DOCKER|^#|^:|^\*|^COMMIT")
_RULES = "iptables-save 2>/dev/null; ip6tables-save 2>/dev/null; tc qdisc show dev eth0 2>/dev/null; true"

Footprint = Mapping[str, str]


def snapshot(cluster: Cluster, checkout: Checkout) -> Footprint:
    """What may be changed → how it is now.

    :raises ApiFailed: the API server does not say. :raises CommandFailed: a node does not.
    """
    found: dict[str, str] = {}
    for node in cluster.nodes():
        taints = ", ".join(sorted(node.taints)) or "none"
        found[f"node {node.name}"] = f"{'ready' if node.ready else 'not ready'}, {'schedulable' if node.schedulable else 'cordoned'}, taints: {taints}"
    labels = selector({MANAGED_BY: MANAGER, CHECKOUT: checkout.id})
    for api_version, kind in _OURS:
        for one in cluster.items(cluster.path_of(api_version, kind), label_selector=labels)[0]:
            found[f"{kind} {one['metadata']['name']}"] = "there"
    if cluster.target.kind == "kind" and cluster.target.engine:
        found |= {f"rules of node {n.name}": _rules(n.name) for n in cluster.target.nodes}
    return found


def differences(before: Footprint, after: Footprint) -> list[str]:
    """A sentence for each thing that is not as it was."""
    names = sorted({*before, *after})
    return [f"{n}: {_brief(after.get(n, 'gone'))} (before: {_brief(before.get(n, 'not there'))})" for n in names if before.get(n) != after.get(n)]


@contextmanager
def as_before(target: Target, checkout: Checkout, *, settles_s: float = SETTLES_S) -> Iterator[None]:
    """Hold what is done inside to leaving the cluster as it found it.

    :raises GuardRefused: the state before cannot be read, so that nothing could be compared.
    :raises CleanupIncomplete: lists every difference (exit 10).
    """
    cluster = Cluster(target)
    try:
        before = snapshot(cluster, checkout)
    except (ApiFailed, CommandFailed) as error:
        raise GuardRefused(f"the cluster's state before cannot be read, so nothing begins: {error}", where=target.name) from error
    try:
        yield
    except (CleanupIncomplete, ClusterFailed):
        raise  # it says itself what is left, and a cluster that is gone cannot be compared
    except BaseException:
        _compare(cluster, checkout, before, settles_s)
        raise
    _compare(cluster, checkout, before, settles_s)


def _compare(cluster: Cluster, checkout: Checkout, before: Footprint, settles_s: float) -> None:
    left: list[str] = []

    def same() -> bool:
        left[:] = differences(before, snapshot(cluster, checkout))
        return not left

    try:
        with suppress(NotReady):
            wait_for(same, deadline_s=settles_s, what="the cluster to be as before")
    except (ApiFailed, CommandFailed) as error:
        left[:] = [f"cannot be read: {error}"]
    if left:
        raise CleanupIncomplete(f"the cluster is not as before: {'; '.join(left)}", where=cluster.target.name, todo="mailgale cluster status")


def _rules(node: str) -> str:
    lines = run(["docker", "exec", node, "sh", "-c", _RULES], timeout_s=30).stdout.splitlines()
    return "\n".join(line for line in lines if not _OTHERS.search(line))


def _brief(text: str) -> str:
    return text if len(text) < 200 else f"{text[:200]} …"

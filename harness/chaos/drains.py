"""Faults of nodes that their cluster knows of: cordoned, drained, drained one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.pods import gone
from harness.chaos.undo import Armed
from harness.chaos.world import FaultFailed
from harness.kube.objects import Pod


def drain(
    component: str, nodes: int = 1, for_s: float = 0.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Cordon the nodes ``victims`` and evict this run's pods from them (policy/v1), again and again while a budget forbids it.

    Pods of a DaemonSet stay, since they would come back at once; so do pods of other namespaces. Evidence: the node is unschedulable and
    every pod that was meant has left it. Undone when the node is schedulable again and every workload of the run whole.
    """
    act = partial(_drain, for_s=for_s)
    return carry_out("drain", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _drain(f: Fault, for_s: float) -> None:
    meant = _meant(f, f.victims)
    f.arm_every_workload()
    cordoned = [_armed(f, node) for node in f.victims]
    f.say("begin", pods=_named(meant))
    for node in f.victims:
        _cordoned(f, node)
    refused = _evict(f, meant)
    f.say("evidence", left={p.name: p.uid for p in meant}, refused_by_budgets=refused)
    f.hold(for_s)
    f.say("end", cordoned=len(cordoned))


def rolling_drain(
    component: str, for_s: float = 0.0, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 600.0,
) -> dict[str, Any]:
    """Drain the nodes ``victims`` in turn, as maintenance does (T38): the next one only when all workloads of the run are whole again.

    :param for_s: seconds that each node stays empty, its maintenance.
    Evidence: each node was unschedulable, and every pod that was on it has left it; ``end`` says how long each took.
    """
    act = partial(_rolling, for_s=for_s)
    return carry_out("rolling_drain", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _rolling(f: Fault, for_s: float) -> None:
    f.arm_every_workload()
    f.say("begin", nodes=f.victims, for_s=for_s)
    there = {p.uid for p in _meant(f, f.victims)}
    left: dict[str, str] = {}
    took: dict[str, float] = {}
    for node in f.victims:
        begin = time.monotonic()
        meant = _meant(f, [node])
        armed = _armed(f, node)
        _cordoned(f, node)
        refused = _evict(f, meant)
        left |= {p.name: p.uid for p in meant if p.uid in there}  # not those that only came from a node emptied before
        f.until(partial(_all_whole, f), f"every workload is whole again with {node} empty")
        f.say("evidence", node=node, left=dict(left), refused_by_budgets=refused, whole_after_s=round(time.monotonic() - begin, 1))
        f.hold(for_s)
        f.undo_one(armed)
        took[node] = round(time.monotonic() - begin, 1)
    f.say("end", took_s=took)


def cordon(
    component: str, nodes: int = 1, for_s: float = 30.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Make the nodes ``victims`` unschedulable for ``for_s`` seconds. Evidence: their spec says so."""
    act = partial(_cordon, for_s=for_s)
    return carry_out("cordon", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _cordon(f: Fault, for_s: float) -> None:
    for node in f.victims:
        _armed(f, node)
    f.say("begin", for_s=for_s)
    for node in f.victims:
        _cordoned(f, node)
    f.hold(for_s)
    f.say("end")


def _meant(f: Fault, nodes: Sequence[str]) -> list[Pod]:
    """The pods that a drain of ``nodes`` evicts."""
    found = [p for p in f.world.cluster.pods(f.world.spec.namespace) if p.node in nodes and _is_evicted(p)]
    if not found:
        raise FaultFailed("no pod of this run is on these nodes, so nothing would be drained", where=", ".join(nodes))
    return found


def _armed(f: Fault, node: str) -> Armed:
    """The undo of a cordon, written down before it."""
    if not _schedulable(f, node):
        raise FaultFailed("is cordoned already, so this is not ours to undo", where=node)
    return f.arm("uncordon", node=node)


def _cordoned(f: Fault, node: str) -> None:
    f.world.gateway.cordon(node)
    if _schedulable(f, node):
        raise FaultFailed("is still schedulable", where=node)
    f.say("evidence", node=node, unschedulable=True)


def _evict(f: Fault, meant: Sequence[Pod]) -> int:
    """Evict all of ``meant`` and wait until they are gone; how often a budget refused."""
    waiting, refused = list(meant), 0

    def evicted() -> bool:
        nonlocal refused
        for pod in list(waiting):
            if gone(f, pod) or f.world.gateway.evict(pod.name, pod.namespace, uid=pod.uid):
                waiting.remove(pod)
            else:
                refused += 1
        return not waiting

    f.until(evicted, "every eviction is granted by its disruption budget")
    for pod in meant:
        f.until(partial(gone, f, pod), f"pod {pod.name} has left {pod.node}")
    return refused


def _named(pods: Sequence[Pod]) -> list[dict[str, str]]:
    return [{"name": p.name, "uid": p.uid, "node": p.node} for p in pods]


def _all_whole(f: Fault) -> bool:
    known = {w for workloads in f.world.spec.workloads.values() for w in workloads}
    return not any(f.world.whole(w) for w in known)


def _schedulable(f: Fault, node: str) -> bool:
    found = next((n for n in f.world.cluster.nodes() if n.name == node), None)
    if found is None:
        raise FaultFailed("there is no such node", where=node)
    return found.schedulable


def _is_evicted(pod: Pod) -> bool:
    owners = pod.raw.get("metadata", {}).get("ownerReferences") or []
    return pod.phase not in ("Succeeded", "Failed") and all(o.get("kind") not in ("DaemonSet", "Node") for o in owners)

"""The faults themselves, as chaostoolkit actions. What may be asked of each stands in ``harness.model.faults``.

A plan gives ``component`` and how many; the conductor renders ``victims`` (names), ``fault``, ``when`` and ``deadline_s`` in. Called
without a run's lease, each refuses. None of them chooses a victim, and none returns before its evidence was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.chaos.controlplane import control_plane_loss
from harness.chaos.dependency import service_hijack
from harness.chaos.exhaust import fd_exhaust, oom_kill
from harness.chaos.fault import Fault, carry_out
from harness.chaos.hog import hog
from harness.chaos.nodes import Process, plain
from harness.chaos.storage import attach_refused, volume_full, volume_readonly, volume_stall
from harness.chaos.world import FaultFailed
from harness.errors import NotSupported
from harness.kube.objects import Pod

__all__ = [
    "attach_refused", "container_kill", "control_plane_loss", "cordon", "drain", "fd_exhaust", "freeze", "hog", "kill_pod", "node_stop", "oom_kill",
    "scale", "service_hijack", "volume_full", "volume_readonly", "volume_stall",
]  # fmt: skip

When = Mapping[str, float] | None


def kill_pod(
    component: str, pods: int = 1, grace_s: int | None = None, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Delete the pods ``victims``.

    :param grace_s: seconds of grace; 0 = at once, None = the pod's own ``terminationGracePeriodSeconds``.
    Evidence: every old UID is gone; with grace 0 on kind also every process of the old containers. Undone when the workload has
    all its pods ready again. Known limit: with grace 0 a kubelet still gives containers 2 s between SIGTERM and SIGKILL
    (Kubernetes 1.34 pkg/kubelet/kuberuntime, minimumGracePeriodInSeconds); ``container_kill`` gives none.
    """
    act = partial(_kill_pod, grace_s=grace_s)
    return carry_out("kill_pod", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _kill_pod(f: Fault, grace_s: int | None) -> None:
    before = [f.pod(v) for v in f.victims]
    at_once = grace_s == 0
    processes = {p.name: _processes(f, p) for p in before} if at_once else {}
    f.arm("whole", workload=f.workload)
    f.say("begin", pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in before], grace_s=grace_s)
    for pod in before:
        if not f.world.gateway.delete_pod(pod.name, pod.namespace, grace_s, uid=pod.uid):
            raise FaultFailed("was gone before it could be killed", where=pod.name)
    for pod in before:
        f.until(partial(_gone, f, pod), f"pod {pod.name} with UID {pod.uid} is gone")
        f.say("evidence", pod=pod.name, old_uid_gone=pod.uid)
    for pod in before:
        _processes_gone(f, pod, processes.get(pod.name))
    f.say("end")


def container_kill(
    component: str, pods: int = 1, container: str = "", victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """SIGKILL to every process of one container of the pods ``victims``, from outside. kind only.

    Evidence: those processes are gone, the pod's UID stayed, the container has a new ID and one restart more.
    """
    act = partial(_container_kill, container=container)
    return carry_out("container_kill", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _container_kill(f: Fault, container: str) -> None:
    before = [f.pod(v) for v in f.victims]
    found = {p.name: _living(f, p, container) for p in before}
    f.arm("whole", workload=f.workload)
    f.say("begin", processes={n: [p.pid for p in ps] for n, ps in found.items()})
    for pod in before:
        f.world.nodes.signal(pod.node, found[pod.name], "KILL")
    for pod in before:
        old = pod.container(_container(pod, container))

        def restarted(pod: Pod = pod, name: str = old.name, old_id: str = old.id, count: int = old.restarts) -> Pod | None:
            now = f.pod(pod.name)
            fresh = now.container(name)
            return now if now.uid == pod.uid and fresh.id not in ("", old_id) and fresh.restarts > count else None

        now = f.until(restarted, f"container {old.name} of {pod.name} is started again")
        if f.world.nodes.alive(pod.node, found[pod.name]):
            raise FaultFailed("processes of the old container still live", where=pod.name)
        f.say("evidence", pod=pod.name, uid=now.uid, old_container=old.id, new_container=now.container(old.name).id)
    f.say("end")


def freeze(
    component: str, pods: int = 1, container: str = "", for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """SIGSTOP to every process of one container of the pods ``victims`` for ``for_s`` seconds. kind only.

    Evidence: state T of all of them. A probe that notices may have them killed meanwhile; that ends the fault as well.
    """
    act = partial(_freeze, container=container, for_s=for_s)
    return carry_out("freeze", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _freeze(f: Fault, container: str, for_s: float) -> None:
    before = [f.pod(v) for v in f.victims]
    found = {p.name: _living(f, p, container) for p in before}
    f.arm("whole", workload=f.workload)
    for pod in before:
        f.arm("thaw", node=pod.node, processes=plain(found[pod.name]))
    f.say("begin", for_s=for_s, processes={n: [p.pid for p in ps] for n, ps in found.items()})
    for pod in before:
        f.world.nodes.signal(pod.node, found[pod.name], "STOP")
        states = {p.pid: p.state for p in f.world.nodes.alive(pod.node, found[pod.name])}
        if not states or set(states.values()) != {"T"}:
            raise FaultFailed(f"not all are stopped: {states}", where=pod.name)
        f.say("evidence", pod=pod.name, states=states)
    f.hold(for_s)
    for pod in before:
        left = f.world.nodes.thaw(pod.node, plain(found[pod.name]))
        if left:
            raise FaultFailed(left, where=pod.name)
    f.say("end")


def scale(
    component: str, replicas: int, for_s: float = 0.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Set the replicas of the workloads ``victims`` (``Kind/name``) for ``for_s`` seconds, then restore what was.

    Evidence: the spec and the number of ready pods.
    """
    act = partial(_scale, replicas=replicas, for_s=for_s)
    return carry_out("scale", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _scale(f: Fault, replicas: int, for_s: float) -> None:
    before = {w: int(f.world.workload(w)["spec"].get("replicas", 1)) for w in f.victims}
    if all(n == replicas for n in before.values()):
        raise FaultFailed(f"has {replicas} replicas already, so nothing would happen", where=", ".join(before))
    for workload, count in before.items():
        f.arm("scale", workload=workload, replicas=count)
    f.say("begin", before=before, replicas=replicas)
    for workload in before:
        f.world.gateway.scale(workload, f.world.spec.namespace, replicas)
    for workload in before:
        f.until(partial(_has, f, workload, replicas), f"{workload} has {replicas} ready pods")
        f.say("evidence", workload=workload, ready=replicas)
    f.hold(for_s)
    f.say("end")


def drain(
    component: str, nodes: int = 1, for_s: float = 0.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Cordon the nodes ``victims`` and evict this run's pods from them (policy/v1), again and again while a budget forbids it.

    Pods of a DaemonSet stay, since they would come back at once; so do pods of other namespaces. Evidence: the node is unschedulable and
    every pod that was meant has left it. Undone when the node is schedulable again and the component whole.
    """
    act = partial(_drain, for_s=for_s)
    return carry_out("drain", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _drain(f: Fault, for_s: float) -> None:
    meant = [p for p in f.world.cluster.pods(f.world.spec.namespace) if p.node in f.victims and _is_evicted(p)]
    if not meant:
        raise FaultFailed("no pod of this run is on these nodes, so nothing would be drained", where=", ".join(f.victims))
    f.arm("whole", workload=f.workload)
    _cordon_all(f, pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in meant])
    waiting, refused = list(meant), 0

    def evicted() -> bool:
        nonlocal refused
        for pod in list(waiting):
            if _gone(f, pod) or f.world.gateway.evict(pod.name, pod.namespace, uid=pod.uid):
                waiting.remove(pod)
            else:
                refused += 1
        return not waiting

    f.until(evicted, "every eviction is granted by its disruption budget")
    for pod in meant:
        f.until(partial(_gone, f, pod), f"pod {pod.name} has left {pod.node}")
    f.say("evidence", left={p.name: p.uid for p in meant}, refused_by_budgets=refused)
    f.hold(for_s)
    f.say("end")


def cordon(
    component: str, nodes: int = 1, for_s: float = 30.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Make the nodes ``victims`` unschedulable for ``for_s`` seconds. Evidence: their spec says so."""
    act = partial(_cordon, for_s=for_s)
    return carry_out("cordon", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _cordon(f: Fault, for_s: float) -> None:
    _cordon_all(f)
    f.hold(for_s)
    f.say("end")


def node_stop(
    component: str, nodes: int = 1, for_s: float = 30.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Kill the containers that are the kind nodes ``victims`` and start them again after ``for_s`` seconds.

    Evidence: the engine says that they do not run. Undone when they are Ready and the component is whole.
    """
    act = partial(_node_stop, for_s=for_s)
    return carry_out("node_stop", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _node_stop(f: Fault, for_s: float) -> None:
    f.arm("whole", workload=f.workload)
    for node in f.victims:
        if not f.world.nodes.running(node):
            raise FaultFailed("does not run already", where=node)
        f.arm("node_start", node=node)
    f.say("begin", for_s=for_s)
    for node in f.victims:
        f.world.nodes.stop(node)
        f.until(partial(_stopped, f, node), f"node {node} has stopped")
        f.say("evidence", node=node, running=False)
    f.hold(for_s)
    for node in f.victims:
        f.world.nodes.start(node)
    f.say("end")


def _cordon_all(f: Fault, **detail: Any) -> None:
    """Cordon every victim, the undo written first; ``begin`` and the evidence are said."""
    for node in f.victims:
        if not _schedulable(f, node):
            raise FaultFailed("is cordoned already, so this is not ours to undo", where=node)
        f.arm("uncordon", node=node)
    f.say("begin", **detail)
    for node in f.victims:
        f.world.gateway.cordon(node)
        if _schedulable(f, node):
            raise FaultFailed("is still schedulable", where=node)
        f.say("evidence", node=node, unschedulable=True)


def _schedulable(f: Fault, node: str) -> bool:
    found = next((n for n in f.world.cluster.nodes() if n.name == node), None)
    if found is None:
        raise FaultFailed("there is no such node", where=node)
    return found.schedulable


def _has(f: Fault, workload: str, replicas: int) -> bool:
    return not f.world.whole(workload, replicas)


def _stopped(f: Fault, node: str) -> bool:
    return not f.world.nodes.running(node)


def _gone(f: Fault, pod: Pod) -> bool:
    now = f.world.pod(pod.name)
    return now is None or now.uid != pod.uid


def _is_evicted(pod: Pod) -> bool:
    owners = pod.raw.get("metadata", {}).get("ownerReferences") or []
    return pod.phase not in ("Succeeded", "Failed") and all(o.get("kind") not in ("DaemonSet", "Node") for o in owners)


def _container(pod: Pod, name: str) -> str:
    names = [c.name for c in pod.containers if not c.init]
    if name and name not in names:
        raise FaultFailed(f"has no container '{name}', only {', '.join(names)}", where=pod.name)
    return name or names[0]


def _living(f: Fault, pod: Pod, container: str) -> list[Process]:
    found = f.world.nodes.processes(pod.node, pod.container(_container(pod, container)).id)
    if not found:
        raise FaultFailed("the container has no process", where=pod.name)
    return found


def _processes(f: Fault, pod: Pod) -> list[Process] | None:
    """Every process of the pod's containers; None where nodes cannot be looked into."""
    try:
        return [p for c in pod.containers if c.id and c.state == "running" for p in f.world.nodes.processes(pod.node, c.id)]
    except NotSupported:
        return None


def _processes_gone(f: Fault, pod: Pod, processes: list[Process] | None) -> None:
    if processes is None:
        return
    if not processes:
        raise FaultFailed("had no process on its node, so its end proves nothing", where=pod.name)
    f.until(lambda: not f.world.nodes.alive(pod.node, processes), f"every process of {pod.name} is gone from {pod.node}")
    f.say("evidence", pod=pod.name, node=pod.node, processes_gone=[p.pid for p in processes])

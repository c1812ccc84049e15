"""Faults of pods and of the processes in them: killed, killed from outside, frozen."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.nodes import Process, plain
from harness.chaos.world import FaultFailed
from harness.errors import NotSupported
from harness.kube.objects import Pod


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
    processes = {p.name: processes_of(f, p) for p in before} if at_once else {}
    f.arm_whole(before)
    f.say("begin", pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in before], grace_s=grace_s)
    for pod in before:
        if not f.world.gateway.delete_pod(pod.name, pod.namespace, grace_s, uid=pod.uid):
            raise FaultFailed("was gone before it could be killed", where=pod.name)
    for pod in before:
        f.until(partial(gone, f, pod), f"pod {pod.name} with UID {pod.uid} is gone")
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
    f.arm_whole(before)
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
    component: str, pods: int = 1, container: str = "", process: str = "", processes: int = 0, for_s: float = 20.0,
    victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """SIGSTOP to processes of one container of the pods ``victims`` for ``for_s`` seconds. kind only.

    :param process: the name of those that are stopped, as ps(1) shows it (``qmgr``, ``lmtp``); "" stops every one.
    :param processes: at most so many of them, those with the lowest numbers first; 0 stops all.
    Evidence: state T of all of them; at the end, which of them still live, and whether the pod's readiness and its restarts have changed.
    A probe that notices may have them killed meanwhile; that ends the fault as well.
    """
    act = partial(_freeze, container=container, named=(process, processes), for_s=for_s)
    return carry_out("freeze", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _freeze(f: Fault, container: str, named: tuple[str, int], for_s: float) -> None:
    before = [f.pod(v) for v in f.victims]
    found = {p.name: _named(_living(f, p, container), *named, where=p.name) for p in before}
    f.arm_whole(before)
    for pod in before:
        f.arm("thaw", node=pod.node, processes=plain(found[pod.name]))
    f.say("begin", for_s=for_s, processes={n: {str(p.pid): p.name for p in ps} for n, ps in found.items()})
    for pod in before:
        f.world.nodes.signal(pod.node, found[pod.name], "STOP")
        f.until(partial(_all_stopped, f, pod, found[pod.name]), f"every process of {pod.name} that was meant is in state T")
        f.say("evidence", pod=pod.name, states={p.pid: p.state for p in f.world.nodes.alive(pod.node, found[pod.name])})
    noticed = _hold_and_watch(f, before, for_s)
    lived = {p.name: len(f.world.nodes.alive(p.node, found[p.name])) for p in before}
    for pod in before:
        left = f.world.nodes.thaw(pod.node, plain(found[pod.name]))
        if left:
            raise FaultFailed(left, where=pod.name)
    f.say("end", noticed=noticed, still_living=lived)


def _named(living: list[Process], name: str, most: int, *, where: str) -> list[Process]:
    meant = [p for p in living if name in ("", p.name)]
    if not meant:
        raise FaultFailed(f"has no process '{name}', only {', '.join(sorted({p.name for p in living}))}", where=where)
    return sorted(meant, key=lambda p: p.pid)[: most or None]


def _all_stopped(f: Fault, pod: Pod, processes: list[Process]) -> bool:
    states = {p.state for p in f.world.nodes.alive(pod.node, processes)}
    return states == {"T"}


def _hold_and_watch(f: Fault, before: list[Pod], for_s: float) -> dict[str, dict[str, float]]:
    """Keep the fault up; per pod, after how many seconds it was no longer ready, and after how many a container had been started again."""
    begin, noticed = time.monotonic(), {p.name: dict[str, float]() for p in before}

    def look() -> None:
        for pod in before:
            now = f.world.pod(pod.name)
            after = round(time.monotonic() - begin, 1)
            if now is None or not now.ready:
                noticed[pod.name].setdefault("unready_after_s", after)
            if now is not None and now.uid == pod.uid and now.restarts > pod.restarts:
                noticed[pod.name].setdefault("restarted_after_s", after)

    f.hold(for_s, look)
    return noticed


def gone(f: Fault, pod: Pod) -> bool:
    """Whether this very pod is there no more."""
    now = f.world.pod(pod.name)
    return now is None or now.uid != pod.uid


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


def processes_of(f: Fault, pod: Pod) -> list[Process] | None:
    """Every process of the pod's running containers; None where nodes cannot be looked into."""
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

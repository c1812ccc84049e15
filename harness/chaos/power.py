"""Nodes lost without a word to their cluster: crashed, stopped, restarted, paused. kind only, where a node is a container.

What the cluster notices and when is measured: the node's condition Ready is no longer True after the controller manager's
``node-monitor-grace-period`` (40 s before Kubernetes 1.32, 50 s since); its pods are deleted after their toleration of
``node.kubernetes.io/unreachable`` (300 s by default). A StatefulSet's pods are not replaced even then, since nobody can say that they
do not run; ``force_delete`` says so by hand, as operators do. The times are in the fault's ``end``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.nodes import Process
from harness.chaos.pods import gone, processes_of
from harness.chaos.world import FaultFailed
from harness.kube.objects import Pod

UNREACHABLE = "node.kubernetes.io/unreachable"
_LOOK_S = 1.0


def node_crash(
    component: str, nodes: int = 1, for_s: float = 90.0, force_delete: bool = False, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Kill the containers that are the kind nodes ``victims``, and start them again after ``for_s`` seconds.

    :param force_delete: once the node is seen as lost, delete its pods with grace 0, so that StatefulSets replace them elsewhere.
    Evidence: the engine says ``exited``. Undone when they are Ready, keep mail in as before, and every workload of the run is whole.
    """
    return _lose("node_crash", "kill", "exited", for_s, force_delete, component, victims, fault, when, deadline_s)


def node_stop(
    component: str, nodes: int = 1, for_s: float = 90.0, force_delete: bool = False, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """As :func:`node_crash`, but the node's init is asked to stop its services first (20 s at most)."""
    return _lose("node_stop", "stop", "exited", for_s, force_delete, component, victims, fault, when, deadline_s)


def node_restart(
    component: str, nodes: int = 1, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Stop the nodes ``victims`` and start them at once: a reboot. Their pods stay and are started again there."""
    return _lose("node_restart", "stop", "exited", 0.0, False, component, victims, fault, when, deadline_s)


def node_pause(
    component: str, nodes: int = 1, for_s: float = 90.0, force_delete: bool = False, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Freeze every process of the nodes ``victims`` (cgroup freezer) for ``for_s`` seconds.

    Evidence: the engine says ``paused``. With ``force_delete`` the old processes wake up beside their successors: ``end`` says for how many
    seconds both lived, which on one volume means two masters.
    """
    return _lose("node_pause", "pause", "paused", for_s, force_delete, component, victims, fault, when, deadline_s)


def _lose(
    kind: str, verb: str, state: str, for_s: float, force_delete: bool, component: str, victims: list[str] | None, fault: str, when: When,
    deadline_s: float,
) -> dict[str, Any]:
    act = partial(_act, verb=verb, state=state, for_s=for_s, force_delete=force_delete)
    return carry_out(kind, act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _act(f: Fault, verb: str, state: str, for_s: float, force_delete: bool) -> None:
    f.arm_every_workload()
    for node in f.victims:
        if f.world.nodes.state(node) != "running":
            raise FaultFailed("does not run already", where=node)
        f.arm("node_start", node=node)
    lost = Lost(f, [p for p in f.world.cluster.pods(f.world.spec.namespace) if p.node in f.victims], force_delete)
    f.say("begin", for_s=for_s, pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in lost.pods], tolerated_s=_tolerations(lost.pods))
    lost.begin = time.monotonic()
    for node in f.victims:
        f.world.nodes.power(node, verb)
        f.until(partial(_is, f, node, state), f"node {node} is {state}")
        f.say("evidence", node=node, state=state)
    f.hold(for_s, every(_LOOK_S, lost.look))
    if force_delete and not lost.forced:
        raise FaultFailed(f"nothing was deleted by force: the cluster had not noticed within {for_s:.0f} s", where=", ".join(f.victims))
    for node in f.victims:
        f.world.nodes.start(node)
    both_s = lost.both() if verb == "pause" and force_delete else None
    f.say("end", seen=lost.seen, forced=lost.forced, **({} if both_s is None else {"old_beside_new_s": both_s}))


@dataclass
class Lost:
    """What becomes of the pods of lost nodes, second by second.

    ``seen``: seconds from the loss until ``not_ready`` (the cluster notices), ``deleting`` (their toleration is over),
    ``replaced`` (every workload has its pods ready without the node).
    """

    f: Fault
    pods: list[Pod]
    force_delete: bool
    begin: float = field(default_factory=time.monotonic)
    seen: dict[str, float] = field(default_factory=dict)
    forced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes: dict[str, list[Process]] = {p.name: processes_of(self.f, p) or [] for p in self.pods}

    def look(self) -> None:
        world = self.f.world
        if any(n.name in self.f.victims and not n.ready for n in world.cluster.nodes()):
            self._note("not_ready")
        now = {p.uid: p for p in world.cluster.pods(world.spec.namespace)}
        if not self.forced and any(p.uid in now and now[p.uid].deleting for p in self.pods):
            self._note("deleting")
        if self.force_delete and "not_ready" in self.seen and not self.forced:
            self._force()
        known = {w for workloads in world.spec.workloads.values() for w in workloads}
        if "not_ready" in self.seen and not any(world.whole(w) for w in known):
            self._note("replaced")

    def both(self) -> float:
        """Seconds for which old processes went on beside the pods that replaced theirs; waits for their end."""
        begin = time.monotonic()
        self.f.until(lambda: not self._living(), "the processes that were replaced are gone")
        return round(time.monotonic() - begin, 1)

    def _living(self) -> list[Process]:
        old = (p for p in self.pods if p.name in self.forced)
        return [p for pod in old for p in self.f.world.nodes.alive(pod.node, self.processes[pod.name])]

    def _force(self) -> None:
        for pod in self.pods:
            if not gone(self.f, pod) and self.f.world.gateway.delete_pod(pod.name, pod.namespace, 0, uid=pod.uid):
                self.forced.append(pod.name)
        self._note("forced")

    def _note(self, what: str) -> None:
        if what not in self.seen:
            self.seen[what] = round(time.monotonic() - self.begin, 1)
            self.f.say("evidence", **{f"{what}_after_s": self.seen[what]})


def every(seconds: float, look: Callable[[], None]) -> Callable[[], None]:
    """``look``, called no more often than every ``seconds``."""
    last = float("-inf")

    def sometimes() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            look()

    return sometimes


def _tolerations(pods: list[Pod]) -> dict[str, float | None]:
    """Pod → seconds for which it tolerates a node that does not answer; None: for ever."""
    return {p.name: _tolerated(p.raw.get("spec", {}).get("tolerations") or ()) for p in pods}


def _tolerated(tolerations: tuple[Mapping[str, Any], ...]) -> float | None:
    mine = [t for t in tolerations if t.get("key") in (UNREACHABLE, None) and t.get("effect") in ("NoExecute", None)]
    known = [float(t["tolerationSeconds"]) for t in mine if "tolerationSeconds" in t]
    return min(known) if known else (None if mine else 0.0)


def _is(f: Fault, node: str, state: str) -> bool:
    return f.world.nodes.state(node) == state

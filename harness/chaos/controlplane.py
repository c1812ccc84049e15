"""Faults of what steers the cluster, not of what carries mail (T01): a control-plane node, a member of etcd, the load balancer before the API.

Topology ``ha`` of our own kind cluster only. While the API does not answer, evidence comes from the container engine. Sources: kubeadm's static
pods in /etc/kubernetes/manifests; kind's load balancer is the container ``<cluster>-external-load-balancer``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from harness.chaos import restore
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed
from harness.errors import GuardRefused, NotSupported
from harness.support.shell import run

PARTS = ("node", "etcd", "api-lb")
MEMBERS_MIN = 3
_LB = "-external-load-balancer"
_DOCKER_S = 60.0


def control_plane_loss(
    component: str, part: str = "node", for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Take a part of the control plane away for ``for_s`` seconds, while ``component`` has to go on.

    :param component: what must not notice; it is whole before and after. :param part: ``node`` (the last control-plane node is killed), ``etcd``
        (the last member is stopped), ``api-lb`` (the load balancer before the API is paused, so nobody reaches the API).
    Evidence: the engine says that the container does not run, or no process of etcd is left on the node. Undone when all of it is back and the node
    Ready. Known limits: the majority is never touched: with fewer than three control-plane nodes it is refused.
    """
    act = partial(_control_plane_loss, part=part, for_s=for_s)
    return carry_out("control_plane_loss", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _control_plane_loss(f: Fault, part: str, for_s: float) -> None:
    victim, masters = chosen(part, [(n.name, n.role) for n in f.world.cluster.target.nodes])
    if part == "etcd":
        f.arm("static_pod", node=victim, name="etcd")
    else:
        f.arm("container_start", container=victim)
    f.say("begin", part=part, for_s=for_s, victim=victim, control_planes=masters)
    if part == "etcd":
        script = 'mv "/etc/kubernetes/manifests/$1.yaml" "/kind/aside-$1.yaml"'
        run(["docker", "exec", victim, "sh", "-c", script, "sh", "etcd"], timeout_s=_DOCKER_S)
        f.until(lambda: not restore.static_pod_runs(victim, "etcd"), f"etcd on {victim} has stopped")
        f.say("evidence", node=victim, etcd_processes=0)
    else:
        run(["docker", "kill" if part == "node" else "pause", victim], timeout_s=_DOCKER_S)
        state = restore.container_state(victim)
        if state == "running":
            raise FaultFailed("still runs", where=victim)
        f.say("evidence", container=victim, state=state)
    f.hold(for_s)
    f.say("end")


def chosen(part: str, nodes: list[tuple[str, str]]) -> tuple[str, int]:
    """(container that is hit, number of control-plane nodes) for nodes given as (name, role).

    :raises FaultFailed: no such part. :raises NotSupported: the topology has no second control plane. :raises GuardRefused: the majority would go.
    """
    if part not in PARTS:
        raise FaultFailed(f"there is no part '{part}'", todo=f"one of {', '.join(PARTS)}")
    masters = sorted(name for name, role in nodes if role == "control-plane")
    if len(masters) < 2:
        raise NotSupported("the cluster has one control-plane node; the topology 'ha' has three")
    if len(masters) < MEMBERS_MIN:
        raise GuardRefused(f"of {len(masters)} control-plane nodes none may be lost without the majority")
    if part == "api-lb":
        return masters[0].rpartition("-control-plane")[0] + _LB, len(masters)
    return masters[-1], len(masters)

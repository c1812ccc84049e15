"""What a plan's faults may do at most: pods, nodes, minutes. Asked when the victims are chosen, and again right before each act.

Nodes are an opt-in of the plan (``nodes: {max: 1}``). The control plane and the last node that takes pods are never hit unless the plan says
so in words. What cannot be read is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.errors import GuardRefused
from harness.kube import guards
from harness.kube.client import Cluster
from harness.model.plan import FaultSpec, Plan
from harness.model.target import Target

#: Faults that take pods away.
KILLING = frozenset({"kill_pod", "container_kill", "attach_refused", "power_loss", "volume_readonly"})
#: Faults that strike the control plane, whatever component they are about.
CONTROL_PLANE = frozenset({"control_plane_loss"})
Hit = tuple[FaultSpec, Sequence[str]]


def check(plan: Plan, hits: Sequence[Hit], target: Target, *, node_kinds: Collection[str]) -> None:
    """Hold the faults of one arm, with their victims, against the plan's caps.

    :raises GuardRefused: more pods, nodes or minutes than the plan allows, or a node that it does not allow.
    """
    killed = sum(len(victims) for fault, victims in hits if fault.kind in KILLING)
    allowed = plan.budget.get("pods_killed", 0)
    if killed > allowed:
        raise GuardRefused(f"the faults would kill {killed} pods, the plan's budget allows {allowed:g}", where=plan.source)
    nodes = {victim for fault, victims in hits if fault.kind in node_kinds for victim in victims}
    if len(nodes) > plan.node_faults.max:
        what = f"the faults would hit {len(nodes)} nodes ({', '.join(sorted(nodes))}), the plan allows {plan.node_faults.max}"
        raise GuardRefused(what, where=plan.source, todo=f"'nodes: {{max: {len(nodes)}}}' in the plan, if you mean it")
    control = sorted(nodes & {n.name for n in target.nodes if n.role == "control-plane"})
    if control and not plan.node_faults.control_plane:
        raise GuardRefused(f"the control plane would be hit: {', '.join(control)}", where=plan.source, todo="'control_plane: true' under 'nodes'")
    if any(fault.kind in CONTROL_PLANE for fault, _ in hits) and not plan.node_faults.control_plane:
        raise GuardRefused("a part of the control plane would be taken away", where=plan.source, todo="'control_plane: true' under 'nodes'")
    longest = max((fault.deadline_s for fault, _ in hits), default=0.0)
    if longest > plan.budget.get("fault_minutes", float("inf")) * 60:
        raise GuardRefused(f"a fault may last {longest:g} s, the plan's budget allows {plan.budget['fault_minutes']:g} minutes", where=plan.source)


def check_now(cluster: Cluster, victims: Sequence[str], may: Collection[str]) -> None:
    """Right before nodes are hit: as the cluster is now, do enough stay?

    :raises GuardRefused: the control plane, or no node that takes pods would be left, or the nodes cannot be read.
    """
    guards.check_nodes_stay(cluster, victims, may)


"""Who is hit: chosen from the plan's seed, shown before, and passed to the actions by name.

The same seed and the same pods give the same victims, whichever arm or order. Candidates are taken in the order of their names, so a
StatefulSet's victims are the same pods in every arm.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.chaos import caps
from harness.errors import GuardRefused, NotSupported
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.model.component import Component
from harness.model.faults import KINDS
from harness.model.plan import FaultSpec, Plan
from harness.model.target import Target

#: Faults whose victims are nodes.
NODE_KINDS = frozenset(name for name, kind in KINDS.items() if kind.hits in ("nodes", "every node"))


@dataclass(frozen=True)
class Resolved:
    """One fault with its victims: pods, nodes or ``Kind/name`` of workloads."""

    fault: FaultSpec
    victims: tuple[str, ...]

    def line(self) -> str:
        """One line for a preview."""
        when = " and then ".join(f"{kind} = {value:g}" for kind, value in self.fault.when.items())
        return f"{self.fault.name}: {self.fault.kind} of {', '.join(self.victims)}, when {when}, over within {self.fault.deadline_s:g} s"


def faults_of(plan: Plan, arm: str) -> tuple[FaultSpec, ...]:
    """The faults that strike in ``arm``."""
    return tuple(f for f in plan.faults if not f.arms or arm in f.arms)


def resolve(plan: Plan, arm: str, cluster: Cluster, namespace: str, components: Mapping[str, Component]) -> tuple[Resolved, ...]:
    """Every fault of ``arm`` with its victims as the cluster is now.

    :raises GuardRefused: fewer candidates than wanted, the last schedulable node would be hit, or more than the plan's caps.
    :raises NotSupported: the target or the component cannot suffer this fault.
    """
    pods = cluster.pods(namespace)
    found = tuple(Resolved(f, victims(f, plan.seed, pods, cluster.target, components)) for f in faults_of(plan, arm))
    caps.check(plan, [(r.fault, r.victims) for r in found], cluster.target, node_kinds=NODE_KINDS)
    return found


def victims(
    fault: FaultSpec, seed: int, pods: Sequence[Pod], target: Target, components: Mapping[str, Component]
) -> tuple[str, ...]:
    """The names that ``fault`` hits. Raises as :func:`resolve` does."""
    name = str(fault.target["component"])
    component = components.get(name)
    _supported(fault, target, component)
    hits = KINDS[fault.kind].hits
    if hits == "workloads":
        return tuple(component.workloads) if component else ()
    if hits == "every node":
        return _every_node(fault, pods, target)
    workload = str(fault.target.get("workload", ""))
    if workload and component is not None and workload not in component.workloads:
        raise GuardRefused(f"{name} has no workload '{workload}', only {', '.join(component.workloads)}", where=fault.name)
    mine = [p for p in pods if p.component == name and p.ready and not p.deleting and workload in ("", workload_of(p))]
    if hits == "nodes":
        return _pick(fault, seed, _nodes(mine, target), int(fault.target.get("nodes", 1)))
    if fault.target.get("one_node"):
        mine = _on_one_node(fault, seed, mine)
    return _pick(fault, seed, sorted(p.name for p in mine), _wanted(fault, len(mine)))


def workload_of(pod: Pod) -> str:
    """``Kind/name`` of the workload that a pod belongs to; a Deployment's pods belong to its ReplicaSets. "" for a pod of its own."""
    owner: Mapping[str, str] = next(iter(pod.raw.get("metadata", {}).get("ownerReferences") or []), {})
    kind, name = str(owner.get("kind", "")), str(owner.get("name", ""))
    return f"Deployment/{name.rpartition('-')[0]}" if kind == "ReplicaSet" else f"{kind}/{name}" if kind else ""


def _supported(fault: FaultSpec, target: Target, component: Component | None) -> None:
    kind = KINDS[fault.kind]
    if target.kind not in kind.targets:
        raise NotSupported(f"{fault.kind} works on {' and '.join(kind.targets)} only, this is {target.kind}")
    if component is None:
        raise GuardRefused(f"there is no component '{fault.target['component']}'", where=fault.name)
    if kind.ability and kind.ability not in component.abilities:
        raise NotSupported(f"{component.name} cannot suffer '{kind.ability}'")


def _nodes(pods: Sequence[Pod], target: Target) -> list[str]:
    """Nodes that may be hit: those with a pod of the component, neither the control plane nor the edge, never all workers."""
    workers = {n.name for n in target.nodes if n.role == "worker"}
    found = sorted({p.node for p in pods if p.node in workers and p.node != target.edge.name})
    if found and len(workers - set(found)) < 1:
        raise GuardRefused("no worker would be left", where=", ".join(found))
    return found


def _every_node(fault: FaultSpec, pods: Sequence[Pod], target: Target) -> tuple[str, ...]:
    """All workers but the edge's, whose host ports can go nowhere else; those without a pod need no drain."""
    busy = {p.node for p in pods}
    found = tuple(sorted(n.name for n in target.nodes if n.role == "worker" and n.name != target.edge.name and n.name in busy))
    if not found or sum(n.role == "worker" for n in target.nodes) < 2:
        raise GuardRefused("no worker can be emptied: another one must take its pods", where=fault.name)
    return found


def _on_one_node(fault: FaultSpec, seed: int, pods: Sequence[Pod]) -> list[Pod]:
    """The pods of one node, among those that carry as many as are wanted."""
    count = {node: sum(p.node == node for p in pods) for node in {p.node for p in pods}}
    nodes = sorted(n for n, c in count.items() if c >= _wanted(fault, c))
    if not nodes:
        raise GuardRefused(f"no node carries as many pods as are to be hit: {count}", where=fault.name)
    node = random.Random(f"{seed}/{fault.name}/node").choice(nodes)
    return [p for p in pods if p.node == node]


def _wanted(fault: FaultSpec, candidates: int) -> int:
    share = fault.target.get("share")
    if share is None:
        return int(fault.target.get("pods", KINDS[fault.kind].pods))
    if not 0 < float(share) <= 1 or "pods" in fault.target:
        raise GuardRefused(f"a share lies above 0 and is at most 1, and stands instead of pods; this is {share}", where=fault.name)
    return max(1, round(float(share) * candidates))


def _pick(fault: FaultSpec, seed: int, candidates: Sequence[str], wanted: int) -> tuple[str, ...]:
    if wanted < 1 or len(candidates) < wanted:
        raise GuardRefused(f"{wanted} of {fault.target['component']} are to be hit, {len(candidates)} can be: {', '.join(candidates) or 'none'}",
                           where=fault.name)
    return tuple(sorted(random.Random(f"{seed}/{fault.name}").sample(list(candidates), wanted)))

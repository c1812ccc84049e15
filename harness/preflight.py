"""What a run would do, said before it is done; and the proof that nothing can leave.

``preflight`` deploys one small namespace for the proof and takes it down again. It sends no mail and injects no fault.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.chaos.targets import faults_of, resolve
from harness.dns.lab import prove_names
from harness.errors import NotReady, NotSupported
from harness.kube.client import Cluster
from harness.kube.objects import COMPONENT
from harness.model.faults import KINDS
from harness.model.plan import FaultSpec, Plan
from harness.model.target import Target
from harness.stack import isolation, lifecycle
from harness.stack.catalogue import components, deployed
from harness.stack.deployed import Stack
from harness.support.checkout import Checkout
from harness.support.progress import Progress

DISK_FREE_BYTES_MIN = 2 << 30
MEMORY_FREE_BYTES_MIN = 3 << 30


@dataclass(frozen=True)
class Preflight:
    """The answer of a preflight, ready to print."""

    target: str
    arms: tuple[str, ...]
    load: tuple[str, ...]
    faults: tuple[str, ...]
    limits: tuple[str, ...]
    caps: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = field(default=())

    def lines(self) -> Iterator[str]:
        """One line each, grouped under headings."""
        yield f"target  {self.target}"
        for title, items in (
            ("arms", self.arms), ("load", self.load), ("faults", self.faults), ("may at most", self.caps), ("limits", self.limits),
            ("proven", self.proofs), ("not supported here", self.unsupported),
        ):
            if items:
                yield title
                yield from (f"  {item}" for item in items)


def preflight(plan: Plan, target: Target, checkout: Checkout, progress: Progress) -> Preflight:
    """Check that ``plan`` can run on ``target`` and say what it would do there.

    :raises NotReady: nodes not ready, too little disk or memory, a component that cannot suffer what the plan asks for.
    :raises GuardRefused: the cluster is another one than the target's.
    """
    with progress.stage("preflight"):
        proofs = (*_resources(checkout), *_nodes(target))
        _abilities(plan, checkout)
    return Preflight(
        target=f"{target.kind} {target.name}: {len(target.nodes)} nodes, edge {target.edge.name} ({', '.join(target.edge.addresses)})",
        arms=tuple(f"{a.name}: {', '.join(a.variants)}{_expectation(a.expect_fail)}" for a in plan.arms),
        load=tuple(_load(plan)),
        faults=tuple(_fault(plan, f) for f in plan.faults) or ("none",), caps=tuple(_caps(plan)),
        limits=tuple(f"{c.name}: {', '.join(f'{k} = {v:g}' for k, v in c.limits.items()) or 'no limits'}" for c in plan.checks),
        proofs=proofs,
        unsupported=tuple(f"{k}: {v}" for k, v in target.unsupported.items()),
    )


def described(plan: Plan, order: Sequence[tuple[int, str]]) -> Iterator[str]:
    """What a run of ``plan`` would do, by its file alone, a line each. Nothing is touched or asked.

    :param order: (block, arm) in the order they would run.
    """
    yield f"plan  {plan.name}: {plan.question}"
    yield f"arms in order  {', '.join(f'{block}-{name}' for block, name in order)}"
    for title, items in (("load", _load(plan)), ("faults", [_fault(plan, f) for f in plan.faults] or ["none"]), ("may at most", _caps(plan))):
        yield title
        yield from (f"  {item}" for item in items)
    longest = sum(float(plan.load.params.get(k, 0)) for k in ("warmup_s", "tail_s", "watch_max_s")) + plan.load.intake_deadline_s
    yield f"durations  load at most {longest:g} s an arm, then settling {plan.load.settle_s:g} s at most"
    yield "nothing was touched"


def _caps(plan: Plan) -> Iterator[str]:
    yield f"pods killed: {plan.budget.get('pods_killed', 0):g} an arm; a fault lasts {plan.budget.get('fault_minutes', 0):g} minutes at most"
    yield f"nodes: {plan.node_faults.max} an arm{', '.join(['', *(f'{w} included' for w in plan.node_faults.may)])}"
    when = plan.stop_when
    stops = [f"an acknowledged mail unseen for {when.lost_after_s:g} s"] if when.lost_after_s else []
    stops += [f"less than {when.accepted_share_min:.1%} of {when.accepted_share_after} attempts accepted"] if when.accepted_share_min else []
    yield f"stopped by: {'; '.join([*stops, 'the budget', 'mailgale abort'])}"


def hits(plan: Plan, stack: Stack, checkout: Checkout) -> Iterator[str]:
    """Exactly which pods and nodes the faults of each arm would hit, as the stack is deployed now, and what their disruption budgets leave.

    Pods of a Deployment get new names with each deployment, and pods may come to other nodes; the rule and the seed stay.

    :raises GuardRefused: more than the plan's caps, or nothing to hit.
    """
    known, room = deployed(components(checkout), stack.workloads), _headroom(stack)
    for arm in plan.arms:
        try:
            found = resolve(plan, arm.name, stack.cluster, stack.namespace, known)
        except NotSupported as lacking:
            yield f"{arm.name}: not supported here: {lacking}"
            continue
        for one in found:
            component = str(one.fault.target.get("component", ""))
            yield f"{arm.name}: {one.line()}; {room.get(component, 'no disruption budget')}"


def _headroom(stack: Stack) -> dict[str, str]:
    """Component → what its PodDisruptionBudget allows now."""
    found: dict[str, str] = {}
    for budget in stack.cluster.items(f"/apis/policy/v1/namespaces/{stack.namespace}/poddisruptionbudgets")[0]:
        labels = budget["spec"].get("selector", {}).get("matchLabels", {})
        status = budget.get("status", {})
        told = f"disruption budget {budget['metadata']['name']} allows {status.get('disruptionsAllowed', 0)} ({status.get('currentHealthy', 0)} healthy, {status.get('desiredHealthy', 0)} needed)"
        found[str(labels.get(COMPONENT, ""))] = told
    return found


def prove_isolation(plan: Plan, target: Target, checkout: Checkout, progress: Progress) -> tuple[str, ...]:
    """Deploy the first arm's stack, prove that nothing can leave it, take it down again.

    :returns: sentences for :class:`Preflight`: the proof, and what the faults would hit in that stack.
    :raises GuardRefused: something can leave, or it cannot be proven (exit 7).
    """
    arm = plan.arms[0]
    namespace = checkout.namespace("preflight")
    try:
        stack = lifecycle.up(
            target, checkout, profile=plan.profile, variants=arm.variants, users=plan.users, time_scale=plan.time_scale,
            suffix="preflight", progress=progress,
        )
        prove_names(stack)
        proof = isolation.prove_nothing_leaves(stack, checkout, progress=progress)
        victims = tuple(f"would hit, {line}" for line in hits(plan, stack, checkout))
    finally:
        lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress)
    return (f"isolation: {proof.tried} tries from pods on {', '.join(proof.nodes)} reached nothing outside; the controls did", *victims)


def _expectation(checks: tuple[str, ...]) -> str:
    return f" (must fail: {', '.join(checks)})" if checks else ""


def _resources(checkout: Checkout) -> Iterator[str]:
    """Room for evidence and for the stack, or a refusal."""
    checkout.runs.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(checkout.runs).free
    if free < DISK_FREE_BYTES_MIN:
        raise NotReady(f"only {free >> 20} MiB of disk are free, {DISK_FREE_BYTES_MIN >> 20} MiB are needed", where=str(checkout.runs))
    yield f"disk: {free >> 30} GiB free for the record"
    memory = _memory_available()
    if memory < MEMORY_FREE_BYTES_MIN:
        raise NotReady(f"only {memory >> 20} MiB of memory are free, {MEMORY_FREE_BYTES_MIN >> 20} MiB are needed", where="this host")
    yield f"memory: {memory >> 30} GiB free"


def _memory_available(meminfo: Path = Path("/proc/meminfo")) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise NotReady("the free memory cannot be read", where=str(meminfo))


def _nodes(target: Target) -> Iterator[str]:
    """Every node is ready; on a cluster of others, where theirs is theirs to say, the edge and one more at least."""
    states = Cluster(target).nodes()
    bad = [n.name for n in states if not n.ready or not n.schedulable]
    if bad and (target.ours or target.edge.name in bad or not any(n.takes_pods for n in states)):
        raise NotReady(f"nodes not ready or cordoned: {', '.join(bad)}", where=target.name, todo="mailgale cluster status")
    left_out = f"; left out: {', '.join(bad)}" if bad else ""
    yield f"nodes: {len(states) - len(bad)} of {len(states)} ready and schedulable{left_out}"


def _abilities(plan: Plan, checkout: Checkout) -> None:
    known = components(checkout)
    for fault in plan.faults:
        need, component = KINDS[fault.kind].ability, known.get(str(fault.target.get("component", "")))
        if need and component is not None and need not in component.abilities:
            raise NotReady(f"the component '{component.name}' cannot suffer '{fault.kind}'", where=plan.source)


def _load(plan: Plan) -> Iterator[str]:
    what = f"scenario {plan.load.scenario}" if plan.load.kind == "mail" else f"{plan.load.kind} queries"
    where = f"{plan.load.workers} workers in the cluster" if plan.load.in_cluster else "from this host"
    yield f"{what} {where}, seed {plan.seed}, {plan.users} users, time scale {plan.time_scale:g}"
    for name, value in plan.load.params.items():
        yield f"{name} = {value}"
    for arm in plan.arms:
        yield from (f"{name} = {value} in {arm.name}" for name, value in arm.load_params.items())
    yield f"budget: {', '.join(f'{k} {v:g}' for k, v in plan.budget.items())}"


def _fault(plan: Plan, fault: FaultSpec) -> str:
    arms = [a.name for a in plan.arms if fault in faults_of(plan, a.name)]
    aim = ", ".join(f"{k}={v}" for k, v in {**fault.target, **fault.arguments}.items())
    when = ", ".join(f"{k}={v:g}" for k, v in fault.when.items())
    return f"{fault.name}: {fault.kind}({aim}) when {when}, over within {fault.deadline_s:g} s, in {', '.join(arms)}"

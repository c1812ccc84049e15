"""The plans as shipped can pass: what their checks need of the load is there, whatever the platform does, and their faults stay within their caps."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml

from harness.chaos import caps
from harness.chaos.targets import NODE_KINDS, faults_of
from harness.checks.availability import LIMITS
from harness.cli.catalogue import find_plan
from harness.errors import GuardRefused
from harness.model.faults import KINDS
from harness.model.plan import NodeFaults, Plan
from harness.model.target import Node, Target
from harness.support.checkout import Checkout

CHECKOUT = Checkout.find()
PLANS = sorted(p.stem for p in CHECKOUT.root.glob("experiments/*.yaml"))
#: Arrivals are Poisson: with 30 expected fewer than 20 come in 2 runs of 100, and more come after the fault.
SPARE = 1.5


def scarce(plan: Plan) -> list[str]:
    """Arms in which the fault begins before ordinary mail has made the operations that ``availability`` asks for outside of it."""
    check = next((c for c in plan.checks if c.name == "availability"), None)
    needed = SPARE * float((check.limits if check else LIMITS)["operations_min"] or 0)
    found = []
    for arm in plan.arms if check else ():
        params = plan.load_params(arm.name)
        timed = [f.when["at_s"] for f in faults_of(plan, arm.name) if "at_s" in f.when]
        if timed and min(timed) * float(params.get("steady_rate_per_s", 0)) < needed:
            found.append(arm.name)
    return found


def outlived(plan: Plan) -> list[str]:
    """Faults that would go on after the load, by their own arguments alone."""
    found = []
    for arm in plan.arms:
        params = plan.load_params(arm.name)
        lasts = float(params.get("burst_max_s", plan.load.intake_deadline_s)) + float(params.get("tail_s", 0))
        for f in faults_of(plan, arm.name):
            times, pause = float(f.arguments.get("times", 1)), float(f.arguments.get("pause_s", 0))
            long = float(f.arguments.get("for_s", 0)) * times + pause * (times - 1)
            if "at_s" in f.when and f.when["at_s"] + f.when.get("then_s", 0) + long > lasts:
                found.append(f"{arm.name}: {f.name}")
    return found


def replicas(component: str, variants: tuple[str, ...]) -> int:
    """Pods of the first workload of a component, with a variant ``mx-Nx``."""
    for variant in variants:
        if component == "mx" and (found := re.fullmatch(r"mx-(\d)x", variant)):
            return int(found[1])
    manifests = yaml.safe_load_all((CHECKOUT.root / "deploy" / "components" / component / "manifests.yaml").read_text())
    return next(int(m["spec"]["replicas"]) for m in manifests if m["kind"] in ("Deployment", "StatefulSet"))


def homeless(plan: Plan) -> list[str]:
    """Faults of nodes that may find none: the only pod that chooses them may be on the edge's node, which is never hit."""
    return [
        f"{arm.name}: {f.name}" for arm in plan.arms for f in faults_of(plan, arm.name)
        if KINDS[f.kind].hits == "nodes" and "mx-off-edge" not in arm.variants and replicas(str(f.target["component"]), arm.variants) < 2
    ]


def within_caps(plan: Plan, arm: str) -> None:
    """Hold the faults of an arm against the plan's caps, every fault on another victim."""
    hits = [(f, _victims(f.name, KINDS[f.kind].hits, int(f.target.get("pods", f.target.get("nodes", KINDS[f.kind].pods))))) for f in faults_of(plan, arm)]
    workers = tuple(Node(name, "worker", ("10.0.0.1",)) for _, victims in hits for name in victims)
    caps.check(plan, hits, Target("kind", "t", "/nowhere", "ctx", "uid", workers, (), (), ()), node_kinds=NODE_KINDS)


def _victims(fault: str, hits: str, count: int) -> tuple[str, ...]:
    """Names; of nodes no more than the topology has beside the edge's."""
    if hits in ("nodes", "every node"):
        return tuple(f"worker-{n}" for n in range(2 if hits == "every node" else count))
    return tuple(f"{fault}-{n}" for n in range(count))


@pytest.mark.parametrize("name", PLANS)
def test_ordinary_mail_is_asked_for_often_enough_before_a_fault(name: str):
    assert scarce(find_plan(CHECKOUT, name)) == []


@pytest.mark.parametrize("name", PLANS)
def test_a_load_lasts_as_long_as_the_faults_beside_it(name: str):
    assert outlived(find_plan(CHECKOUT, name)) == []


@pytest.mark.parametrize("name", PLANS)
def test_a_node_to_hit_is_always_found(name: str):
    assert homeless(find_plan(CHECKOUT, name)) == []


def test_a_component_whose_one_pod_may_be_on_the_edges_node_is_seen():
    plan = find_plan(CHECKOUT, "node-crash")
    alone = tuple(replace(f, target={**f.target, "component": "outbound"}) for f in plan.faults)
    assert homeless(replace(plan, faults=alone)) == ["wait: crash", "force-delete: crash-forced"]


@pytest.mark.parametrize("name", PLANS)
def test_the_faults_of_each_arm_stay_within_the_plans_caps(name: str):
    plan = find_plan(CHECKOUT, name)
    for arm in plan.arms:
        within_caps(plan, arm.name)


def test_a_fault_that_comes_too_early_is_seen():
    plan = find_plan(CHECKOUT, "noisy-neighbour")
    early = tuple(replace(f, when={"at_s": 4.0}) for f in plan.faults)
    assert scarce(replace(plan, faults=early)) == ["hog"]


def test_a_fault_that_outlives_its_load_is_seen():
    plan = find_plan(CHECKOUT, "probe-hang")
    late = tuple(replace(f, when={"at_s": 60.0}) for f in plan.faults)
    assert outlived(replace(plan, faults=late)) == ["lenient: hang", "strict: hang"]


@pytest.mark.parametrize(("name", "less"), [("lb-lag", {"budget": {}}), ("rolling-maintenance", {"node_faults": NodeFaults(max=1)})])
def test_a_plan_with_smaller_caps_than_its_faults_is_refused(name: str, less: dict[str, object]):
    plan = replace(find_plan(CHECKOUT, name), **less)  # type: ignore[arg-type]
    with pytest.raises(GuardRefused):
        within_caps(plan, plan.arms[0].name)

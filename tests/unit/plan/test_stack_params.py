"""A plan can set keys of run-params for its stack; they survive the way into a run and back."""

from __future__ import annotations

from harness.cli.catalogue import find_plan
from harness.store.plan_json import plan_from_json, plan_to_json
from harness.support.checkout import Checkout


def test_the_limit_of_the_burst_reaches_the_stack():
    plan = find_plan(Checkout.find(), "friday-burst")
    assert plan.stack_params["LIMIT_RATE"]
    assert plan_from_json(plan_to_json(plan)).stack_params == plan.stack_params

"""A control arm may have another load; it reaches the load engine's task and the checks, and survives the way into a run and back."""

from __future__ import annotations

from harness.cli.catalogue import find_plan
from harness.store.plan_json import plan_from_json, plan_to_json
from harness.support.checkout import Checkout

PLAN = find_plan(Checkout.find(), "friday-burst")


def test_the_control_is_below_saturation_and_the_main_arms_have_one_load():
    assert PLAN.load_params("control")["elastic_senders"] == 0
    assert all(PLAN.load_params(a.name) == PLAN.load.params for a in PLAN.arms if a.main)


def test_it_survives_json():
    assert plan_from_json(plan_to_json(PLAN)).load_params("control") == PLAN.load_params("control")

"""The order of arms is seeded and complete; unknown arms are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.chaos.targets import faults_of
from harness.cli.catalogue import find_plan
from harness.errors import UsageError
from harness.rehearse.order import Options, arms_in_order
from harness.support.checkout import Checkout

PLAN = find_plan(Checkout.find(), "friday-burst")


def test_the_same_seed_gives_the_same_order():
    assert arms_in_order(PLAN, Options(blocks=6)) == arms_in_order(PLAN, Options(blocks=6))


def test_blocks_differ_in_order_and_hold_every_arm_once():
    order = arms_in_order(PLAN, Options("all", 6))
    blocks = [[name for block, name in order if block == b] for b in range(1, 7)]
    assert all(sorted(b) == sorted(PLAN.arm_names) for b in blocks)
    assert len({tuple(b) for b in blocks}) > 1


def test_main_leaves_out_the_further_arms():
    assert sorted(n for _, n in arms_in_order(PLAN, Options())) == ["1x", "1x-limit", "2x", "2x-limit"]


@pytest.mark.parametrize("options", [Options("1y"), Options(","), Options(blocks=0)])
def test_what_cannot_be_run_is_refused(options: Options):
    with pytest.raises(UsageError):
        arms_in_order(PLAN, options)


def test_a_fault_without_arms_strikes_in_all():
    plan = find_plan(Checkout.find(), "mx-pod-kill")
    assert [f.name for f in faults_of(plan, "pvc-none-grace")] == ["stop-mx"]
    plan = replace(plan, faults=tuple(replace(f, arms=()) for f in plan.faults))
    assert [f.name for f in faults_of(plan, "pvc-none-grace")] == ["kill-mx", "stop-mx"]

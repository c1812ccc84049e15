"""A budget that is used up ends the run before the next arm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import BudgetExceeded
from harness.rehearse.budget import Allowance
from harness.selftest.friday import friday_plan

PLAN = replace(friday_plan(), budget={"minutes": 10.0, "mails": 500.0, "pods_killed": 0.0})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "mails"), [(599, 0), (0, 499), (599, 499)])
def test_within_the_budget_the_run_goes_on(seconds: float, mails: float):
    clock = Clock()
    allowance = Allowance(PLAN, 1, clock)
    clock.now = seconds
    allowance.spend(mails)
    allowance.check()


@pytest.mark.parametrize(("seconds", "mails", "named"), [(600, 0, "minutes"), (0, 500, "mails")])
def test_what_is_used_up_ends_it(seconds: float, mails: float, named: str):
    clock = Clock()
    allowance = Allowance(PLAN, 1, clock)
    clock.now = seconds
    allowance.spend(mails)
    with pytest.raises(BudgetExceeded, match=named) as caught:
        allowance.check()
    assert caught.value.exit_code == 9


def test_each_block_has_the_budget():
    clock = Clock()
    allowance = Allowance(PLAN, 6, clock)
    clock.now = 59 * 60
    allowance.spend(2999)
    allowance.check()


def test_a_plan_without_a_budget_is_not_stopped():
    Allowance(replace(PLAN, budget={}), 1).check()

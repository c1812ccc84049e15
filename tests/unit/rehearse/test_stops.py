"""What ends a run before its time: each reason by itself, at its limit and just short of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BudgetExceeded, GuardRefused, Interrupted, MailgaleError, StopCondition
from harness.model.plan import StopWhen
from harness.rehearse.budget import Allowance
from harness.rehearse.stops import Stops
from harness.selftest.friday import friday_arm, friday_plan
from harness.store.asking import ask_to_end, asked_to_end, mark_stopped
from harness.store.run import RunDir
from harness.store.sessions import reopen, unfinished

PLAN = replace(friday_plan(), budget={"minutes": 10.0, "mails": 500.0})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Lost:
    """A lease that another run has."""

    def check(self) -> None:
        raise GuardRefused("the cluster's lease is lost")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, PLAN, {}, plan_bytes=b"# a plan\n")


def stops(run: RunDir, when: StopWhen = StopWhen(), *, blocks: int = 1, clock: Clock | None = None) -> Stops:  # noqa: B008 - frozen
    return Stops(run, Allowance(PLAN, blocks, clock or Clock()), when)


def test_nothing_ends_a_run_that_nobody_wants_to_end(run: RunDir):
    one = stops(run, StopWhen(lost_after_s=30, accepted_share_min=0.9))
    one.asked()
    one.during({})
    one.during({"offered": 500, "accepted": 450, "deferred": 50, "awaited_oldest_s": 30.0})


def test_who_is_asked_ends_and_says_who_wanted_it(run: RunDir):
    ask_to_end(run, "the platform is needed")
    for ask in (stops(run).asked, lambda: stops(run).during({})):
        with pytest.raises(Interrupted, match="aborted: the platform is needed") as ended:
            ask()
        assert ended.value.exit_code == 2


def test_asking_again_changes_nothing(run: RunDir):
    first = ask_to_end(run, "first").read_bytes()
    assert ask_to_end(run, "second").read_bytes() == first


def test_a_file_that_does_not_read_asks_all_the_same(run: RunDir):
    ask_to_end(run, "x").write_bytes(b'{"why": "x", "by"')
    asked = asked_to_end(run)
    assert asked is not None
    assert "no reason" in asked.why


def test_a_later_session_is_not_ended_by_what_was_asked_of_an_earlier_one(run: RunDir):
    ask_to_end(run, "x")
    again, _ = reopen(run)
    assert asked_to_end(again) is None
    stops(again).asked()
    ask_to_end(again, "y")
    assert sorted(p.name for p in run.path.glob("abort-*")) == ["abort-1.json", "abort-2.json"]


def test_a_lost_lease_comes_before_everything(run: RunDir):
    ask_to_end(run, "x")
    one = stops(run)
    one.lease = Lost()  # type: ignore[assignment]
    with pytest.raises(GuardRefused, match="lease is lost"):
        one.during({})


@pytest.mark.parametrize(("seconds", "offered", "named"), [(601, 0, "minutes"), (0, 501, "mails")])
def test_the_budget_is_asked_while_an_arm_runs(run: RunDir, seconds: float, offered: int, named: str):
    clock = Clock()
    one = stops(run, clock=clock)
    clock.now = min(seconds, 600)
    one.during({"offered": min(offered, 500)})
    clock.now = seconds
    with pytest.raises(BudgetExceeded, match=named) as ended:
        one.during({"offered": offered})
    assert (ended.value.exit_code, isinstance(ended.value, StopCondition)) == (9, False)


def test_mails_of_earlier_arms_and_budgets_of_all_blocks_count(run: RunDir):
    one = stops(run, blocks=2)
    one.allowance.spend(700)
    one.during({"offered": 300})
    with pytest.raises(BudgetExceeded, match="1001 mails are used, and the budget is 1000 for 2 block"):
        one.during({"offered": 301})


MET: list[tuple[StopWhen, Mapping[str, Any], str]] = [
    (StopWhen(lost_after_s=30), {"awaited_oldest_s": 31.0}, "has not been seen in its mailbox for 31 s"),
    (StopWhen(accepted_share_min=0.9, accepted_share_after=100), {"accepted": 89, "deferred": 11}, r"89\.0% of 100 attempts"),
    (StopWhen(accepted_share_min=0.9, accepted_share_after=100), {"accepted": 89, "rejected": 11}, "the objective is 90"),
    (StopWhen(accepted_share_min=0.9, accepted_share_after=100), {"accepted": 89, "undetermined": 11}, "were accepted"),
]
NOT_MET: list[tuple[StopWhen, Mapping[str, Any]]] = [
    (StopWhen(lost_after_s=30), {"awaited_oldest_s": 30.0}), (StopWhen(), {"awaited_oldest_s": 9e9, "rejected": 400}),
    (StopWhen(accepted_share_min=0.9, accepted_share_after=100), {"accepted": 90, "deferred": 10}),
    (StopWhen(accepted_share_min=0.9, accepted_share_after=100), {"accepted": 0, "deferred": 99}),
]


@pytest.mark.parametrize(("when", "state", "said"), MET)
def test_a_stop_condition_that_holds_ends_the_run(run: RunDir, when: StopWhen, state: Mapping[str, Any], said: str):
    with pytest.raises(StopCondition, match=said) as ended:
        stops(run, when).during(state)
    assert ended.value.exit_code == 9


@pytest.mark.parametrize(("when", "state"), NOT_MET)
def test_one_that_does_not_hold_ends_nothing(run: RunDir, when: StopWhen, state: Mapping[str, Any]):
    stops(run, when).during(state)


def test_a_stopped_arm_is_run_again_however_whole_its_census(run: RunDir):
    for block, name in run.planned_arms:
        friday_arm(PLAN, name, block).write(run.arm(block, name))
    assert unfinished(run) == ()
    mark_stopped(run.arm(*run.planned_arms[0]), "aborted")
    assert unfinished(run) == run.planned_arms[:1]


def test_every_reason_has_a_class_that_the_conductor_knows():
    """run_load catches these two and no others; a new reason must be one of them, or end the run at once."""
    assert issubclass(StopCondition, BudgetExceeded)
    assert issubclass(Interrupted, MailgaleError)

"""The claims about faults decide as their pages say: confirmed, refuted, undecided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.claims import t01, t03, t06, t36
from harness.model.outcome import Outcome, Population, Stage
from harness.model.plan import Arm, FaultSpec
from harness.model.verdict import ClaimResult
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import friday_plan, plant_kill
from harness.store.history import load

UNDER = ClaimResult.CONFIRMED_UNDER_CONDITIONS


@pytest.fixture
def say(tmp_path: Path):
    """``say(claim, plan, spoil, logs, blocks=1)``: the finding after ``spoil(arm)`` of every arm; ``logs(arm name)`` is the log of its pod."""

    def run(claim, plan, spoil, logs=lambda name: "", blocks=1):
        b = HistoryBuilder(tmp_path, plan, blocks=blocks)
        for arm in b.arms:
            spoil(arm)
        run = b.write(seal=False)
        for arm in run.arm_dirs():
            arm.logs.mkdir(exist_ok=True)
            (arm.logs / "mx-0.postfix.log").write_text(logs(arm.name))
            (arm.logs / "outbound-0.postfix.log").write_text("prestop: waiting 1 s for the edge\n")
        with load(run) as history:
            return claim.find(history.arms, history.plan)

    return run


def break_sessions(arm: ArmBuilder, count: int) -> None:
    for number in range(250, 250 + count):
        arm.end_attempt(number, Outcome.FAIL, Stage.CONNECT, 0)
        arm.retry(number)


def lag_plan():
    arms = (Arm("short", ("mx-2x", "edge-lag-60")), Arm("long", ("mx-2x", "edge-lag-60", "prestop-wait-12")))
    fault = FaultSpec("kill-mx", "kill_pod", {"component": "mx"}, {}, {"at_s": 8}, 60)
    return replace(friday_plan(), arms=arms, faults=(fault,), time_scale=10, findings=("t03",))


def waits(name: str) -> str:
    return f"prestop: waiting {12 if name == 'long' else 3} s for the edge\n"


def stopped(short: int, long: int, *, killed=True):
    def spoil(arm: ArmBuilder) -> None:
        if killed:
            plant_kill(arm)
        arm.event("observe.log", "edge", 39, proxy="smtp", server="smtp-1", sessions=2, status="no check")
        arm.event("observe.log", "edge", 47, proxy="smtp", server="smtp-1", sessions=0, status="MAINT (resolution)")
        break_sessions(arm, short if arm.name == "short" else long)

    return spoil


@pytest.mark.parametrize(
    ("short", "long", "result"),
    [(3, 0, UNDER), (0, 0, ClaimResult.REFUTED), (3, 1, ClaimResult.REFUTED)],
)
def test_t03_goes_by_failed_sessions_on_both_sides_of_the_lag(say, short, long, result):
    found = say(t03, lag_plan(), stopped(short, long), waits)
    assert found.result == result
    assert (found.figures["short_failed"], found.figures["long_failed"]) == (short, long)
    assert found.figures["short_followed_s"] == pytest.approx(7.0)


def test_t03_is_undecided_without_a_pair_or_a_fault(say):
    assert say(t03, lag_plan(), stopped(3, 0), lambda name: "").result == ClaimResult.UNDECIDED
    assert say(t03, lag_plan(), stopped(3, 0, killed=False), waits).result == ClaimResult.UNDECIDED


def hit_plan(kind: str):
    fault = FaultSpec("kill-mx", kind, {"component": "mx"}, {}, {"at_s": 8}, 60, ("hit",))
    return replace(friday_plan(), arms=(Arm("calm", ("mx-1x",)), Arm("hit", ("mx-1x",))), faults=(fault,))


def slow(kind: str, by_s: float, *, edges=("begin", "evidence", "end", "undone")):
    def spoil(arm: ArmBuilder) -> None:
        if arm.name != "hit":
            return
        for n, edge in enumerate(edges):
            arm.event("faults.log", "fault", 40 + n, name="kill-mx", fault=kind, edge=edge, targets=["mx-0"], detail={"x": 1})
        for mail in arm.mails:
            if mail.population == Population.STEADY and mail.sight:
                mail.sight += by_s

    return spoil


def test_t03_is_undecided_when_a_pod_does_not_say_how_long_it_goes_on(say):
    """As it was once: the hook could not write to the pod's log, and every wait was taken for none."""
    found = say(t03, lag_plan(), stopped(3, 0), lambda name: "" if name == "long" else waits(name))
    assert found.result is ClaimResult.UNDECIDED


@pytest.mark.parametrize(("claim", "kind"), [(t06, "volume_stall"), (t36, "hog")])
def test_slowed_mail_confirms_from_one_block_on_and_needs_the_fault(say, claim, kind):
    assert say(claim, hit_plan(kind), slow(kind, 5.0)).result == UNDER
    assert say(claim, hit_plan(kind), slow(kind, 0.0)).result == ClaimResult.UNDECIDED
    assert "not shown" in say(claim, hit_plan(kind), slow(kind, 5.0, edges=("begin", "failed"))).reason
    assert "no pair" in say(claim, hit_plan("kill_pod"), slow(kind, 5.0)).reason


@pytest.mark.slow
def test_six_blocks_decide_by_the_interval(say):
    assert say(t36, hit_plan("hog"), slow("hog", 5.0), blocks=6).result == ClaimResult.CONFIRMED
    assert say(t36, hit_plan("hog"), slow("hog", 0.0), blocks=6).result == ClaimResult.REFUTED


def lost_part(broken: int, lost: int = 0):
    def spoil(arm: ArmBuilder) -> None:
        slow(t01.KIND, 0.0)(arm)
        if arm.name == "hit":
            for event in arm.of("faults.log", "fault"):
                event["t"] = event["t"] if event["edge"] == "begin" else event["t"] + 8_000_000_000
            break_sessions(arm, broken)
            for number in range(1, lost + 1):
                arm.lose(number)

    return spoil


@pytest.mark.parametrize(("broken", "lost", "result"), [(0, 0, UNDER), (60, 0, ClaimResult.REFUTED), (0, 1, ClaimResult.REFUTED)])
def test_t01_holds_when_nobody_noticed(say, broken, lost, result):
    assert say(t01, hit_plan(t01.KIND), lost_part(broken, lost)).result == result


def test_t01_is_undecided_without_the_fault(say):
    assert say(t01, hit_plan(t01.KIND), lambda arm: None).result == ClaimResult.UNDECIDED

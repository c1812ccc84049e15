"""The claims about stopped pods, drained, lost and hanging nodes decide as their pages say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.claims import node_loss, t17, t19, t38
from harness.model.outcome import Outcome, Stage
from harness.model.plan import Arm, FaultSpec
from harness.model.verdict import ClaimResult
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import friday_plan
from harness.store.history import load

UNDER, CONFIRMED, REFUTED, UNDECIDED = ClaimResult.CONFIRMED_UNDER_CONDITIONS, ClaimResult.CONFIRMED, ClaimResult.REFUTED, ClaimResult.UNDECIDED
EDGES = ("begin", "evidence", "end", "undone")


@pytest.fixture
def say(tmp_path: Path):
    """``say(claim, kind, **spoilt)``: the finding on two arms, ``with`` and ``without`` preStop, and a control that is not hit."""

    def run(claim, kind, spoil=lambda arm: None, edges=EDGES, end=None):
        arms = (Arm("calm", ("mx-1x",)), Arm("with", ("mx-1x",)), Arm("without", ("mx-1x", "no-prestop")))
        fault = FaultSpec("f", kind, {"component": "mx"}, {}, {"at_s": 8}, 60, ("with", "without"))
        b = HistoryBuilder(tmp_path, replace(friday_plan(), arms=arms, faults=(fault,)))
        for arm in b.arms:
            if arm.name != "calm":
                for n, edge in enumerate(edges):
                    detail = (end or (lambda name: {}))(arm.name) if edge == "end" else {"x": 1}
                    arm.event("faults.log", "fault", 30 + 8 * n, name="f", fault=kind, edge=edge, targets=["w"], detail=detail)
                spoil(arm)
        with load(b.write(seal=False)) as history:
            return claim.find(history.arms, history.plan)

    return run


def cut(arm: ArmBuilder, count: int) -> None:
    for number in range(250, 250 + count):
        arm.end_attempt(number, Outcome.FAIL, Stage.CONNECT, 0)
        arm.retry(number)


def broken(with_: int, without: int):
    return lambda arm: cut(arm, with_ if arm.name == "with" else without)


def test_t19_goes_by_the_sessions_that_broke(say):
    assert say(t19, "drain", broken(0, 40)).result == UNDER
    assert say(t19, "drain", broken(40, 40)).result == UNDECIDED
    assert say(t19, "drain", broken(33, 40)).result == UNDECIDED
    assert say(t19, "drain", broken(40, 0)).result == REFUTED


def test_t19_needs_both_arms_with_a_proven_fault(say):
    assert say(t19, "drain", broken(0, 40), edges=("begin", "evidence", "failed")).result == UNDECIDED
    assert say(t19, "drain", broken(0, 40), edges=("begin", "end", "undone")).result == UNDECIDED


def test_t38_holds_only_when_nobody_noticed(say):
    assert say(t38, "rolling_drain").result == CONFIRMED
    found = say(t38, "rolling_drain", broken(40, 40))
    assert (found.result, found.figures["with_lost"]) == (UNDER, 0)
    assert found.figures["with_smtp_broken"] > 0
    assert say(t38, "rolling_drain", lambda arm: arm.lose(1)).result == REFUTED


def test_t38_is_undecided_without_proof(say):
    assert say(t38, "drain").result == UNDECIDED
    assert say(t38, "rolling_drain", edges=("begin", "evidence", "end")).result == UNDECIDED


@pytest.mark.parametrize(
    ("with_", "without", "result"),
    [
        ({"unready_after_s": 20.0, "restarted_after_s": 60.0}, {"unready_after_s": 50.0}, CONFIRMED),
        ({"unready_after_s": 20.0, "restarted_after_s": 60.0}, {}, CONFIRMED),
        ({"restarted_after_s": 60.0}, {"restarted_after_s": 30.0}, UNDER),
        ({"unready_after_s": 20.0}, {"unready_after_s": 50.0}, UNDER),
        ({}, {}, REFUTED),
    ],
)
def test_t17_goes_by_what_the_probes_noticed(say, with_, without, result):
    assert say(t17, "freeze", end=lambda name: {"noticed": {"mx-0": with_ if name == "with" else without}}).result == result


def test_t17_needs_a_hang(say):
    assert say(t17, "kill_pod").result == UNDECIDED
    assert say(t17, "freeze", edges=("begin", "failed")).result == UNDECIDED


def test_a_lost_node_is_judged_by_its_mail_and_its_times_are_said(say):
    def end(name):
        return {"seen": {"not_ready": 50.5, **({"replaced": 70.0} if name == "with" else {})}}

    found = say(node_loss, "node_crash", end=end)
    assert (found.result, found.figures["with_replaced_s"], found.figures["without_not_ready_s"]) == (CONFIRMED, 70.0, 50.5)
    assert "nothing replaced it" in found.reason
    assert say(node_loss, "node_crash", lambda arm: arm.lose(1), end=end).result == REFUTED
    assert say(node_loss, "drain", end=end).result == UNDECIDED
    assert "did not notice" in say(node_loss, "node_pause").reason

"""Claims decide as their pages say; intervals as the textbook says."""

from __future__ import annotations

import importlib
import math
import pkgutil
from pathlib import Path

import pytest

from harness import claims as claims_package
from harness.claims import intake_control, rate_control, t14, t15
from harness.claims.stats import ratio_of, t_quantile
from harness.model.outcome import Deferral, Outcome, Stage
from harness.model.verdict import ClaimResult
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import limited_plan
from harness.store.history import load


@pytest.fixture
def say(tmp_path: Path):
    """``say(claim, spoil, blocks=1)``: the finding on the friday burst after ``spoil(builder)``."""

    def run(claim, spoil=lambda b: None, blocks: int = 1):
        b = HistoryBuilder(tmp_path, limited_plan(), blocks=blocks)
        spoil(b)
        with load(b.write()) as history:
            return claim.find(history.arms, history.plan)

    return run


@pytest.mark.parametrize(("df", "t"), [(1, 12.7062), (5, 2.5706), (30, 2.0423), (35, 2.0423), (50, 2.0211), (1000, 1.9799)])
def test_quantiles_of_t(df: int, t: float):
    assert t_quantile(df) == t


def test_an_interval_needs_six_blocks():
    assert ratio_of([(1.0, 2.0)] * 5).low is None
    six = ratio_of([(1.0, 2.0), (1.0, 2.2), (1.0, 1.8), (1.0, 2.0), (1.0, 2.1), (1.0, 1.9)])
    logs = [math.log(x) for x in (2.0, 2.2, 1.8, 2.0, 2.1, 1.9)]
    mean = sum(logs) / 6
    half = 2.5706 * math.sqrt(sum((x - mean) ** 2 for x in logs) / 5) / math.sqrt(6)
    assert six.low == pytest.approx(math.exp(mean - half))
    assert six.high == pytest.approx(math.exp(mean + half))


@pytest.mark.parametrize("pairs", [[], [(0.0, 1.0)], [(1.0, 0.0)]])
def test_there_is_no_ratio_of_nothing(pairs):
    assert ratio_of(pairs) is None


def slow_second_pod(b: HistoryBuilder) -> None:
    first = [a for a in b.arms if a.name == "1x"]
    for a in first:
        b.arms = [x for x in b.arms if not (x.name == "2x" and x.block == a.block)]
    from copy import deepcopy

    for a in first:
        twin = deepcopy(a)
        twin.name = "2x"
        b.arms.append(twin)


@pytest.mark.slow
def test_t15_without_effect(say):
    assert say(t15, slow_second_pod).result == ClaimResult.UNDECIDED
    assert say(t15, slow_second_pod, blocks=6).result == ClaimResult.REFUTED


@pytest.mark.parametrize("spoil", [
    lambda b: b.arm("1x").drop_events("observe.log", "throttle"),
    lambda b: b.arm("1x").drop_events("observe.log", "queue"),
    lambda b: [e.update(backlog_min=0) for e in b.arm("2x").of("load-1.log", "load_state")],
    lambda b: setattr(b, "arms", [a for a in b.arms if a.name != "2x"]),
])
def test_t15_without_its_measurements_is_undecided(say, spoil):
    assert say(t15, spoil).result == ClaimResult.UNDECIDED


def test_t14(say):
    assert say(t14).result == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    assert say(t14, lambda b: b.arm("2x").lose(5)).result == ClaimResult.REFUTED
    assert say(t14, lambda b: b.arm("2x").leave_queued(5)).result == ClaimResult.UNDECIDED


def test_rate_control(say):
    assert say(rate_control).result == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    assert say(rate_control, lambda b: b.arm("1x-limit").end_attempt(4, Outcome.FAIL, Stage.DOT, 550)).result == ClaimResult.REFUTED

    def never(b: HistoryBuilder):
        for m in b.arm("1x-limit").mails:
            m.attempts = [a for a in m.attempts if a.deferral == Deferral.NONE]

    assert say(rate_control, never).result == ClaimResult.UNDECIDED


def test_rate_control_is_not_refuted_by_a_load_that_was_cut_short(say):
    def cut(b: HistoryBuilder):
        arm = b.arm("1x-limit")
        arm.end_attempt(4, Outcome.FAIL, Stage.DOT, 451, Deferral.PLANNED_LIMIT)
        arm.of("load-1.log", "load_end")[0].update(reason="stopped")

    assert say(rate_control, cut).result == ClaimResult.UNDECIDED


def test_intake_control(say):
    assert say(intake_control).result == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    assert say(intake_control, lambda b: setattr(b, "arms", [a for a in b.arms if a.name != "control"])).result == ClaimResult.UNDECIDED

    def refuse(b: HistoryBuilder):
        for n in range(1, 200):
            b.arm("control").end_attempt(n, Outcome.FAIL, Stage.DOT, 451)

    assert say(intake_control, refuse).result == ClaimResult.REFUTED


def test_a_claim_has_one_name():
    """Two findings under one name were two answers to one question, and a table of claims could hold only one."""
    modules = (importlib.import_module(m.name) for m in pkgutil.iter_modules(claims_package.__path__, "harness.claims."))
    names = [str(m.CLAIM) for m in modules if hasattr(m, "CLAIM") and hasattr(m, "find")]
    assert len(names) > 10
    assert sorted(names) == sorted(set(names))

"""Every limit cuts exactly where it says: a figure that is at its limit is well, one that is a hair beyond it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.outcome import Deferral, Outcome, Population, Stage
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import limited_plan
from harness.store.history import load
from tests.checks.conftest import MODULES
from tests.checks.test_properties import KINDS

Spoil = Callable[[ArmBuilder], object]


def unlucky(a: ArmBuilder) -> None:
    """Mail deferred otherwise than by the limit."""
    for m in [m for m in a.mails if m.population is Population.ELASTIC][:40]:
        for t in m.attempts:
            if t.deferral:
                t.deferral = Deferral.SYSTEM


def doubt(a: ArmBuilder) -> None:
    for n in (9, 10):
        a.end_attempt(n, Outcome.INFO, Stage.DOT, 0)
        a.retry(n)
        a.duplicate(n)


def left(a: ArmBuilder) -> None:
    next(s for s in a.scopes if s["round"] == 2 and s["where"].startswith("mx-0:"))["found"] = 3


def each(act: Callable[[ArmBuilder, int], object], *numbers: int) -> Spoil:
    return lambda a: [act(a, n) for n in numbers]


def nothing(a: ArmBuilder) -> None:
    """As it is."""


#: (check, limit, the figure it is held against, what happened, arm).
UPPER: list[tuple[str, str, str, Spoil, str]] = [
    ("no-loss", "lost_max", "lost", each(lambda a, n: a.lose(n), 4, 5, 6), "1x"),
    ("no-unexplained-duplicates", "unexplained_max", "unexplained", each(lambda a, n: a.duplicate(n), 4, 5), "1x"),
    ("no-unexplained-duplicates", "explained_share_max", "explained_share", doubt, "1x"),
    ("queue-drained", "left_max", "left", left, "1x"),
    ("delivery-latency", "p99_ms_max", "p99_ms", nothing, "1x"), ("delivery-latency", "p50_ms_max", "p50_ms", nothing, "1x"),
    ("rate-control", "ordinary_p99_ms_max", "ordinary_p99_ms", nothing, "1x-limit"), ("rate-control", "client_mails_max", "client_mails", nothing, "1x-limit"),
    ("rate-control", "system_share_max", "system_share", unlucky, "1x-limit"),
    ("rate-control", "late_max", "late", each(lambda a, n: a.end_attempt(n, Outcome.FAIL, Stage.DOT, 451, Deferral.PLANNED_LIMIT), 4, 5), "1x-limit"),
    ("load-was-real", "lag_p99_ms_max", "lag_p99_ms", nothing, "1x"), ("load-was-real", "host_cpu_p95_max", "host_cpu_p95", nothing, "1x"),
    ("evidence-complete", "gap_s_max", "host_gap_s", nothing, "1x"),
    *[("integrity", f"{kind}_max", kind, each(act, 4, 5), "1x") for kind, act in KINDS.items()],
]
LOWER: list[tuple[str, str, str, Spoil, str]] = [
    ("delivery-latency", "mails_min", "mails", nothing, "1x"), ("load-was-real", "attempts_min", "attempts", nothing, "1x"),
    ("load-was-real", "throttled_share_min", "throttled_share", nothing, "1x"),
]


def verdicts(root: Path, check: str, spoil: Spoil, arm: str, limit: str, figure: str, sense: int) -> tuple[Status, Status]:
    """With the limit at the figure, and a hair beyond."""
    b = HistoryBuilder(root, limited_plan(), arms=[arm])
    spoil(b.arms[0])
    module = MODULES[check]
    with load(b.write()) as history:
        def judged(value: float) -> tuple[Status, float]:
            given = {k: v for k, v in {**module.LIMITS, "p99_ms_max": 60000.0, limit: value}.items() if k in module.LIMITS and v is not None}
            found = module.check(history.arms[0], given)
            return found.status, found.figures[figure]

        value = judged(0.0 if sense < 0 else 1e9)[1]
        assert value > 0, "the figure is nothing, so its limit is not tried"
        hair = value * 1e-5
        exact = value % 1 == 0  # others may have been rounded to six digits
        return judged(value if exact else value + sense * 1e-6)[0], judged(value - sense * hair)[0]


@pytest.mark.parametrize(("check", "limit", "figure", "spoil", "arm"), UPPER, ids=[f"{c}-{name}" for c, name, *_ in UPPER])
def test_no_more_than(tmp_path: Path, check: str, limit: str, figure: str, spoil: Spoil, arm: str):
    at, beyond = verdicts(tmp_path, check, spoil, arm, limit, figure, 1)
    assert at == Status.PASS
    assert beyond != Status.PASS


@pytest.mark.parametrize(("check", "limit", "figure", "spoil", "arm"), LOWER, ids=[f"{c}-{name}" for c, name, *_ in LOWER])
def test_no_less_than(tmp_path: Path, check: str, limit: str, figure: str, spoil: Spoil, arm: str):
    at, beyond = verdicts(tmp_path, check, spoil, arm, limit, figure, -1)
    assert (at, beyond) == (Status.PASS, Status.INCONCLUSIVE)

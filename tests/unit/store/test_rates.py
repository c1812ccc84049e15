"""Intake while there is backlog; goodput until the whole burst is in mailboxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import GOODPUT
from harness.store.history import SECOND, load
from harness.store.rates import Rates, delivery_span, rates

Spoil = Callable[[ArmBuilder], None]


def measured(tmp_path: Path, spoil: Spoil = lambda a: None, arm: str = "1x") -> Rates | None:
    builder = HistoryBuilder(tmp_path)
    spoil(builder.arm(arm))
    with load(builder.write()) as history:
        return rates(next(a for a in history.arms if a.name == arm))


@pytest.mark.parametrize(("arm", "intake"), [("1x", 20), ("2x", 40)])
def test_intake_follows_the_pods_and_goodput_the_mailboxes(tmp_path: Path, arm: str, intake: float):
    found = measured(tmp_path, arm=arm)
    assert found is not None
    assert found.intake_per_s == pytest.approx(intake, rel=0.1)
    assert found.goodput_per_s == pytest.approx(GOODPUT, rel=0.15)
    assert found.delivered_s is not None
    assert found.delivered_s > found.window.seconds


def stuck(a: ArmBuilder) -> None:
    """The queue never gets empty."""
    for e in a.of("observe.log", "queue"):
        if e["component"] == "mx":
            e["active"] = max(e["active"], 60)


@pytest.mark.parametrize("spoil", [stuck, lambda a: a.drop_events("observe.log", "queue")])
def test_there_is_no_goodput_of_a_burst_that_nobody_saw_delivered(tmp_path: Path, spoil: Spoil):
    found = measured(tmp_path, spoil)
    assert found is not None
    assert (found.goodput_per_s, found.delivered_s) == (None, None)


def test_a_queue_that_never_grew_counts_from_the_last_acknowledgement(tmp_path: Path):
    def empty(a: ArmBuilder) -> None:
        for e in a.of("observe.log", "queue"):
            e.update(incoming=0, active=0, deferred=0)

    builder = HistoryBuilder(tmp_path)
    empty(builder.arm("1x"))
    with load(builder.write()) as history:
        arm = next(a for a in history.arms if a.name == "1x")
        span, burst = delivery_span(arm), arm.load_phase("burst")
        assert span is not None
        assert burst is not None
        assert abs(span.end - burst.end) < 3 * SECOND

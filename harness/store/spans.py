"""The judged stretch of time, and quantiles by nearest rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.model.outcome import Population
from harness.store.history import SECOND, ArmHistory, Span

#: Mail of the population that must not suffer from the burst.
ORDINARY = int(Population.STEADY)


def load_span(arm: ArmHistory) -> Span | None:
    """The load without its warm-up: from the burst's begin to the end of the conductor's phase, or to the begin of the watch; None when there was none."""
    span, phase, watch = arm.judged, arm.phase("load"), arm.load_phase("watch")
    if span and watch:
        return Span(span.begin, watch.begin)
    return Span(span.begin, max(span.end, phase[1]) if phase else span.end + SECOND) if span else None


def lag_p99_ms(arm: ArmHistory, span: Span) -> float | None:
    """p95 over the seconds of ``span`` of the schedule lag's p99; None when the generator did not say."""
    lags = [float(e["lag_p99_ms"]) for e in arm.events("load_state") if span.begin <= e["t"] <= span.end and e.get("lag_p99_ms") is not None]
    return nearest_rank(lags, 0.95) if lags else None


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The ``share`` quantile by nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan

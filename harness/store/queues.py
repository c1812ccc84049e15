"""Queue depth over time, from the samplers: the sum over all pods at each sample."""

from __future__ import annotations

from harness.store.history import SECOND, ArmHistory
from harness.store.spans import load_span

_MOVING = ("incoming", "active", "deferred")
_ALL = (*_MOVING, "hold", "corrupt")


def depth(arm: ArmHistory, component: str = "") -> list[tuple[int, int]]:
    """(t, queue files) after each sample: the sum of every pod's latest; "" = all components."""
    latest: dict[str, int] = {}
    series = []
    for e in arm.events("queue"):
        if not component or e.get("component") == component:
            latest[str(e.get("pod"))] = sum(int(e.get(q) or 0) for q in _ALL)
            series.append((int(e["t"]), sum(latest.values())))
    return series


def depth_at(series: list[tuple[int, int]], t: int, tolerance_s: float = 5.0) -> int | None:
    """The depth at ``t``, between the samples around it; None when there is none within ``tolerance_s`` on either side."""
    before = [p for p in series if p[0] <= t][-1:]
    after = [p for p in series if p[0] > t][:1]
    near = [p for p in (*before, *after) if abs(p[0] - t) <= tolerance_s * SECOND]
    if len(near) == 2:
        (t0, n0), (t1, n1) = near
        return round(n0 + (n1 - n0) * (t - t0) / (t1 - t0))
    return near[0][1] if near else None


def drain_s(arm: ArmHistory) -> float | None:
    """Seconds from the end of the load until all moving queues were empty for good; None when that was not sampled."""
    span, latest, empty_since = load_span(arm), dict[str, int](), None
    for e in arm.events("queue"):
        latest[str(e.get("pod"))] = sum(int(e.get(q) or 0) for q in _MOVING)
        if sum(latest.values()):
            empty_since = None
        elif empty_since is None:
            empty_since = int(e["t"])
    if span is None or empty_since is None:
        return None
    return max(0.0, (empty_since - span.end) / SECOND)


def oldest_s(arm: ArmHistory) -> float | None:
    """The highest age of a queued mail that was sampled, in seconds."""
    ages = [float(e["oldest_s"]) for e in arm.events("queue") if e.get("oldest_s") is not None]
    return max(ages, default=None)

"""How much of the burst the pods of a component spent throttled by their CPU limit."""

from __future__ import annotations

from harness.store.history import SECOND, ArmHistory

_SLACK_S = 3


def throttled_share(arm: ArmHistory, component: str) -> float | None:
    """Throttled CFS periods per period of all pods of ``component`` during the burst; None when it was not sampled.

    Counters start again with a new container: the difference is summed between neighbouring samples and never negative.
    Source: cgroup cpu.stat, nr_periods and nr_throttled.
    """
    span = arm.load_phase("burst")
    if span is None:
        return None
    periods = throttled = 0
    last: dict[str, tuple[int, int]] = {}
    for e in arm.events("throttle"):
        if e.get("component") != component or not span.begin - _SLACK_S * SECOND <= e["t"] <= span.end + _SLACK_S * SECOND:
            continue
        pod, now = str(e.get("pod")), (int(e.get("periods") or 0), int(e.get("throttled") or 0))
        before = last.get(pod)
        last[pod] = now
        if before and now[0] >= before[0]:
            periods += now[0] - before[0]
            throttled += max(0, now[1] - before[1])
    return throttled / periods if periods else None

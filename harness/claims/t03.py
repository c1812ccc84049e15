"""T03: the load balancer follows pods late, and a pod that stops before it was forgotten breaks sessions.

Looks at the arms with an edge that lags (variants ``edge-lag-N``) in which a pod was taken away. The pod's own log says how long it went on after it
was told to stop. *Confirmed under conditions* (n and the time scale are printed; *confirmed* from 6 blocks on): every arm whose pod waited shorter than
the lag had failed sessions, and every arm whose pod waited as long had none. *Refuted*: one of them did not. Undecided: there is not at least one arm of each
kind, or no pod was seen to leave. The time from the fault to the edge's pool without the pod is printed as measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.claims.stats import BLOCKS_MIN
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.broken import broken
from harness.store.history import SECOND, ArmHistory
from harness.store.podlogs import matches
from harness.store.spans import load_span

CLAIM = "T03"
_LAG = re.compile(r"edge-lag-(\d+)\Z")
_WAITS = re.compile(rb"prestop: waiting (\d+) s for the edge")
_IN_POOL = "no check"  # HAProxy's word for a server that takes sessions and is not checked


@dataclass(frozen=True)
class _Seen:
    """One arm: lag and wait in seconds, failed SMTP sessions, and when the pool was seen to change (None = never)."""

    arm: str
    lag_s: float
    wait_s: float
    failed: int
    followed_s: float | None

    @property
    def short(self) -> bool:
        return self.wait_s < self.lag_s


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T03."""
    seen = [s for a in arms if (s := _seen(a, plan.time_scale)) is not None]
    short, long = [s for s in seen if s.short], [s for s in seen if not s.short]
    figures = {f"{s.arm}_failed": float(s.failed) for s in seen}
    figures |= {f"{s.arm}_followed_s": round(s.followed_s, 2) for s in seen if s.followed_s is not None}
    if not short or not long:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "there is no pair of arms that waited shorter and longer than the edge's lag", figures)
    told = "; ".join(_told(s) for s in seen)
    blocks = len({a.block for a in arms})
    if all(s.failed for s in short) and not any(s.failed for s in long):
        result = ClaimResult.CONFIRMED if blocks >= BLOCKS_MIN else ClaimResult.CONFIRMED_UNDER_CONDITIONS
        return Finding(CLAIM, result, told, figures, f"n={blocks} of {BLOCKS_MIN} blocks; times are divided by {plan.time_scale:g}")
    return Finding(CLAIM, ClaimResult.REFUTED, told, figures)


def _told(s: _Seen) -> str:
    followed = f", pool seen to follow after {s.followed_s:.0f} s" if s.followed_s is not None else ""
    return f"{s.arm}: {s.failed} failed sessions with a lag of {s.lag_s:g} s and a wait of {s.wait_s:g} s{followed}"


def _seen(arm: ArmHistory, time_scale: float) -> _Seen | None:
    """None for an arm without a lag, in which no pod was shown to leave, or whose pod did not say how long it goes on."""
    lag = next((m for v in arm.plan_arm.variants if (m := _LAG.match(v))), None)
    span, begun = load_span(arm), [e for e in arm.events("fault") if e.get("edge") == "begin"]
    shown = any(e.get("edge") == "evidence" for e in arm.events("fault"))
    if lag is None or span is None or not begun or not shown:
        return None
    waits = [int(w) for w in matches(arm.dir, _WAITS, {str(t) for t in begun[0].get("targets") or ()})]
    if not waits:
        return None
    failed = sum(len(b.times) for b in broken(arm, span) if b.proto == "smtp")
    begin = int(begun[0]["t"])
    return _Seen(arm.label, int(lag[1]) / time_scale, float(min(waits)), failed, _followed_s(arm, begin))


def _followed_s(arm: ArmHistory, begin: int) -> float | None:
    """Seconds from the fault until a server of the SMTP pool was first seen out of it; as fine as the edge was sampled."""
    pool = [e for e in arm.events("edge") if e.get("proxy") == "smtp"]
    members = {e.get("server") for e in pool if e["t"] <= begin and e.get("status") == _IN_POOL}
    out = (int(e["t"]) for e in pool if e["t"] > begin and e.get("server") in members and e.get("status") != _IN_POOL)
    return next(((t - begin) / SECOND for t in out), None)

"""How fast a burst came in and how fast it reached mailboxes.

*Intake*: mails of the elastic senders, acknowledged for the first time, per second, while every one of them still had more to send: from one
second after the first to the last ``load_state`` of the burst in which the smallest backlog was above 0.

*Goodput*: mails handed on to mailboxes per second, from the burst's begin until its last mail had left the queues: the time that users waited
for all of it. A rate during intake only would speak of the pod's own scheduling, since intake and delivery share its CPU.

Limits: a mail counts as handed on once it has left the mx queue for all its recipients, bounces included; the queues hold ordinary mail too, so the
burst counts as delivered when they are down to 5 % of their deepest, or to 5 mails; depth between two samples is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.model.outcome import MailFlag, Outcome, Population, Proto
from harness.store.history import SECOND, ArmHistory, Event, Span
from harness.store.queues import depth, depth_at

WINDOW_S_MIN = 4.0
_RAMP_NS = SECOND
_DRAINED_SHARE, _DRAINED_MAILS = 0.05, 5
_INBOUND = f"d.outcome = {int(Outcome.OK)} AND d.proto = {int(Proto.SMTP)} AND o.flags & {int(MailFlag.TO_INTERNET)} = 0"


@dataclass(frozen=True)
class Rates:
    """Intake over ``window``; goodput from the burst's begin over ``delivered_s``. Both None where the queues were not seen to empty."""

    window: Span
    intake_per_s: float
    goodput_per_s: float | None
    delivered_s: float | None


def backlog_window(arm: ArmHistory) -> Span | None:
    """The stretch of the burst in which every elastic sender of every engine had backlog; None when shorter than WINDOW_S_MIN."""
    spans = [_backlogged(states) for states in arm.load_states().values() if any(int(e.get("backlog_total") or 0) for e in states)]
    if not spans or None in spans:
        return None
    whole = [s for s in spans if s is not None]
    window = Span(max(s.begin for s in whole) + _RAMP_NS, min(s.end for s in whole))
    return window if window.seconds >= WINDOW_S_MIN else None


def _backlogged(states: Sequence[Event]) -> Span | None:
    """From the first to the last state of one engine's burst in which each of its senders still had more to send."""
    times = [e["t"] for e in states if e.get("phase") == "burst" and int(e.get("backlog_min") or 0) > 0]
    return Span(min(times), max(times)) if times else None


def rates(arm: ArmHistory) -> Rates | None:
    """Intake and goodput of ``arm``; None when no window is long enough."""
    window = backlog_window(arm)
    if window is None:
        return None
    arm.fates()
    taken = arm.one(
        "SELECT count(*) FROM (SELECT d.mail, min(d.t) AS t FROM dones d JOIN offered o USING (mail, rcpt)"
        f" WHERE {_INBOUND} AND o.population = {int(Population.ELASTIC)} GROUP BY d.mail) WHERE t > ? AND t <= ?",
        [window.begin, window.end],
    )
    delivered = delivery_span(arm)
    return Rates(window, int(taken) / window.seconds, _goodput(arm, delivered), delivered.seconds if delivered else None)


def delivery_span(arm: ArmHistory) -> Span | None:
    """From the burst's begin until its last mail had left the mx queues; None when nobody saw that."""
    burst, last = arm.load_phase("burst"), _last_acknowledged(arm)
    series = depth(arm, "mx")
    if burst is None or last is None or not series:
        return None
    low = max(_DRAINED_MAILS, _DRAINED_SHARE * max(n for _, n in series))
    before = depth_at(series, last)
    if before is not None and before <= low:
        return Span(burst.begin, last)
    for (t0, n0), (t1, n1) in pairwise(series):
        if t1 > last and n1 <= low:
            crossed = t0 + (t1 - t0) * (n0 - low) / (n0 - n1) if n0 > n1 else t1
            return Span(burst.begin, max(last, int(crossed)))
    return None


def _last_acknowledged(arm: ArmHistory) -> int | None:
    """When the last mail of an elastic sender was acknowledged for the first time."""
    arm.fates()
    found = arm.one(
        "SELECT max(t) FROM (SELECT min(d.t) AS t FROM dones d JOIN offered o USING (mail, rcpt)"
        f" WHERE {_INBOUND} AND o.population = {int(Population.ELASTIC)} GROUP BY d.mail)"
    )
    return None if found is None else int(found)


def _goodput(arm: ArmHistory, span: Span | None) -> float | None:
    done = [_handed_on(arm, t) for t in (span.begin, span.end)] if span else [None]
    first, last = done[0], done[-1]
    return (last - first) / span.seconds if span and span.seconds and first is not None and last is not None else None


def _handed_on(arm: ArmHistory, t: int) -> int | None:
    """Mails that had been acknowledged and were in no mx queue any more at ``t``."""
    queued = depth_at(depth(arm, "mx"), t)
    if queued is None:
        return None
    acknowledged = arm.one(f"SELECT count(DISTINCT d.mail) FROM dones d JOIN offered o USING (mail, rcpt) WHERE {_INBOUND} AND d.t <= ?", [t])
    return int(acknowledged) - queued

"""How fast mail came in and how fast it reached mailboxes, while every outside sender still had more to send.

*Intake*: mails of the elastic senders, acknowledged for the first time, per second. *Goodput*: mails that the mx pods have handed on, per
second: acknowledged mails less queue files, at the window's end less at its begin. Both over the same window: from one second after the first
to the last ``load_state`` of the burst in which the smallest backlog was above 0. Limits: goodput counts a mail once it has left the mx queue
for all its recipients, bounces included; queue depth between two samples is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.outcome import MailFlag, Outcome, Population, Proto
from harness.store.history import SECOND, ArmHistory, Span
from harness.store.queues import depth, depth_at

WINDOW_S_MIN = 4.0
_RAMP_NS = SECOND
_INBOUND = f"d.outcome = {int(Outcome.OK)} AND d.proto = {int(Proto.SMTP)} AND o.flags & {int(MailFlag.TO_INTERNET)} = 0"


@dataclass(frozen=True)
class Rates:
    """Rates over ``window``; ``goodput_per_s`` is None where the queues were not sampled around it."""

    window: Span
    intake_per_s: float
    goodput_per_s: float | None


def backlog_window(arm: ArmHistory) -> Span | None:
    """The stretch of the burst in which every elastic sender had backlog; None when shorter than WINDOW_S_MIN."""
    times = [e["t"] for e in arm.events("load_state") if e.get("phase") == "burst" and int(e.get("backlog_min") or 0) > 0]
    if not times:
        return None
    window = Span(min(times) + _RAMP_NS, max(times))
    return window if window.seconds >= WINDOW_S_MIN else None


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
    done = [_handed_on(arm, t) for t in (window.begin, window.end)]
    goodput = (done[1] - done[0]) / window.seconds if done[0] is not None and done[1] is not None else None
    return Rates(window, int(taken) / window.seconds, goodput)


def _handed_on(arm: ArmHistory, t: int) -> int | None:
    """Mails that had been acknowledged and were in no mx queue any more at ``t``."""
    queued = depth_at(depth(arm, "mx"), t)
    if queued is None:
        return None
    acknowledged = arm.one(f"SELECT count(DISTINCT d.mail) FROM dones d JOIN offered o USING (mail, rcpt) WHERE {_INBOUND} AND d.t <= ?", [t])
    return int(acknowledged) - queued

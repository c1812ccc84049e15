"""How long ordinary mail took from the time it was due to its first sight, with what was never seen counted against it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.store.history import ArmHistory
from harness.store.spans import ORDINARY, load_span, nearest_rank


@dataclass(frozen=True)
class Latency:
    """Ordinary mail of the judged stretch, per recipient.

    :param unseen: never sighted; they count as late by the whole time until the census, at least.
    :param watched: sightings there were at all; 0 means that nobody looked.
    """

    mails: int
    unseen: int
    watched: int
    p50_ms: float
    p99_ms: float


def ordinary_latency(arm: ArmHistory) -> Latency | None:
    """The latencies of ordinary mail due in burst and tail, by nearest rank; None when there was no load or no such mail."""
    span = load_span(arm)
    if span is None:
        return None
    census = arm.phase("census")
    until = census[0] if census else span.end
    arm.fates()
    rows = arm.sql(
        "SELECT coalesce(f.t_seen, greatest(?, f.t_due)) - f.t_due, f.t_seen IS NOT NULL FROM fates f"
        f" WHERE f.population = {ORDINARY} AND f.state <> 'not_counted' AND f.t_due BETWEEN ? AND ? AND f.rcpt IN"
        " (SELECT r.rcpt FROM recipients r WHERE r.address IN (SELECT split_part(mailbox, '/', 1) FROM sights) OR NOT EXISTS (SELECT 1 FROM sights))",
        [until, span.begin, span.end],
    )
    if not rows:
        return None
    values = [int(late) / 1e6 for late, _ in rows]
    seen = sum(1 for _, was in rows if was)
    return Latency(len(rows), len(rows) - seen, seen, nearest_rank(values, 0.5), nearest_rank(values, 0.99))

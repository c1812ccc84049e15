"""Ordinary mail reaches its mailbox in time.

Latency runs from the time a mail was *due* (so a stalled sender hides nothing) to its first sight in a watched mailbox. Mail that was never
seen counts as late by all the time until the census. Only mail due in burst and tail to mailboxes that were watched is judged.

Limits: ``p99_ms_max`` milliseconds (a plan must give it); ``p50_ms_max`` (0 = none); ``mails_min``: with fewer mails INCONCLUSIVE.
Known limits: seen through IDLE, so a mailbox's own notification delay is part of it; nearest rank, no interval within one run.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency

LIMITS: dict[str, float | None] = {"p99_ms_max": None, "p50_ms_max": 0, "mails_min": 20}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL above a limit; INCONCLUSIVE with too few mails or when nobody watched."""
    found = ordinary_latency(arm)
    if found is None or not found.watched:
        return verdict(arm, "delivery-latency", Status.INCONCLUSIVE, "no ordinary mail was seen arriving, so there is no latency")
    problems = []
    for name, value in (("p50", found.p50_ms), ("p99", found.p99_ms)):
        limit = limits[f"{name}_ms_max"]
        if limit and value > limit:
            problems.append((Status.FAIL, f"{name} of ordinary mail {value / 1000:.2f} s, limit {limit / 1000:.2f} s"))
    if found.mails < limits["mails_min"]:
        problems.append((Status.INCONCLUSIVE, f"only {found.mails} ordinary mails, {limits['mails_min']:.0f} are needed"))
    well = f"ordinary mail p50 {found.p50_ms / 1000:.2f} s, p99 {found.p99_ms / 1000:.2f} s over {found.mails} mails"
    status, reason = worst_of(as_far_as_known(arm, problems), well)
    figures = {"mails": found.mails, "unseen": found.unseen, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
    return verdict(arm, "delivery-latency", status, reason, figures)

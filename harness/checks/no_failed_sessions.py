"""No session fails: whoever connects gets an answer, also while pods are restarted (T03, T16, T19).

A session fails when it is refused, cut, or closed with 421 before it is done; a mail may well be sent again, but a user sees an error. Any other
reply, a 4xx as well, is an answer. Judged from the burst's begin to the end of the load, warm-up left out.

Limits: ``failed_max`` sessions or operations in each protocol; ``operations_min`` in each protocol that was used, with fewer INCONCLUSIVE. Known
limits: an attempt of a mail counts as a session, also where a connection carries several.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, faults_begun, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.broken import Broken, broken
from harness.store.history import SECOND, ArmHistory
from harness.store.spans import load_span

LIMITS: dict[str, float | None] = {"failed_max": 0, "operations_min": 20}
_SHOWN = 10


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL above the limit, with when it was; INCONCLUSIVE when hardly anybody asked."""
    span = load_span(arm)
    if span is None:
        return verdict(arm, "no-failed-sessions", Status.INCONCLUSIVE, "there was no load, so no session")
    found = broken(arm, span)
    figures = {f"{b.proto}_{k}": float(v) for b in found for k, v in (("sessions", b.count), ("failed", len(b.times)))}
    problems = [(Status.FAIL, f"{plural(len(b.times), b.proto + ' session')} of {b.count} failed") for b in found if len(b.times) > limits["failed_max"]]
    problems += [
        (Status.INCONCLUSIVE, f"only {plural(b.count, b.proto + ' session')}, {limits['operations_min']:.0f} are needed")
        for b in found if b.count < limits["operations_min"]
    ]  # fmt: skip
    if not found:
        problems.append((Status.INCONCLUSIVE, "no session is on record"))
    well = f"none of {sum(b.count for b in found)} sessions failed"
    status, reason = worst_of(as_far_as_known(arm, problems), well)
    return verdict(arm, "no-failed-sessions", status, reason, figures, _evidence(arm, found))


def _evidence(arm: ArmHistory, found: list[Broken]) -> list[str]:
    """When sessions failed, counted from the first fault's begin, or from the burst's."""
    begun = faults_begun(arm)
    start, what = (int(begun[0]["t"]), str(begun[0].get("name"))) if begun else (arm.judged.begin if arm.judged else 0, "the burst's begin")
    return [f"{b.proto} session failed {(t - start) / SECOND:+.2f} s from {what}" for b in found for t in b.times[:_SHOWN]]

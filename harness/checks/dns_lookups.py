"""Names are answered, and in time, as pods see it: look-ups made inside the pods all the while, each once and without a retry.

Limits: ``failed_share_max``: look-ups without an answer (time-out, SERVFAIL, REFUSED, no connection); a plan must give it.
``p99_ms_max`` milliseconds (0 = none); ``lookups_min``: with fewer INCONCLUSIVE. Known limits: see ``harness.dns.lookups``.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.dns import lookups
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"failed_share_max": None, "p99_ms_max": 0, "lookups_min": 100}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL above a limit; INCONCLUSIVE with too few look-ups."""
    found = lookups(arm)
    if found is None:
        return verdict(arm, "dns-lookups", Status.INCONCLUSIVE, "no look-up was made inside a pod")
    share, problems = found.failed / found.count, []
    ends = ", ".join(f"{n} {what}" for what, n in found.outcomes.items())
    if share > limits["failed_share_max"]:
        problems.append((Status.FAIL, f"{found.failed} of {found.count} look-ups failed ({ends}), limit {limits['failed_share_max']:.2%}"))
    if limits["p99_ms_max"] and found.p99_ms > limits["p99_ms_max"]:
        problems.append((Status.FAIL, f"look-ups took {found.p99_ms:.0f} ms at p99, limit {limits['p99_ms_max']:.0f} ms"))
    if found.count < limits["lookups_min"]:
        problems.append((Status.INCONCLUSIVE, f"only {found.count} look-ups, {limits['lookups_min']:.0f} are needed"))
    status, reason = worst_of(problems, f"{found.count} look-ups, {found.failed} failed, p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms")
    figures = {"lookups": found.count, "failed": found.failed, "failed_share": share, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
    return verdict(arm, "dns-lookups", status, reason, figures)

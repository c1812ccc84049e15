"""Every path from node caches to unbound bears the rate that the plan asks for.

A path (a cell of the arm) bears a rate when the interval of its knee lies at or above it; the knee is the rate at which 1 % of the queries, or
the plan's ``fail_share``, go without an answer. FAIL names each path whose whole interval lies below; INCONCLUSIVE where the interval holds the
rate, where the staircase ended below it, or where nothing was measured. An arm with too few TCP slots declares it as a planted defect.

Limits: ``per_s_min`` queries per second. Known limits: one host; the rate is that of this path on this machine, so only a comparison with
another arm says whether unbound's slots or the machine were the limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.dnslab import CellSeen, cells
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"per_s_min": None}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS, FAIL with the paths that bear less, or INCONCLUSIVE."""
    if arm.plan.load.kind != "dns":
        return verdict(arm, "dns-capacity", Status.INCONCLUSIVE, "the load was no load of DNS queries")
    found, wanted = cells(arm), limits["per_s_min"]
    problems = [p for p in (_problem(c, wanted) for c in found) if p is not None]
    if not found:
        problems = [(Status.INCONCLUSIVE, "no path was measured")]
    figures = {f"{c.cell.name}_bears_per_s": c.knee.low for c in found if c.knee is not None}
    status, reason = worst_of(problems, f"{len(found)} paths bear {wanted:.0f} queries a second")
    return verdict(arm, "dns-capacity", status, reason, figures, [text for _, text in problems])


def _problem(cell: CellSeen, wanted: float) -> tuple[Status, str] | None:
    knee = cell.knee
    if knee is None or not cell.whole:
        return Status.INCONCLUSIVE, f"{cell.cell.name}: not measured to its end"
    if knee.low >= wanted:
        return None
    if knee.high is not None and knee.high < wanted:
        more = f", up to {cell.waiting_max} connections waited for one of {cell.slots_max} slots" if cell.waiting_max else ""
        return Status.FAIL, f"{cell.cell.name}: failures pass the share at {knee.text}{more}"
    return Status.INCONCLUSIVE, f"{cell.cell.name}: {knee.text} does not tell whether it bears {wanted:.0f}/s"

"""After the load every queue empties.

Judged by the census' last round (queue files, those of dead pods included); when they emptied is told by the samples.

Limits: ``left_max`` queue entries (mail and recipient) in the last round. INCONCLUSIVE when a queue was not read.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory
from harness.store.queues import drain_s

LIMITS: dict[str, float | None] = {"left_max": 0}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the queues that still hold mail."""
    fates = arm.fates()
    rows = arm.sql("SELECT place, sum(found) FROM scopes WHERE source = 'queue' AND round = 2 AND found > 0 GROUP BY ALL ORDER BY 1")
    left = sum(int(n) for _, n in rows)
    problems = []
    if left > limits["left_max"]:
        problems.append((Status.FAIL, f"{plural(left, 'entry').replace('entrys', 'entries')} left in queues after {arm.plan.load.settle_s:.0f} s"))
    if not fates.queues_read:
        problems.append((Status.INCONCLUSIVE, f"not every queue was read: {fates.unread[0]}"))
    drained = drain_s(arm)
    figures = {"left": float(left)} | ({"drain_s": drained} if drained is not None else {})
    when = f", {drained:.0f} s after the load" if drained is not None else ""
    status, reason = worst_of(problems, f"all queues were empty{when}")
    return verdict(arm, "queue-drained", status, reason, figures, [f"{place}: {n}" for place, n in rows])

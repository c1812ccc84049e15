"""Which operations worked when, per protocol, and how long each fault stopped them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.checks.common import faults_begun
from harness.model.outcome import Deferral, Outcome, Proto
from harness.store.fates import kept_back, planted
from harness.store.history import SECOND, ArmHistory, Span

#: An IMAP user's APPEND stands in the ledger as a mail and in the user operations as what it is: it counts once.
_SENT = f"proto <> {int(Proto.IMAP)}"
#: Rate control at work is no outage, except towards user agents, which do not retry.
_GOOD_DEFERRALS = f"{int(Deferral.PLANNED_LIMIT)}, {int(Deferral.GREYLIST)}"
_OPERATIONS = f"""
CREATE TABLE IF NOT EXISTS operations AS
SELECT d.proto, d.t, d.outcome = {int(Outcome.OK)} OR (d.deferral IN ({_GOOD_DEFERRALS}) AND d.proto <> {int(Proto.SUBMISSION)}) AS good
  FROM dones d JOIN offered o USING (mail, rcpt) WHERE NOT ({planted("o.flags")}) AND NOT {kept_back("d")} AND d.{_SENT}
UNION ALL
SELECT i.proto, i.t, false FROM invokes i ANTI JOIN dones d ON d.mail = i.mail AND d.rcpt = i.rcpt AND d.attempt = i.attempt WHERE i.{_SENT}
UNION ALL
SELECT proto, t_end, outcome = {int(Outcome.OK)} FROM userops
"""


@dataclass(frozen=True)
class Outage:
    """What one fault did to one protocol.

    :param outage_s: longest time between two successes around failures after the fault began; 0 when nothing failed.
    :param recovery_s: from the fault's begin to the success that ended it; None when none came.
    """

    fault: str
    proto: str
    outage_s: float
    recovery_s: float | None


def prepare(arm: ArmHistory) -> None:
    """Make the table ``operations`` (proto, t, good)."""
    arm.fates()
    arm.tables.con.execute(_OPERATIONS)


def shares(arm: ArmHistory, span: Span, windows: Sequence[Span]) -> dict[str, tuple[int, int]]:
    """Protocol → (operations, failures) in ``span`` outside ``windows``."""
    outside = " ".join(f"AND NOT t BETWEEN {w.begin} AND {w.end}" for w in windows)
    rows = arm.sql(
        f"SELECT proto, count(*), count(*) FILTER (NOT good) FROM operations WHERE t BETWEEN ? AND ? {outside} GROUP BY proto ORDER BY proto",
        [span.begin, span.end],
    )
    return {_name(p): (int(n), int(bad)) for p, n, bad in rows}


def outages(arm: ArmHistory, span: Span) -> list[Outage]:
    """One entry for every fault that began in ``span`` and every protocol in use."""
    found = []
    for (proto,) in arm.sql("SELECT DISTINCT proto FROM operations ORDER BY 1"):
        columns = arm.tables.con.execute("SELECT t, good FROM operations WHERE proto = ? AND t <= ? ORDER BY t, good", [proto, span.end]).fetchnumpy()
        t, good = np.asarray(columns["t"]).astype(np.int64), np.asarray(columns["good"]).astype(bool)
        for begin in faults_begun(arm):
            if span.begin <= begin["t"] <= span.end:
                found.append(_outage(str(begin.get("name")), _name(proto), t, good, int(begin["t"])))
    return found


def _outage(fault: str, proto: str, t: NDArray[np.int64], good: NDArray[np.bool_], begin: int) -> Outage:
    """The longest stretch between successes that holds a failure after ``begin``."""
    failures = t[(~good) & (t >= begin)]
    if not len(failures):
        return Outage(fault, proto, 0.0, 0.0)
    successes = t[good]
    after = np.searchsorted(successes, failures, side="right")
    before_t = np.where(after > 0, successes[np.maximum(after - 1, 0)] if len(successes) else begin, begin)
    never = after >= len(successes)
    if never.any():
        return Outage(fault, proto, float(failures[-1] - before_t[never][0]) / SECOND, None)
    gaps = successes[after] - before_t
    worst = int(np.argmax(gaps))
    return Outage(fault, proto, float(gaps[worst]) / SECOND, float(successes[after[worst]] - begin) / SECOND)


def windows(arm: ArmHistory, grace_s: float) -> list[Span]:
    """From each fault's begin to its end (undone, or the end of its deadline) and ``grace_s`` longer."""
    found = []
    deadlines = {f.name: f.deadline_s for f in arm.plan.faults}
    for begin in faults_begun(arm):
        name = begin.get("name")
        ends = [e["t"] for e in arm.events("fault") if e.get("name") == name and e.get("edge") in ("end", "undone") and e["t"] >= begin["t"]]
        end = max(ends, default=begin["t"] + int(deadlines.get(str(name), 0) * SECOND))
        found.append(Span(int(begin["t"]), int(end + grace_s * SECOND)))
    return found


def _name(proto: int) -> str:
    return Proto(proto).name.lower() if proto in list(Proto) else f"protocol-{proto}"

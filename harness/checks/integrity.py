"""What arrives is what was sent, where it was sent to, and only that.

Counts mails that are *corrupted* (the hash of the decoded parts differs; legal re-encoding does not), *misdelivered* (in a mailbox that
was no recipient), *rejected but delivered*, *resurrected* (back after a deletion), *vanished* (seen by a reader, then gone without one),
*bounced* (every recipient is valid), in *quarantine* without having been planted there (GTUBE, EICAR), or *unknown* (our trace, never offered).

Limits: one ``…_max`` for each. INCONCLUSIVE where a mailbox or queue was not read or a copy has no hash, and for *unknown* and *rejected but
delivered* while the load's own log is not whole, since then the record may be what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import load_whole, mail_lines, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.fates import planted
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {
    "corrupted_max": 0, "misdelivered_max": 0, "rejected_but_delivered_max": 0, "resurrected_max": 0, "vanished_max": 0,
    "bounced_max": 0, "quarantined_max": 0, "unknown_max": 0,
}
_UNPLANTED = f"f.state = 'quarantined' AND NOT ({planted('f.flags')})"
_STATES = {k: f"f.state = '{k}'" for k in ("corrupted", "rejected_but_delivered", "resurrected", "bounced")}
_CONDITIONS = {**_STATES, "vanished": "f.vanished AND f.state <> 'not_counted'", "quarantined": _UNPLANTED}
#: Kinds that a gap in the load's own log could fake.
_NEEDS_LOAD = frozenset({"rejected_but_delivered", "unknown"})


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the mails' names; INCONCLUSIVE where not everything was read."""
    fates = arm.fates()
    counts = {k: int(arm.one(f"SELECT count(*) FROM fates f WHERE {where}")) for k, where in _CONDITIONS.items()}
    counts |= {k: int(arm.one("SELECT count(*) FROM strays WHERE kind = ?", [k])) for k in ("misdelivered", "unknown")}
    accepted, whole = fates.accepted, load_whole(arm)
    problems = []
    for kind, n in counts.items():
        if n > limits[f"{kind}_max"]:
            status = Status.INCONCLUSIVE if kind in _NEEDS_LOAD and not whole else Status.FAIL
            problems.append((status, f"{plural(n, 'mail')} {_WORDS.get(kind, kind)}"))
    unhashed = fates.sum("unhashed::INTEGER")
    if unhashed:
        problems.append((Status.INCONCLUSIVE, f"{plural(unhashed, 'mail')} found without a hash"))
    if fates.unread:
        problems.append((Status.INCONCLUSIVE, f"not everything was read: {fates.unread[0]}"))
    if not accepted:
        problems.append((Status.INCONCLUSIVE, "no mail was acknowledged"))
    status, reason = worst_of(problems, f"{accepted} acknowledged mails arrived as sent, where they should")
    return verdict(arm, "integrity", status, reason, {"accepted": accepted, **counts}, _lines(arm, counts) if problems else ())


_WORDS = {
    "rejected_but_delivered": "rejected but delivered", "quarantined": "in quarantine that should not be", "unknown": "of ours that were never offered",
}


def _lines(arm: ArmHistory, counts: Mapping[str, int]) -> tuple[str, ...]:
    lines = [line for kind, where in _CONDITIONS.items() if counts[kind] for line in mail_lines(arm, where)]
    strays = arm.sql("SELECT mail, recipient, place, kind FROM strays ORDER BY ALL LIMIT 50")
    return (*(f"mail {mail}: {kind}, found for {recipient} in {place}" for mail, recipient, place, kind in strays), *lines)

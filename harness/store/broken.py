"""Sessions that the service broke: cut, refused or closed with 421, as their clients saw it. A 4xx in its place is an answer, and not counted."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.outcome import Outcome, Proto
from harness.store.fates import kept_back
from harness.store.history import ArmHistory, Span

_CLOSING = 421
#: An IMAP user's APPEND counts among the user operations.
_SENT = f"proto <> {int(Proto.IMAP)}"
_MAIL = f"""
SELECT d.proto, d.t, (d.outcome = {int(Outcome.FAIL)} AND d.code IN (0, {_CLOSING})) OR d.outcome = {int(Outcome.INFO)} AS broken
  FROM (SELECT proto, mail, attempt, min(t) AS t, min(outcome) AS outcome, min(code) AS code FROM dones x
    WHERE {_SENT} AND NOT {kept_back("x")} GROUP BY proto, mail, attempt) d
UNION ALL
SELECT i.proto, i.t, true FROM (SELECT proto, mail, attempt, min(t) AS t FROM invokes WHERE {_SENT} GROUP BY proto, mail, attempt) i
  ANTI JOIN dones d ON d.mail = i.mail AND d.attempt = i.attempt
UNION ALL
SELECT proto, t_end, outcome <> {int(Outcome.OK)} FROM userops
"""


@dataclass(frozen=True)
class Broken:
    """One protocol: how many sessions or operations there were, how many broke, and when (ns)."""

    proto: str
    count: int
    times: tuple[int, ...]


def broken(arm: ArmHistory, span: Span) -> list[Broken]:
    """Per protocol in use what ended in ``span``."""
    rows = arm.sql(
        f"SELECT proto, count(*), list(t ORDER BY t) FILTER (broken) FROM ({_MAIL}) WHERE t BETWEEN ? AND ? GROUP BY proto ORDER BY proto",
        [span.begin, span.end],
    )
    return [Broken(_name(int(p)), int(n), tuple(int(t) for t in times or ())) for p, n, times in rows]


def _name(proto: int) -> str:
    return Proto(proto).name.lower() if proto in list(Proto) else f"protocol-{proto}"

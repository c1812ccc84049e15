"""What checks share: making verdicts, naming mails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.verdict import Status, Verdict
from harness.store.history import SECOND, ArmHistory
from harness.store.podlogs import queue_ids

EVIDENCE_MAX = 50


def verdict(
    arm: ArmHistory, check: str, status: Status, reason: str, figures: Mapping[str, float] | None = None, evidence: Sequence[str] = ()
) -> Verdict:
    """A verdict on ``arm``; numbers rounded so that they read and compare."""
    shown = {k: round(float(v), 6) for k, v in (figures or {}).items() if math.isfinite(v)}
    return Verdict(check, arm.label, status, reason, shown, tuple(evidence)[:EVIDENCE_MAX])


def worst_of(problems: Sequence[tuple[Status, str]], well: str) -> tuple[Status, str]:
    """The worst status of ``problems`` and their sentences, worst first; PASS and ``well`` when there are none."""
    if not problems:
        return Status.PASS, well
    ordered = sorted(problems, key=lambda p: -p[0])
    return ordered[0][0], "; ".join(dict.fromkeys(text for _, text in ordered))


def mail_lines(arm: ArmHistory, condition: str, limit: int = EVIDENCE_MAX) -> tuple[str, ...]:
    """One line per mail and recipient in ``fates`` that meets ``condition``: what a person needs to look for it."""
    begin = arm.judged.begin if arm.judged else 0
    rows = arm.sql(
        "SELECT f.mail, coalesce(r.address, '?'), f.state, f.t_ok, f.n_try, coalesce(s.client, ''), coalesce(s.address, '')"
        " FROM fates f LEFT JOIN recipients r USING (rcpt) LEFT JOIN senders s USING (sender)"
        f" WHERE {condition} ORDER BY f.mail, 2 LIMIT {limit}"
    )
    hints = queue_ids(arm.dir, arm.run_id, {int(r[0]) for r in rows})
    return tuple(_mail_line(arm, begin, row, hints.get(int(row[0]), "")) for row in rows)


def _mail_line(arm: ArmHistory, begin: int, row: tuple[Any, ...], hint: str) -> str:
    mail, recipient, state, t_ok, tries, client, sender = row
    when = "never acknowledged" if t_ok is None else f"acknowledged {(int(t_ok) - begin) / SECOND:+.3f} s from the burst's begin"
    told = f"from {sender} at {client}" if client else f"from {sender or 'an unknown sender'}"
    queue = f", queue id {hint}" if hint else ""
    name = f"{arm.run_id}.{arm.dir.label}.{mail}"
    return f"mail {mail} to {recipient}: {state}, {when}, {told}, {tries} attempt{'' if tries == 1 else 's'}, message-id {name}{queue}"


def load_whole(arm: ArmHistory) -> bool:
    """Whether every log of the load reads to its end mark, and there is one."""
    logs = [name for name in arm.logs if name.startswith("load-")]
    return bool(logs) and all(name in arm.writers_closed for name in logs)


def as_far_as_known(arm: ArmHistory, problems: Sequence[tuple[Status, str]]) -> list[tuple[Status, str]]:
    """``problems``, none of them a FAIL while a log of the load is cut: what looks wrong may be what was not recorded."""
    if load_whole(arm):
        return list(problems)
    known = [(min(status, Status.INCONCLUSIVE), text) for status, text in problems]
    return [(Status.INCONCLUSIVE, "the load's own log is not whole"), *known]


def faults_begun(arm: ArmHistory) -> list[dict[str, Any]]:
    """The faults' ``begin`` events, by time."""
    return [e for e in arm.events("fault") if e.get("edge") == "begin"]


def plural(n: float, what: str) -> str:
    """``1 mail``, ``2 mails``."""
    return f"{n:.0f} {what}{'' if n == 1 else 's'}"

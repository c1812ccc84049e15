"""What rate control did: who was deferred by it, who by something else, and what was accepted too late."""

from __future__ import annotations

from harness.model.outcome import Deferral, Outcome, Proto
from harness.store.fates import kept_back, planted
from harness.store.history import SECOND, ArmHistory, Span
from harness.store.spans import ORDINARY

_FAIL = int(Outcome.FAIL)
#: Mail that becomes due just before the intake deadline, or after it in the tail, cannot be accepted by it: it gets this long.
GRACE_S = 30.0


def control_figures(arm: ArmHistory, span: Span) -> dict[str, float]:
    """``attempts``, ``planned`` (deferred by the planned limit), ``system_share``, ``ordinary_deferred_share``, ``refused``, ``late``.

    Mails planted for filters are left out.
    """
    arm.fates()
    return _attempts(arm, span) | _mails(arm, span)


def _attempts(arm: ArmHistory, span: Span) -> dict[str, float]:
    row = arm.sql(
        f"SELECT count(*), count(*) FILTER (d.deferral = {int(Deferral.PLANNED_LIMIT)}),"
        f" count(*) FILTER (d.outcome <> {int(Outcome.OK)} AND d.deferral NOT IN ({int(Deferral.PLANNED_LIMIT)}, {int(Deferral.GREYLIST)}) AND d.code < 500"
        f" AND NOT {kept_back('d')}),"
        f" count(*) FILTER (o.population = {ORDINARY}), count(*) FILTER (o.population = {ORDINARY} AND d.outcome = {_FAIL} AND d.code BETWEEN 400 AND 499)"
        f" FROM dones d JOIN offered o USING (mail, rcpt) WHERE d.t BETWEEN ? AND ? AND NOT ({planted('o.flags')})",
        [span.begin, span.end],
    )[0]
    total, limited, system, ordinary, deferred = (float(v) for v in row)
    return {
        "attempts": total, "planned": limited, "system_share": system / total if total else 0.0,
        "ordinary_deferred_share": deferred / ordinary if ordinary else 0.0,
    }


def _mails(arm: ArmHistory, span: Span) -> dict[str, float]:
    refused = arm.one(f"SELECT count(*) FROM fates f WHERE f.n_ok = 0 AND f.last_code >= 500 AND NOT ({planted('f.flags')})")
    too_late = arm.one(f"SELECT count(*) FROM fates f WHERE {late(arm, span)}")
    return {"refused": float(refused), "late": float(too_late)}


def cut_short(arm: ArmHistory, span: Span) -> bool:
    """Whether the load was ended from outside before the intake deadline, so that nobody knows what would have been accepted by it."""
    reasons = {str(e["log"]): e.get("reason") for e in arm.events("load_end")}
    ended_itself = bool(reasons) and all(reasons.get(log) in ("done", "deadline") for log in {*reasons, *arm.load_states()})
    return not ended_itself and span.end < span.begin + int(arm.plan.load.intake_deadline_s * SECOND)


def fastest_client(arm: ArmHistory, window_s: float) -> int:
    """Most mails acknowledged to one client address within any ``window_s`` seconds, over all pods together."""
    arm.fates()
    window = int(window_s * SECOND)
    return int(arm.one(
        f"SELECT coalesce(max(n), 0) FROM (SELECT count(*) OVER (PARTITION BY client ORDER BY t RANGE BETWEEN {window} PRECEDING AND CURRENT ROW) AS n"
        " FROM (SELECT s.client, d.mail, min(d.t)::BIGINT AS t FROM dones d JOIN offered o USING (mail, rcpt) JOIN senders s USING (sender)"
        f" WHERE d.outcome = {int(Outcome.OK)} AND d.proto = {int(Proto.SMTP)} AND s.client <> '' GROUP BY ALL))"
    ))


def late(arm: ArmHistory, span: Span) -> str:
    """Mails that were not accepted by the intake deadline, counted from the burst's begin; one that is due later than ``GRACE_S`` before it, by its own."""
    deadline = span.begin + int(arm.plan.load.intake_deadline_s * SECOND)
    own = f"greatest({deadline}, f.t_due + {int(GRACE_S * SECOND)})"
    return f"f.state <> 'not_counted' AND NOT ({planted('f.flags')}) AND (f.t_ok IS NULL OR f.t_ok > {own})"



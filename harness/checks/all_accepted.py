"""Every offered mail is accepted before the load ends.

FAIL for a mail that was refused (5xx, or it could not be sent to this server at all), that was still deferred (4xx) or in doubt when the load ended, or that never found a free connection
because the server held them all. Where the generator was behind its schedule or was ended early, only a reply can be held against the server:
what ended without one, or was never tried, is INCONCLUSIVE then. Mails planted for filters may be refused.

Limits: ``not_accepted_max`` mails and recipients; ``lag_p99_ms_max``: schedule lag beyond which the generator was the limit (as in
``load-was-real``); ``mails_min``: so many must have been offered. Known limits: an accepted mail may still be lost, see ``no-loss``.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, mail_lines, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.fates import planted
from harness.store.history import ArmHistory
from harness.store.spans import lag_p99_ms, load_span

LIMITS: dict[str, float | None] = {"not_accepted_max": 0, "lag_p99_ms_max": 250, "mails_min": 1}
_OPEN = f"f.n_ok = 0 AND f.state <> 'not_counted' AND NOT ({planted('f.flags')})"
#: What a mail that was not accepted has behind it, worst for the server first.
_KINDS = (
    ("refused", "f.last_code >= 500", "refused"),
    ("deferred", "f.last_code BETWEEN 400 AND 499", "still deferred"),
    ("unanswered", "f.last_code < 400 AND f.n_try > 0", "without an answer"),
    ("never_attempted", "f.n_try = 0", "never attempted"),
)
_SILENT = frozenset({"unanswered", "never_attempted"})


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the mails that were not accepted; INCONCLUSIVE when it may have been the generator."""
    arm.fates()
    offered = int(arm.one("SELECT count(*) FROM fates WHERE state <> 'not_counted'"))
    counts = {name: int(arm.one(f"SELECT count(*) FROM fates f WHERE {_OPEN} AND {where}")) for name, where, _ in _KINDS}
    excuse = _excuse(arm, limits)
    problems = _problems(counts, excuse) if sum(counts.values()) > limits["not_accepted_max"] else []
    if offered < limits["mails_min"]:
        problems.append((Status.INCONCLUSIVE, f"only {plural(offered, 'mail')} offered, {limits['mails_min']:.0f} were meant to be"))
    status, reason = worst_of(as_far_as_known(arm, problems), f"all {offered} mails were accepted")
    figures = {"offered": offered, **counts}
    return verdict(arm, "all-accepted", status, reason, figures, (*_replies(arm), *mail_lines(arm, _OPEN)) if problems else ())


def _problems(counts: Mapping[str, int], excuse: str) -> list[tuple[Status, str]]:
    found = []
    for name, _, words in _KINDS:
        if counts[name] and excuse and name in _SILENT:
            found.append((Status.INCONCLUSIVE, f"{plural(counts[name], 'mail')} {words}, but {excuse}"))
        elif counts[name]:
            found.append((Status.FAIL, f"{plural(counts[name], 'mail')} {words}"))
    return found


def _excuse(arm: ArmHistory, limits: Mapping[str, float]) -> str:
    """Why a mail without a reply may be the generator's doing; "" when it is not."""
    ends = arm.events("load_end")
    if not ends or any(e.get("reason") not in ("done", "deadline") for e in ends):
        return "the load was ended early"
    span = load_span(arm)
    lag = lag_p99_ms(arm, span) if span else None
    if lag is not None and lag > limits["lag_p99_ms_max"]:
        return f"the generator was {lag:.0f} ms behind its schedule: it was the limit"
    return ""


def _replies(arm: ArmHistory) -> tuple[str, ...]:
    """The server's own words: every kind of reply that turned mail away."""
    bad = [e for e in arm.events("reply") if not 0 < int(e.get("code") or 0) < 400]
    return tuple(dict.fromkeys(f"reply at {e.get('stage')}: {e.get('code')} {e.get('enhanced') or ''} {e.get('text') or ''}".strip() for e in bad))[:10]

"""No mail arrives more often than its history explains.

An extra copy is *explained* by a further acknowledgement or by an attempt that was cut after the final dot (RFC 1047: the sender
must try again); *possible* where the platform answered the dot with 4xx and kept the mail all the same; explained by a *fault*
that began while the platform held the mail; else *unexplained*. Each has a budget of its own.

Limits: ``unexplained_max`` and ``possible_max`` copies; ``explained_share_max``: explained and fault copies per acknowledged mail.
Known limits: a fault explains one copy of every mail that was acknowledged before it began, delivered yet or not.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, mail_lines, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"unexplained_max": 0, "possible_max": 0, "explained_share_max": 0.05}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL when a budget is passed; INCONCLUSIVE when copies may have gone unseen or may still arrive."""
    fates = arm.fates()
    accepted = fates.accepted
    extra = {k: fates.sum(f"dup_{k}") for k in ("unexplained", "possible", "explained", "fault")}
    pending = fates.sum("1", "n > 0 AND queue2 > 0")
    share = (extra["explained"] + extra["fault"]) / accepted if accepted else 0.0
    problems = []
    for kind in ("unexplained", "possible"):
        if extra[kind] > limits[f"{kind}_max"]:
            problems.append((Status.FAIL, f"{kind} duplicates: {plural(extra[kind], 'extra copy').replace('copys', 'copies')}"))
    if share > limits["explained_share_max"]:
        problems.append((Status.FAIL, f"{share:.1%} of the mails have explained duplicates, more than {limits['explained_share_max']:.1%}"))
    if fates.unread:
        problems.append((Status.INCONCLUSIVE, f"copies may be where nobody looked: {fates.unread[0]}"))
    if pending:
        problems.append((Status.INCONCLUSIVE, f"{plural(pending, 'delivered mail')} still queued for the same recipient"))
    if not accepted:
        problems.append((Status.INCONCLUSIVE, "no mail was acknowledged"))
    status, reason = worst_of(as_far_as_known(arm, problems), f"{accepted} acknowledged mails, no duplicate beyond its budget")
    lines = mail_lines(arm, "f.dup_unexplained + f.dup_possible > 0") if problems else ()
    return verdict(arm, "no-unexplained-duplicates", status, reason, {"accepted": accepted, **extra, "explained_share": share}, lines)

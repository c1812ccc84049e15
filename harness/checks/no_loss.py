"""No acknowledged mail is lost.

A mail is lost for a recipient when the platform acknowledged it and it is nowhere: in no queue, no mailbox, no quarantine, no
sink, in two rounds of census in which everything was read. Mail that its own reader deleted, as recorded, is not lost. Mail still queued, and mail whose mailbox or queue was not read,
is not lost but makes this check INCONCLUSIVE: absence was not shown.

Limits (``LIMITS``): ``lost_max`` mails. Source: DESIGN.md, final states. Known limits: mail with the empty sender is not
counted; a bounced mail is not lost (see ``integrity``).
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import mail_lines, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"lost_max": 0}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the lost mails' names; INCONCLUSIVE where absence or presence was not shown for every acknowledged mail."""
    fates = arm.fates()
    lost, accepted, queued = fates.counts["lost"], fates.accepted, fates.sum("1", "state = 'queued' AND n_ok > 0")
    unknown = fates.counts["undetermined"]
    problems = []
    if lost > limits["lost_max"]:
        problems.append((Status.FAIL, f"{plural(lost, 'acknowledged mail')} of {accepted} lost"))
    if unknown:
        why = f" ({fates.unread[0]})" if fates.unread else ""
        problems.append((Status.INCONCLUSIVE, f"{plural(unknown, 'acknowledged mail')} not found, but not everything was read{why}"))
    if queued:
        problems.append((Status.INCONCLUSIVE, f"{plural(queued, 'acknowledged mail')} still queued at the census"))
    if not accepted:
        problems.append((Status.INCONCLUSIVE, "no mail was acknowledged, so none could be lost"))
    status, reason = worst_of(problems, f"all {accepted} acknowledged mails were found")
    state = "lost" if lost else "undetermined" if unknown else "queued"
    lines = mail_lines(arm, f"f.state = '{state}'") if problems else ()
    figures = {"accepted": accepted, "lost": lost, "undetermined": unknown, "queued": queued, "deleted": fates.sum("1", "n_deleted > 0")}
    return verdict(arm, "no-loss", status, reason, figures, lines)

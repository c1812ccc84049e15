"""The control of T15's measurement: below saturation, the number of mx pods must not change the intake.

Compares each control arm (variant ``mx-light``) with what its senders had due: the intake of a platform that is not the limit equals the offer, so their ratio is 1.
With two control arms, one and two pods, their intake ratio must be 1. Confirmed from 6 blocks on when the interval holds 1; with fewer, under conditions
when the ratio lies within 0.9 to 1.1; otherwise the measurement itself is in doubt (refuted).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import ONE, TWO, arm_with, pairs
from harness.claims.stats import BLOCKS_MIN, Ratio, ratio_of
from harness.model.outcome import Outcome
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory
from harness.store.rates import rates
from harness.store.spans import load_span

CLAIM = "T15 control"
LIGHT = "mx-light"
NEAR = (0.9, 1.1)


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """Whether the control shows no effect where there must be none."""
    control = [a for a in arms if LIGHT in a.plan_arm.variants]
    if not control:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"no arm with the variant {LIGHT} was run (--arms all runs it)")
    found, told = _of_pair(arms, plan), "two pods against one, below saturation"
    if found is None:
        found, told = ratio_of([r for a in control if (r := _offer_and_intake(a)) is not None]), "intake against what was due"
    if found is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "the control arm's intake was not measured")
    figures, text = found.figures("control_intake"), f"{told}: ratio {found.text}"
    if found.low is not None and found.high is not None:
        return Finding(CLAIM, ClaimResult.CONFIRMED if found.low <= 1 <= found.high else ClaimResult.REFUTED, text, figures)
    if NEAR[0] <= found.value <= NEAR[1]:
        return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, text, figures, f"n={found.n} of {BLOCKS_MIN} blocks, no interval")
    return Finding(CLAIM, ClaimResult.REFUTED, f"{text}: the measurement shows an effect where there is none", figures)


def _of_pair(arms: Sequence[ArmHistory], plan: Plan) -> Ratio | None:
    first, second = arm_with(plan, ONE, LIGHT), arm_with(plan, TWO, LIGHT)
    if first is None or second is None:
        return None
    both = [(rates(a), rates(b)) for a, b in pairs(arms, first, second)]
    return ratio_of([(a.intake_per_s, b.intake_per_s) for a, b in both if a is not None and b is not None])


def _offer_and_intake(arm: ArmHistory) -> tuple[float, float] | None:
    """(mails due, mails acknowledged within a second of their due time's stretch) over burst and tail."""
    span = load_span(arm)
    if span is None:
        return None
    arm.fates()
    due = arm.one("SELECT count(*) FROM offered WHERE t_due BETWEEN ? AND ?", [span.begin, span.end])
    taken = arm.one(
        f"SELECT count(*) FROM (SELECT d.mail, d.rcpt, min(d.t) AS t FROM dones d JOIN offered o USING (mail, rcpt) WHERE d.outcome = {int(Outcome.OK)}"
        " AND o.t_due BETWEEN ? AND ? GROUP BY ALL) WHERE t <= ?",
        [span.begin, span.end, span.end],
    )
    return float(due), float(taken)

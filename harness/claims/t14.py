"""T14: scale out and in at will.

Looks at every arm that ran more than one mx pod or was scaled by a fault. *Confirmed* when a scale fault struck inside the load and no
acknowledged mail was lost or unaccounted for; *confirmed under conditions* when the larger number of pods was there from the start, took in more and lost
nothing; *refuted* when acknowledged mail was lost in such an arm.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import ONE, TWO, arm_with, intake, pairs, ratio
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory

CLAIM = "T14"


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T14."""
    scaled = [a for a in arms if _scaled_live(a)]
    larger = scaled or [a for a in arms if TWO in a.plan_arm.variants]
    if not larger:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm was scaled")
    lost = sum(a.fates().counts["lost"] for a in larger)
    unknown = sum(a.fates().counts["undetermined"] + a.fates().counts["queued"] for a in larger)
    figures = {"arms": float(len(larger)), "lost": float(lost), "unaccounted": float(unknown)}
    if lost:
        return Finding(CLAIM, ClaimResult.REFUTED, f"{lost} acknowledged mails lost in scaled arms", figures)
    if unknown or not all(a.fates().accepted for a in larger):
        return Finding(CLAIM, ClaimResult.UNDECIDED, "not every acknowledged mail of the scaled arms is accounted for", figures)
    if scaled:
        return Finding(CLAIM, ClaimResult.CONFIRMED, "scaled under load, and every acknowledged mail arrived", figures)
    return _static(arms, plan, figures)


def _static(arms: Sequence[ArmHistory], plan: Plan, figures: dict[str, float]) -> Finding:
    first, second = arm_with(plan, ONE), arm_with(plan, TWO)
    taken = ratio(pairs(arms, first, second), intake) if first and second else None
    if taken is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "nothing was lost, but whether more pods took in more was not measured", figures)
    figures |= taken.figures("intake")
    result = ClaimResult.CONFIRMED_UNDER_CONDITIONS if taken.value > 1 else ClaimResult.UNDECIDED
    return Finding(CLAIM, result, f"intake ratio {taken.text}, nothing lost", figures, "the pods were there before the load, not scaled during it")


def _scaled_live(arm: ArmHistory) -> bool:
    span = arm.judged
    begun = [e for e in arm.events("fault") if e.get("fault") == "scale" and e.get("edge") == "evidence"]
    return span is not None and any(span.begin <= e["t"] <= span.end for e in begun)

"""T19: preStop hooks make stopping graceful: sessions are waited for, and the pod is taken out of the pool first.

Compares the arms with a fault that have the variant ``no-prestop`` with those that differ in nothing else, block by block. *Confirmed under conditions* when fewer
sessions broke with the hooks by more than chance gives, and nothing was lost with them; *refuted* when more broke by as much, or mail was lost with them.
Chance: two counts a and b of rare events differ by less than 2·√(a + b) nineteen times in twenty (Poisson). Sessions that one stop breaks are not independent, so the
result is never more than under conditions. Undecided otherwise, where a fault is not proven, or no pair was run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.claims.impact import Impact, impact
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory

CLAIM = "T19"
WITHOUT = "no-prestop"


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T19."""
    found = [pair for a in arms if WITHOUT in a.plan_arm.variants for pair in _pair(a, arms)]
    if not found:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"no pair of arms with a proven fault that differ in the variant {WITHOUT} alone")
    figures = {k: v for pair in found for i in pair for k, v in i.figures().items()}
    text = "; ".join(i.text for pair in found for i in pair)
    with_hooks, without = (sum(pair[n].sessions for pair in found) for n in (0, 1))
    if lost := sum(pair[0].lost for pair in found):
        return Finding(CLAIM, ClaimResult.REFUTED, f"{lost} mails lost although preStop ran: {text}", figures)
    if any(pair[0].unaccounted for pair in found):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"not every mail is accounted for: {text}", figures)
    conditions = f"n={len(found)}, no interval: {with_hooks} against {without} broken sessions"
    if abs(with_hooks - without) <= 2 * math.sqrt(with_hooks + without):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"sessions broke as often with preStop ({with_hooks}) as without ({without}), but for chance: {text}", figures, conditions)
    if with_hooks < without:
        return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, text, figures, conditions)
    return Finding(CLAIM, ClaimResult.REFUTED, f"more sessions broke with preStop ({with_hooks}) than without ({without}): {text}", figures, conditions)


def _pair(without: ArmHistory, arms: Sequence[ArmHistory]) -> list[tuple[Impact, Impact]]:
    """(with, without) of the same block; the arm that was hit as well, not the control."""
    same = set(without.plan_arm.variants) - {WITHOUT}
    twins = [impact(a) for a in arms if a.block == without.block and set(a.plan_arm.variants) == same]
    mine = impact(without)
    return [(twin, mine) for twin in twins if twin is not None and mine is not None][:1]

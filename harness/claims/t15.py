"""T15: twice the mx pods draw in twice the mail, but not twice the goodput.

Compares the arms ``[mx-1x]`` and ``[mx-2x]``, block by block. *Confirmed* only from 6 blocks on: the interval of the intake ratio lies above 1
**and** the goodput ratio does not exceed 1.2. *Refuted*: the interval does not lie above 1, or goodput grew with intake. With fewer blocks there
is no interval: a ratio of at least 1.5 at a goodput ratio of at most 1.2 is *confirmed under conditions* (which are printed), all else undecided.
Undecided too when intake could not be measured with backlog at every sender, or the single pod was not throttled (then it was not the limit).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import ONE, TWO, arm_with, goodput, intake, lost, pairs, ratio
from harness.claims.stats import BLOCKS_MIN, Ratio
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory
from harness.store.throttling import throttled_share

CLAIM = "T15"
GOODPUT_RATIO_MAX = 1.2
RATIO_WITHOUT_INTERVAL_MIN = 1.5
THROTTLED_SHARE_MIN = 0.1


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T15."""
    first, second = arm_with(plan, ONE), arm_with(plan, TWO)
    if first is None or second is None:
        return _undecided(f"the plan has no pair of arms made of {ONE} and {TWO} alone")
    found = pairs(arms, first, second)
    if not found:
        return _undecided(f"no block has both {first} and {second}")
    taken, good = ratio(found, intake), ratio(found, goodput)
    if taken is None:
        return _undecided("intake was not measured: not every sender had backlog for long enough in every block")
    figures = taken.figures("intake") | (good.figures("goodput") if good else {}) | {"blocks": float(len(found))}
    figures["lost"] = float(lost([a for pair in found for a in pair]))
    shares = [throttled_share(a, "mx") for a, _ in found]
    if any(s is None or s < THROTTLED_SHARE_MIN for s in shares):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"the pod of {first} was not seen throttled, so it may not have been the limit", figures)
    figures["throttled_share"] = round(min(s for s in shares if s is not None), 4)
    if good is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"intake ratio {taken.text}, but goodput was not measured", figures)
    return _decide(taken, good, figures)


def _decide(taken: Ratio, good: Ratio, figures: dict[str, float]) -> Finding:
    told = f"intake ratio {taken.text}, goodput ratio {good.text}"
    conditions = f"n={taken.n} of {BLOCKS_MIN} blocks, no interval; one time scale, ratios only"
    if taken.low is not None:
        grew = taken.low > 1
        result = ClaimResult.CONFIRMED if grew and good.value <= GOODPUT_RATIO_MAX else ClaimResult.REFUTED
        return Finding(CLAIM, result, told, figures)
    if taken.value >= RATIO_WITHOUT_INTERVAL_MIN and good.value <= GOODPUT_RATIO_MAX:
        return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, conditions)
    return Finding(CLAIM, ClaimResult.UNDECIDED, told, figures, conditions)


def _undecided(why: str) -> Finding:
    return Finding(CLAIM, ClaimResult.UNDECIDED, why)

"""Whether a fault slowed ordinary mail down: arms that it struck against the arm that it did not, block by block."""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import lost, pairs, ratio
from harness.claims.stats import BLOCKS_MIN, Ratio
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency

#: Without an interval, the p99 of ordinary mail has to grow by this much before one run says anything.
RATIO_WITHOUT_INTERVAL_MIN = 1.5


def slowed(claim: str, kind: str, arms: Sequence[ArmHistory], plan: Plan, *, says: str) -> Finding:
    """Compare the p99 of ordinary mail's delivery in the first arm hit by ``kind`` with that in the arm that no fault strikes.

    *Confirmed* with 6 blocks and an interval of the ratio above 1; *refuted* with an interval that is not; with fewer blocks *confirmed under
    conditions* from a ratio of 1.5 on, else undecided. Undecided too where the fault is not on record or latency was not measured.

    :param says: what the ratio is called in the sentence.
    """
    hit = next((a.name for a in plan.arms if _struck_by(plan, a.name, kind)), None)
    calm = next((a.name for a in plan.arms if not _struck_by(plan, a.name, "")), None)
    if hit is None or calm is None:
        return _undecided(claim, f"the plan has no pair of arms with and without {kind}")
    found = pairs(arms, calm, hit)
    if not found:
        return _undecided(claim, f"no block has both {calm} and {hit}")
    if not all(proven(b, kind) for _, b in found):
        return _undecided(claim, f"{kind} was not shown in every block of {hit}")
    grown = ratio(found, p99_ms)
    if grown is None:
        return _undecided(claim, "the delivery of ordinary mail was not measured in every block")
    figures = grown.figures("p99") | {"lost": float(lost([a for pair in found for a in pair])), "blocks": float(len(found))}
    figures |= {f"{a.name}_p99_ms": round(p99_ms(a) or 0.0, 1) for a in found[0]}
    return _decide(claim, grown, figures, f"{says}: p99 of ordinary mail ×{grown.text} against {calm}, {figures['lost']:.0f} mails lost")


def p99_ms(arm: ArmHistory) -> float | None:
    """p99 of ordinary mail's delivery; None when nobody watched."""
    found = ordinary_latency(arm)
    return found.p99_ms if found is not None and found.watched and found.mails else None


def proven(arm: ArmHistory, kind: str) -> bool:
    """Whether a fault of ``kind`` gave evidence in this arm, and none failed."""
    mine = [e for e in arm.events("fault") if e.get("fault") == kind]
    edges = {e.get("edge") for e in mine}
    return {"evidence", "end"} <= edges and "failed" not in edges


def _struck_by(plan: Plan, arm: str, kind: str) -> bool:
    return any(f.kind == kind or not kind for f in plan.faults if not f.arms or arm in f.arms)


def _decide(claim: str, grown: Ratio, figures: dict[str, float], told: str) -> Finding:
    conditions = f"n={grown.n} of {BLOCKS_MIN} blocks; one machine, one time scale"
    if grown.low is not None:
        return Finding(claim, ClaimResult.CONFIRMED if grown.low > 1 else ClaimResult.REFUTED, told, figures)
    enough = grown.value >= RATIO_WITHOUT_INTERVAL_MIN
    return Finding(claim, ClaimResult.CONFIRMED_UNDER_CONDITIONS if enough else ClaimResult.UNDECIDED, told, figures, conditions)


def _undecided(claim: str, why: str) -> Finding:
    return Finding(claim, ClaimResult.UNDECIDED, why)

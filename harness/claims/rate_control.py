"""T15's lesson: flow control meets a mass intake.

Looks at every arm with the shared limit, in every block. It *holds* (confirmed) when the limit acted, every offered mail was accepted by the intake deadline
and none refused, and ordinary mail kept the latency that the plan's check ``rate-control`` sets. A single block is confirmed under conditions.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import ONE, TWO, arm_with, intake, pairs, ratio
from harness.claims.stats import BLOCKS_MIN
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.control import control_figures, cut_short
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency
from harness.store.spans import load_span

CLAIM = "T15 flow control"
LIMIT = "shared-limit"
ORDINARY_P99_MS_MAX = 60000.0


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """Whether rate control held in every limited arm."""
    limited = [a for a in arms if LIMIT in a.plan_arm.variants]
    if not limited:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"no arm has the variant {LIMIT}")
    broken = [f"{a.label}: {why}" for a in limited for why in _broken(a, plan)]
    unknown = [f"{a.label}: {why}" for a in limited for why in _unknown(a)]
    first, second = arm_with(plan, ONE, LIMIT), arm_with(plan, TWO, LIMIT)
    taken = ratio(pairs(arms, first, second), intake) if first and second else None
    figures = {"arms": float(len(limited)), "broken": float(len(broken))} | (taken.figures("limited_intake") if taken else {})
    if broken:
        return Finding(CLAIM, ClaimResult.REFUTED, "; ".join(broken[:3]), figures)
    if unknown:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "; ".join(unknown[:3]), figures)
    told = "in every limited arm all mail was accepted in time and ordinary mail kept its latency"
    told += f"; intake ratio under the limit {taken.text}" if taken else ""
    blocks = len({a.block for a in limited})
    if blocks >= BLOCKS_MIN:
        return Finding(CLAIM, ClaimResult.CONFIRMED, told, figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, f"n={blocks} of {BLOCKS_MIN} blocks")


def _broken(arm: ArmHistory, plan: Plan) -> list[str]:
    span, latency = load_span(arm), ordinary_latency(arm)
    if span is None:
        return []
    seen = control_figures(arm, span)
    limit = next((c.limits.get("ordinary_p99_ms_max") for c in plan.checks if c.name == "rate-control"), None) or ORDINARY_P99_MS_MAX
    named = (("refused", "refused with 5xx"),) if cut_short(arm, span) else (("late", "not accepted by the deadline"), ("refused", "refused with 5xx"))
    found = [f"{seen[k]:.0f} mails {what}" for k, what in named if seen[k]]
    if latency and latency.watched and latency.p99_ms > limit:
        found.append(f"ordinary mail took {latency.p99_ms / 1000:.1f} s at p99")
    return found


def _unknown(arm: ArmHistory) -> list[str]:
    span, latency = load_span(arm), ordinary_latency(arm)
    if span is None:
        return ["there was no load"]
    found = [] if control_figures(arm, span)["planned"] else ["the limit never acted"]
    found += ["the load was ended before the intake deadline"] if cut_short(arm, span) else []
    return found if latency and latency.watched else [*found, "ordinary mail was not seen arriving"]

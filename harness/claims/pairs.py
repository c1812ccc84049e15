"""Which arms belong together in a comparison: same block, one switch apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.claims.stats import Ratio, ratio_of
from harness.model.plan import Plan
from harness.store.history import ArmHistory
from harness.store.rates import rates

ONE, TWO = "mx-1x", "mx-2x"


def arm_with(plan: Plan, *variants: str) -> str | None:
    """Name of the arm that is made of exactly these variants; None when the plan has none."""
    wanted = set(variants)
    return next((a.name for a in plan.arms if set(a.variants) == wanted), None)


def arms_apart(plan: Plan, variant: str) -> tuple[str, str] | None:
    """Names of the arm without ``variant`` and of the arm with it, all other variants the same; None when the plan has no such pair."""
    return next(
        ((a.name, b.name) for a in plan.arms for b in plan.arms if set(b.variants) - set(a.variants) == {variant} and set(a.variants) <= set(b.variants)),
        None,
    )


def pairs(arms: Sequence[ArmHistory], first: str, second: str) -> list[tuple[ArmHistory, ArmHistory]]:
    """(first, second) of every block that has both."""
    there = {(a.block, a.name): a for a in arms}
    blocks = sorted({a.block for a in arms})
    return [(there[b, first], there[b, second]) for b in blocks if (b, first) in there and (b, second) in there]


def ratio(found: Sequence[tuple[ArmHistory, ArmHistory]], value: Callable[[ArmHistory], float | None]) -> Ratio | None:
    """second / first of ``value`` over the blocks; None when a block lacks it."""
    both = [(value(a), value(b)) for a, b in found]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return ratio_of(known) if len(known) == len(both) else None


def intake(arm: ArmHistory) -> float | None:
    """Mails of elastic senders taken in per second; None when not every sender had backlog for long enough."""
    found = rates(arm)
    return found.intake_per_s if found else None


def goodput(arm: ArmHistory) -> float | None:
    """Mails handed on to mailboxes per second until the whole burst was there; None when that was not seen."""
    found = rates(arm)
    return found.goodput_per_s if found else None


def lost(arms: Sequence[ArmHistory]) -> int:
    """Acknowledged mails lost in ``arms`` together."""
    return sum(a.fates().counts["lost"] for a in arms)

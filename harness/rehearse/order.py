"""Which arms run, and in which order: seeded, so that the same plan runs the same way."""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.errors import UsageError
from harness.model.plan import Plan
from harness.plan.catalogue import nearest


@dataclass(frozen=True)
class Options:
    """How a plan is run.

    :param arms: ``main``, ``all``, or names separated by commas.
    :param blocks: how often all arms are run; intervals need at least 6.
    :param keep_stack: leave the last arm's stack running, to look at it.
    :param fresh: begin a new run, also where an unfinished one could be gone on with.
    """

    arms: str = "main"
    blocks: int = 1
    keep_stack: bool = False
    fresh: bool = False


def arms_in_order(plan: Plan, options: Options) -> list[tuple[int, str]]:
    """(block, arm) in the order they run: each block holds every chosen arm once, shuffled by the plan's seed.

    :raises UsageError: an arm that the plan does not have, or no block at all.
    """
    if options.blocks < 1:
        raise UsageError("--blocks takes a number from 1")
    names = _chosen(plan, options.arms)
    order: list[tuple[int, str]] = []
    for block in range(1, options.blocks + 1):
        shuffled = list(names)
        random.Random(f"{plan.seed}/{block}").shuffle(shuffled)
        order += [(block, name) for name in shuffled]
    return order


def _chosen(plan: Plan, wanted: str) -> list[str]:
    if wanted == "all":
        return list(plan.arm_names)
    if wanted == "main":
        return [a.name for a in plan.arms if a.main]
    names = [n.strip() for n in wanted.split(",") if n.strip()]
    for name in names:
        if name not in plan.arm_names:
            raise UsageError(f"the plan has no arm '{name}'", where=plan.source, todo=nearest(name, plan.arm_names))
    if not names:
        raise UsageError("--arms names no arm", where=plan.source)
    return names

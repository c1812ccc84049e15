"""What a run was allowed and what it took: the plan's own budget, and the promises of the stack on one small host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.plan import Plan
from harness.report.series import ArmData
from harness.report.sheet import Pairs
from harness.report.text import duration, mapping, number

#: From images on the nodes to mail through the edge, on 2 cores.
STACK_READY_S = 60.0
#: Everything on the host together: cluster, stack, load and what else runs there.
MEMORY_GIB = {"minimal": 6.0}


def budgets(plan: Plan, meta: Mapping[str, Any], arms: Sequence[ArmData]) -> Pairs:
    """Name → what was used, and of how much. What was not recorded is left out."""
    recorded = {k: v for k, v in mapping(meta.get("timings")).items() if isinstance(v, int | float)}
    blocks = max((arm.block for arm in arms), default=1)
    seconds = sum(v for k, v in recorded.items() if "/" in k)
    offered = sum(float(end.get("offered") or 0) for arm in arms for end in arm.events("load_end"))
    return (
        *_used("time of the arms", seconds, plan.budget.get("minutes", 0) * 60 * blocks, duration),
        *_used("mails", offered, plan.budget.get("mails", 0) * blocks, number),
        *_used("stack ready", max((v for k, v in recorded.items() if k.endswith("/deploy")), default=0), STACK_READY_S, duration),
        *_used("memory in use on the host", _memory_gib(meta, arms), MEMORY_GIB.get(plan.profile, 0), lambda v: f"{number(v)} GiB"),
    )


def _used(name: str, used: float, allowed: float, shown: Any) -> Pairs:
    if used <= 0:
        return ()
    over = ", over" if allowed and used > allowed else ""
    return ((name, f"{shown(used)} of {shown(allowed)}{over}" if allowed else shown(used)),)


def _memory_gib(meta: Mapping[str, Any], arms: Sequence[ArmData]) -> float:
    """All memory but the least that was ever available; 0 where it was not sampled."""
    whole = mapping(meta.get("host")).get("memory_bytes")
    free = [int(e["mem_available_bytes"]) for arm in arms for e in arm.events("host") if e.get("mem_available_bytes")]
    return round((whole - min(free)) / 2**30, 2) if isinstance(whole, int | float) and free else 0.0

"""conntrack race: parallel look-ups over UDP lose a packet while their connection is being inserted (kubernetes issue 56903), which costs 5 s steps.

Looks at every arm: ``insert_failed`` of the nodes' connection tracking before and after, and look-ups that nobody answered. *Confirmed* when it rose in an arm
whose look-ups timed out; *undecided* otherwise: where it stayed at 0 the race is "not reproducible on this kernel", since its fixes are in (Linux 5.0
and later resolve most clashes, counted as ``clashres``). It is never simulated.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.dns import lookups
from harness.store.history import ArmHistory

CLAIM = "conntrack race"


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of it."""
    seen = {a.label: risen for a in arms if (risen := rise(a)) is not None}
    if not seen:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "the nodes' connection tracking was not read")
    figures = {f"{label} {name}": float(n) for label, counts in seen.items() for name, n in counts.items()}
    kernel = next(str(e["kernel"]) for a in arms for e in a.events("conntrack"))
    failed = sum(counts["insert_failed"] for counts in seen.values())
    lost = [a.label for a in arms if seen.get(a.label, {}).get("insert_failed") and (found := lookups(a)) is not None and found.outcomes.get("timeout")]
    if lost:
        return Finding(CLAIM, ClaimResult.CONFIRMED, f"insert_failed rose and look-ups timed out in {', '.join(lost)}", figures)
    what = f"insert_failed rose by {failed}, but no look-up timed out" if failed else f"not reproducible on this kernel ({kernel}): insert_failed stayed the same"
    return Finding(CLAIM, ClaimResult.UNDECIDED, f"{what}; {sum(c['clashres'] for c in seen.values())} clashes were resolved", figures)


def rise(arm: ArmHistory) -> dict[str, int] | None:
    """``insert_failed`` and ``clashres`` of all nodes together, after minus before; None when a node was not read twice."""
    read: dict[str, list[dict[str, int]]] = {}
    for e in arm.events("conntrack"):
        read.setdefault(str(e["node"]), []).append(e["counters"])
    if not read or any(len(both) != 2 or not all(both) for both in read.values()):
        return None
    return {name: sum(after.get(name, 0) - before.get(name, 0) for before, after in read.values()) for name in ("insert_failed", "clashres")}

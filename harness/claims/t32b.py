"""T32b: unbound's default of 10 TCP slots is too small for node caches that force TCP, and 1000 cure it.

Compares, block by block, cells of the same path (transport, caches, delay, share of hits) between the arm with ``incoming-num-tcp`` 10 and the
one with 1000, both with one thread. A cell *shows* it when the knee with 10 is there and its whole interval lies below what 1000 bear for sure
(the lower end of the interval with 1000). *Confirmed under conditions* when a cell shows it and the control over UDP has no knee below the rates
at which TCP failed; the conditions say on which path and from which rate on. *Refuted* when no cell with 10 slots has a knee up to the highest
rate. *Undecided* else: no pair, no control, or intervals that overlap. It is never confirmed without conditions: below the knee 10 slots do.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.knee import Knee
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.dnslab import CellSeen, DnsArm, cells, knees_by_key, settings
from harness.store.history import ArmHistory

CLAIM = "T32b"
DEFAULT, CURE = 10, 1000


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T32b."""
    if plan.load.kind != "dns":
        return _undecided("the plan has no load of DNS queries")
    found = [p for p in map(_pair, knees_by_key(arms).values()) if p is not None]
    if not found:
        return _undecided(f"no path was measured with both {DEFAULT} and {CURE} slots")
    figures = _figures(found)
    told = "; ".join(f"{c.cell.key}: {DEFAULT} slots {_text(c.knee)}, {CURE} slots {_text(d.knee)}" for c, d in found)
    shown = [(c, d) for c, d in found if _below(c.knee, d.knee)]
    if not shown:
        none = all(c.knee is not None and c.knee.per_s is None for c, _ in found)
        return Finding(CLAIM, ClaimResult.REFUTED if none else ClaimResult.UNDECIDED, told, figures)
    return _control(arms, shown, told, figures)


def _control(arms: Sequence[ArmHistory], shown: Sequence[tuple[CellSeen, CellSeen]], told: str, figures: dict[str, float]) -> Finding:
    """The same unbound over UDP bears the rates at which TCP failed; else something else was the limit."""
    udp = [c for arm in arms if settings(arm).incoming_num_tcp == DEFAULT for c in cells(arm) if c.cell.transport == "udp" and c.knee]
    highest = max(c.knee.per_s for c, _ in shown if c.knee and c.knee.per_s is not None)
    if not udp:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"{told}; no control over UDP was measured", figures)
    weak = [c for c in udp if c.knee and c.knee.low < highest and c.knee.per_s is not None]
    told += "; over UDP " + ", ".join(f"{c.cell.delay_ms} ms: {_text(c.knee)}" for c in udp)
    if weak:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"{told}: something else than the slots may be the limit", figures)
    conditions = "from these rates on: " + "; ".join(f"{c.cell.key}: {_text(c.knee)}" for c, _ in shown) + f"; unbound {_versions(arms)}, one thread"
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, conditions)


def _pair(group: Sequence[tuple[DnsArm, CellSeen]]) -> tuple[CellSeen, CellSeen] | None:
    """The cell with 10 and the one with 1000 slots over TCP, both whole, of one thread."""
    by_slots = {settings(arm).incoming_num_tcp: cell for arm, cell in group
                if settings(arm).threads == 1 and cell.cell.transport == "tcp" and cell.whole and cell.knee and cell.cell.cached_share < 1}
    return (by_slots[DEFAULT], by_slots[CURE]) if {DEFAULT, CURE} <= set(by_slots) else None


def _below(few: Knee | None, many: Knee | None) -> bool:
    return few is not None and many is not None and few.per_s is not None and few.high is not None and few.high < many.low


def _figures(found: Sequence[tuple[CellSeen, CellSeen]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for few, many in found:
        for slots, cell in ((DEFAULT, few), (CURE, many)):
            figures |= _knee(f"{cell.cell.name}, {slots} slots", cell.knee)
            figures[f"{cell.cell.name}, most of {slots} slots in use"] = float(cell.slots_max)
    return figures


def _knee(name: str, knee: Knee | None) -> dict[str, float]:
    if knee is None:
        return {}
    if knee.per_s is None or knee.high is None:
        return {f"{name}, bear_per_s": round(knee.low, 1)}
    return {f"{name}, knee_per_s{end}": round(v, 1) for end, v in (("", knee.per_s), ("_low", knee.low), ("_high", knee.high))}


def _text(knee: Knee | None) -> str:
    return knee.text if knee is not None else "not measured"


def _versions(arms: Sequence[ArmHistory]) -> str:
    return ", ".join(sorted({settings(a).version for a in arms} - {""})) or "of a version not recorded"


def _undecided(why: str) -> Finding:
    return Finding(CLAIM, ClaimResult.UNDECIDED, why)

"""The figures of an arm of the DNS laboratory: of each cell its knee with the interval, and what unbound had to bear."""

from __future__ import annotations

from typing import Any

from harness.store.dnslab import CellSeen, account, asked, cells, settings
from harness.store.history import ArmHistory


def dns_figures(arm: ArmHistory) -> dict[str, Any]:
    """Name with unit → number. A knee that was not found has no figure; ``_tested_per_s`` says how far was looked."""
    found: dict[str, Any] = {"queries": asked(arm), "tcp_slots": settings(arm).slots}
    grew = account(arm)
    if grew.get("resolver"):
        found["unbound_per_query"] = round(grew["resolver"] / asked(arm), 4) if asked(arm) else None
    for cell in cells(arm):
        found |= {f"{cell.cell.name}_{name}": value for name, value in _cell(cell).items()}
    return {k: v for k, v in found.items() if v is not None}


def _cell(cell: CellSeen) -> dict[str, float | None]:
    knee = cell.knee
    worst = max((s for s in cell.steps if s.sent), key=lambda s: s.per_s, default=None)
    return {
        "knee_per_s": round(knee.per_s, 1) if knee and knee.per_s is not None else None,
        "knee_above_per_s": round(knee.low, 1) if knee else None,
        "tested_per_s": knee.tested if knee else None,
        "at_the_top_failed_share": round(worst.failed_share, 4) if worst else None,
        "at_the_top_p95_ms": worst.quantile_ms(0.95) if worst else None,
        "slots_max": cell.slots_max, "waiting_max": cell.waiting_max,
        "unbound_per_query": round(cell.amplification, 3) if cell.amplification else None,
        "reused_share": round(cell.reused / (cell.reused + cell.opened), 4) if cell.reused + cell.opened else None,
    }  # fmt: skip

"""What the evidence of a load of DNS queries asks for, beside what every load does: used by the checks of evidence, no check itself."""

from __future__ import annotations

from harness.model.dnslab import LabLoad
from harness.store.dnslab import account, asked, cells
from harness.store.history import ArmHistory

#: Queries that the caches counted may differ from those that were sent by this share.
RESIDUAL_MAX = 0.01
#: Series that must not have gaps.
SERIES = ("load_state", "host", "dns_resolver")
PHASES = ("load", "census")


def gaps(arm: ArmHistory) -> list[str]:
    """What is missing of the record: cells, settings, accounts, and queries that the sums do not hold."""
    return [*_cells(arm), *_settings(arm), *_account(arm)]


def queries(arm: ArmHistory, begin: int, end: int) -> int:
    """Queries whose end is on record within a stretch of time."""
    return sum(len(str(e.get("how", ""))) for e in arm.events("dns_queries") if begin <= int(e["t"]) <= end)


def _cells(arm: ArmHistory) -> list[str]:
    seen = {c.cell.name: c for c in cells(arm)}
    wanted = [c.name for c in LabLoad.of(arm.plan.load.params).cells_of(arm.name)]
    missing = [n for n in wanted if n not in seen]
    found = [f"the cell {n} was not run" for n in missing]
    return found + [f"the cell {n} did not come to its end" for n in wanted if n in seen and not (seen[n].whole and seen[n].steps)]


def _settings(arm: ArmHistory) -> list[str]:
    return [] if arm.events("dns_settings") else ["unbound did not say with which settings it ran"]


def _account(arm: ArmHistory) -> list[str]:
    """The sums: what was sent is what the caches got; each query of theirs reached unbound or was given up."""
    found, sent = account(arm), asked(arm)
    if "resolver" not in found or found["places"] < 2:
        return ["the accounts before and after the load are not both on record"]
    if not sent:
        return ["nothing was sent"]
    off = abs(found["caches"] - sent) / sent
    return [f"{sent} queries were sent and the caches counted {found['caches']}: {off:.1%} are not explained"] if off > RESIDUAL_MAX else []

"""T32a of force_tcp, in the DNS laboratory: with force_tcp every query of a node cache reaches unbound over TCP, without it none.

Counted by unbound itself (``num.query.tcp``), cell by cell. *Confirmed under conditions* when all queries of the TCP cells came over TCP and at most
1 % of the UDP cells' did: it is the option that forces TCP, and node-local-dns sets it for the cluster's own zones only since 2020
(kubernetes PR 93471). *Refuted* when a forwarder with force_tcp asked over UDP. *Undecided* where one of both ways was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.dnslab import CellSeen, cells
from harness.store.history import ArmHistory

#: Not "T32a" alone: that is about the add-on as it is deployed (claims.t32a), this is about what the option does.
CLAIM = "T32a of force_tcp"
#: Edges of a cell are as sharp as the samples, so a few queries of its neighbour may count for it.
SLACK = 0.01


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of it."""
    if plan.load.kind != "dns":
        return Finding(CLAIM, ClaimResult.UNDECIDED, "the plan has no load of DNS queries")
    seen = [c for arm in arms for c in cells(arm) if c.whole and c.reached]
    tcp, udp = (_share([c for c in seen if c.cell.transport == way]) for way in ("tcp", "udp"))
    figures = {f"over TCP, {name}_share": round(v, 4) for name, v in (("with force_tcp", tcp), ("without", udp)) if v is not None}
    if tcp is None or udp is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "only one of both ways was measured", figures)
    told = f"unbound got {tcp:.1%} of the queries over TCP with force_tcp, {udp:.1%} without"
    if tcp < 1 - SLACK:
        return Finding(CLAIM, ClaimResult.REFUTED, told, figures)
    if udp > SLACK:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"{told}: the ways were not apart", figures)
    conditions = "where the forwarder has force_tcp; node-local-dns has had it for the cluster's own zones only since 2020"
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, conditions)


def _share(seen: Sequence[CellSeen]) -> float | None:
    total = sum(c.reached for c in seen)
    return sum(c.reached_tcp for c in seen) / total if total else None

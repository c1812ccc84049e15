"""T32b in mail: what unbound's default of 10 TCP slots costs where node caches force TCP: deferred mail, retries, delivery latency.

Compares, block by block, the arm with 10 slots and the one that differs by ``unbound-slots-1000`` alone, under the same mail and the same look-ups beside
it. The slots *matter* when more than 1 % of the look-ups fail with 10 and not with 1000 (nor, where there is such an arm, with 10 over UDP): else the load was
too small, or something else was the limit, and the claim is undecided. *Confirmed under conditions* when mail pays for it: DNS held up more mails, outside
senders had to come again (5 attempts more at least), or the p99 of ordinary mail or of mail that leaves is 1.5 times as long. *Refuted* when the slots matter and mail pays
nothing. It is never confirmed without conditions: how much it costs goes with the rate of queries and the time that an answer takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.claims.dns_layers import dns_figures
from harness.claims.pairs import arms_apart, pairs, ratio
from harness.claims.stats import BLOCKS_MIN
from harness.claims.t31 import FORCED, VARIANT
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.deliveries import outgoing
from harness.store.dns import lookups
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency

CLAIM = "T32b in mail"
SLOTS = "unbound-slots-1000"
FAILED_SHARE_MAX = 0.01
LONGER_MIN = 1.5
RETRIES_MIN = 5


@dataclass(frozen=True)
class Price:
    """What DNS cost an arm, or several together: shares and numbers of mails."""

    failed_share: float
    held_up: int
    retries: int
    slots_max: float

    @classmethod
    def of(cls, arms: Sequence[ArmHistory]) -> Price | None:
        """Of all ``arms``; None where look-ups or mail that leaves were not measured in one."""
        looked, left = [lookups(a) for a in arms], [outgoing(a.dir) for a in arms]
        if not arms or None in looked or None in left:
            return None
        count, failed = sum(k.count for k in looked if k), sum(k.failed for k in looked if k)
        slots = max((dns_figures(a).get("dns_unbound_slots_max") or 0.0 for a in arms), default=0.0)
        return cls(failed / count, sum(o.held_up for o in left if o), sum(_retries(a) for a in arms), slots)

    def figures(self, name: str) -> dict[str, float]:
        """Its numbers, under ``name``."""
        return {f"{name}_failed_share": round(self.failed_share, 4), f"{name}_held_up": float(self.held_up), f"{name}_retries": float(self.retries),
                f"{name}_slots_max": self.slots_max}


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of it."""
    names = arms_apart(plan, SLOTS)
    found = pairs(arms, *names) if names else []
    few, many = Price.of([a for a, _ in found]), Price.of([b for _, b in found])
    if few is None or many is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"no block has two arms that differ by {SLOTS} alone, with look-ups and mail that leaves measured in both")
    longer = {name: r for name, value in (("ordinary", _ordinary_p99), ("outgoing", _outgoing_p99)) if (r := ratio([(b, a) for a, b in found], value)) is not None}
    udp = Price.of([a for a in arms if VARIANT in a.plan_arm.variants and not {FORCED, SLOTS} & set(a.plan_arm.variants)])
    figures = few.figures("10") | many.figures("1000") | {"blocks": float(len(found))} | (udp.figures("10_udp") if udp else {})
    for name, one in longer.items():
        figures |= one.figures(f"{name}_p99")
    told = (f"with 10 slots {few.failed_share:.1%} of the look-ups failed, {few.held_up} mails were held up by DNS and {few.retries} attempts were retries, "
            f"with 1000 {many.failed_share:.1%}, {many.held_up} and {many.retries}")
    told += "".join(f"; p99 of {name} mail ×{one.text}" for name, one in longer.items())
    if why := _not_the_slots(few, many, udp):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"{told}: {why}", figures)
    paid = few.held_up > many.held_up or few.retries >= many.retries + RETRIES_MIN or any(one.value >= LONGER_MIN for one in longer.values())
    conditions = f"at {plan.look_ups_per_s:g} look-ups a second from each of two pods beside the mail, as far from the internet's DNS as the plan says"
    conditions += f"; n={len(found)} of {BLOCKS_MIN} blocks" if len(found) < BLOCKS_MIN else ""
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS if paid else ClaimResult.REFUTED, told, figures, conditions)


def _not_the_slots(few: Price, many: Price, udp: Price | None) -> str:
    """Why the number of slots was not what mattered; "" when it was."""
    if few.failed_share <= FAILED_SHARE_MAX:
        return "10 slots were enough for this load"
    if many.failed_share > FAILED_SHARE_MAX:
        return "look-ups fail with 1000 slots as well, so something else was the limit"
    return "over UDP they fail as well, so something else was the limit" if udp and udp.failed_share > FAILED_SHARE_MAX else ""


def _retries(arm: ArmHistory) -> int:
    """Attempts of outside senders and users beyond the first of each mail."""
    return int(arm.one("SELECT count(*) FROM invokes")) - int(arm.one("SELECT count(*) FROM (SELECT DISTINCT mail, rcpt FROM invokes)"))


def _ordinary_p99(arm: ArmHistory) -> float | None:
    found = ordinary_latency(arm)
    return found.p99_ms if found and found.watched else None


def _outgoing_p99(arm: ArmHistory) -> float | None:
    found = outgoing(arm.dir)
    return found.p99_s if found and found.p99_s else None

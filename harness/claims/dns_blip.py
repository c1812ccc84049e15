"""DNS blip: a DNS failure of seconds holds mail up for the MTA's minimum back-off.

Looks at every arm with a DNS fault and at the control without one: look-ups that failed inside pods, deliveries that DNS deferred (4.4.3), the longest
delay of such a mail, beside the fault's own length. Postfix tries again after ``minimal_backoff_time`` (300 s over the plan's time scale), so that
is what a blip costs. *Confirmed* when in some arm mail was held up longer than the fault lasted, and longer than in the control by half a
back-off at least (at time scale 1; under conditions at another); *refuted* when DNS deferred mail and none was; undecided when it deferred none.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.deliveries import Outgoing, outgoing
from harness.store.dns import lookups
from harness.store.history import SECOND, ArmHistory

CLAIM = "DNS blip"
BACKOFF_S = 300.0


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of it, an arm a clause."""
    struck = [(a, length, out) for a in arms if (length := fault_s(a)) is not None and (out := outgoing(a.dir)) is not None]
    quiet = [out for a in arms if fault_s(a) is None and (out := outgoing(a.dir)) is not None]
    if not struck or not quiet:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm with a fault, or none without, sent mail outside")
    usual = max(o.p99_s for o in quiet)
    figures: dict[str, float] = {"control_p99_s": usual}
    for arm, length, out in struck:
        figures |= _figures(arm, length, out)
    held = [(a, length, out) for a, length, out in struck if out.held_up]
    if not held:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no fault made DNS defer a mail", figures)
    backoff = BACKOFF_S / plan.time_scale
    costly = [(a, length, out) for a, length, out in held if out.longest_held_s > length and out.longest_held_s > usual + backoff / 2]
    told = "; ".join(f"{a.label}: {out.held_up} mails held up by a fault of {length:.0f} s, the longest {out.longest_held_s:.1f} s" for a, length, out in costly or held)
    if not costly:
        return Finding(CLAIM, ClaimResult.REFUTED, told, figures)
    if plan.time_scale > 1:
        return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, f"time scale {plan.time_scale:g}: a back-off of {backoff:.0f} s stands for 300 s")
    return Finding(CLAIM, ClaimResult.CONFIRMED, told, figures)


def fault_s(arm: ArmHistory) -> float | None:
    """How long the arm's DNS faults lasted, from the first begin to the last undone; None when none struck."""
    mine = [e for e in arm.events("fault") if e.get("fault") == "dns_fault" or "dns" in str(e.get("name"))]
    begun, over = [e["t"] for e in mine if e.get("edge") == "begin"], [e["t"] for e in mine if e.get("edge") in ("end", "undone")]
    return (max(over) - min(begun)) / SECOND if begun and over else None


def _figures(arm: ArmHistory, length: float, out: Outgoing) -> dict[str, float]:
    seen = lookups(arm)
    found = {"fault_s": length, "held_up": float(out.held_up), "bounced": float(out.bounced), "longest_held_s": out.longest_held_s}
    found |= {"lookups_failed": float(seen.failed), "lookups_failing_s": seen.recovered_s} if seen else {}
    return {f"{arm.label} {name}": round(value, 3) for name, value in found.items()}

"""T38: maintenance at any time, without impact, if it was built for no downtime.

Looks at every arm with a rolling drain. *Confirmed* when the workers were emptied in turn, no acknowledged mail was lost and no session broke;
*confirmed under conditions* when nothing was lost but sessions broke (how many, and how soon users were back, is said); *refuted* when mail was lost.
Undecided where the maintenance is not proven, or mail is unaccounted for.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.impact import impacts
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory

CLAIM = "T38"


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T38."""
    names = {f.name for f in plan.faults if f.kind == "rolling_drain"}
    rolled = [a for a in arms if any(e.get("name") in names for e in a.events("fault"))]
    found = impacts(rolled)
    figures = {k: v for i in found for k, v in i.figures().items()}
    text = "; ".join(i.text for i in found)
    if lost := sum(i.lost for i in found):
        return Finding(CLAIM, ClaimResult.REFUTED, f"{lost} acknowledged mails lost during maintenance: {text}", figures)
    if not found or len(found) < len(rolled) or any(i.unaccounted for i in found):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"the maintenance is not proven in every arm, or not every mail is accounted for. {text}".rstrip(), figures)
    if not any(i.sessions for i in found):
        return Finding(CLAIM, ClaimResult.CONFIRMED, f"nobody noticed: {text}", figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, f"no mail was lost, but sessions broke: {text}", figures,
                   "mail is never lost; users whose backend moves must log in again, so it is not without impact on them")

"""A node lost without a word (T13, T35): when the cluster noticed, when the work of its pods was done elsewhere, and what it cost.

Looks at every arm with a crashed, stopped or paused node. Decides on mail alone: *confirmed* when every acknowledged mail is there in every arm; *refuted* when
one was lost. The times (seconds from the loss) are figures: ``not_ready`` (the cluster noticed), ``forced`` (pods deleted by hand), ``replaced``
(every workload whole without the node). Undecided where a loss is not proven, or mail is unaccounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.claims.impact import ends, impact
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory

CLAIM = "T13, T35"
KINDS = frozenset({"node_crash", "node_stop", "node_pause"})


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of a lost node."""
    names = {f.name for f in plan.faults if f.kind in KINDS}
    hit = [(a, i) for a in arms if any(e.get("name") in names for e in a.events("fault")) and (i := impact(a)) is not None]
    if not hit:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm with a proven loss of a node")
    times = {a.name: _seen(a) for a, _ in hit}
    figures = {k: v for _, i in hit for k, v in i.figures().items()}
    figures |= {f"{arm}_{what}_s": t for arm, found in times.items() for what, t in found.items()}
    text = "; ".join(f"{i.text}; {_told(times[a.name])}" for a, i in hit)
    if any(i.lost for _, i in hit):
        return Finding(CLAIM, ClaimResult.REFUTED, text, figures)
    if any(i.unaccounted for _, i in hit):
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"not every mail is accounted for: {text}", figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED, text, figures)


def _seen(arm: ArmHistory) -> dict[str, float]:
    found: dict[str, float] = {}
    for seen in (e.get("seen") for e in ends(arm)):
        found |= {str(k): float(v) for k, v in seen.items()} if isinstance(seen, Mapping) else {}
    return found


def _told(seen: Mapping[str, float]) -> str:
    if "not_ready" not in seen:
        return "the cluster did not notice in that time"
    replaced = f"everything ready without it after {seen['replaced']:.0f} s" if "replaced" in seen else "nothing replaced it while it was away"
    return f"noticed after {seen['not_ready']:.0f} s, {replaced}"

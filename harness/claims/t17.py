"""T17: probes are the key to self-healing, and take real work.

Looks at every arm in which processes were frozen. A probe noticed when the pod was no longer ready, or its container was started again, while the hang
lasted. *Confirmed* when one arm's probes noticed and another's did not: it depends on the work; *confirmed under conditions* when all noticed; *refuted*
when none did. Undecided where a hang is not proven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.claims.impact import ends, impact
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.history import ArmHistory

CLAIM = "T17"
_WORDS = {"unready_after_s": "out of service after {:.0f} s", "restarted_after_s": "restarted after {:.0f} s"}


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T17."""
    names = {f.name for f in plan.faults if f.kind == "freeze"}
    hung = [a for a in arms if impact(a) is not None and any(e.get("name") in names for e in a.events("fault"))]
    if not hung:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm with a proven hang")
    seen = {a.label: _noticed(a) for a in hung}
    lost = sum(a.fates().counts["lost"] for a in hung)
    figures = {f"{arm}_{what}": t for arm, found in seen.items() for what, t in found.items()} | {"lost": float(lost)}
    text = "; ".join(f"{arm}: {_told(found)}" for arm, found in seen.items()) + f"; {lost} mails lost"
    healed = {arm for arm, found in seen.items() if "restarted_after_s" in found}
    if not any(seen.values()):
        return Finding(CLAIM, ClaimResult.REFUTED, f"no probe noticed: {text}", figures)
    if len(healed) < len(seen) and healed:
        return Finding(CLAIM, ClaimResult.CONFIRMED, f"whether it heals depends on the probes: {text}", figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, text, figures, f"{len(seen)} arms, all alike in whether the container was restarted")


def _noticed(arm: ArmHistory) -> dict[str, float]:
    """The first time each thing was seen, over all pods."""
    found: dict[str, float] = {}
    for pods in (e.get("noticed") for e in ends(arm)):
        for times in (pods.values() if isinstance(pods, Mapping) else ()):
            for what, t in times.items():
                found[what] = min(found.get(what, float(t)), float(t))
    return found


def _told(found: Mapping[str, float]) -> str:
    return ", ".join(_WORDS[k].format(found[k]) for k in _WORDS if k in found) or "no probe noticed"

"""T01: three of everything, so that mail does not notice when a part of the control plane is lost.

Looks at arms in which a part was taken away. *Confirmed* (*under conditions* with fewer than 6 blocks): in each, mail was accepted while the part was gone, no
more than 1 % of its attempts broke, and no acknowledged mail was lost. *Refuted*: one of that is not so. Undecided: the fault is not shown, or nothing was sent meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.pairs import lost
from harness.claims.slowed import proven
from harness.claims.stats import BLOCKS_MIN
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.broken import broken
from harness.store.history import ArmHistory, Span

CLAIM, KIND = "T01", "control_plane_loss"
BROKEN_SHARE_MAX = 0.01


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T01."""
    hit = [a for a in arms if proven(a, KIND)]
    counts = {a.label: [b for w in _gone(a) for b in broken(a, w) if b.proto == "smtp"] for a in hit}
    if not hit or not all(sum(b.count for b in found) for found in counts.values()):
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm shows mail while a part of the control plane was gone")
    sent = {name: sum(b.count for b in found) for name, found in counts.items()}
    bad = {name: sum(len(b.times) for b in found) for name, found in counts.items()}
    gone = lost(hit)
    figures = {f"{n}_sessions": float(v) for n, v in sent.items()} | {f"{n}_failed": float(v) for n, v in bad.items()} | {"lost": float(gone)}
    told = "; ".join(f"{n}: {bad[n]} of {sent[n]} sessions failed meanwhile" for n in sent) + f"; {gone} mails lost"
    if gone or any(bad[n] > BROKEN_SHARE_MAX * sent[n] for n in sent):
        return Finding(CLAIM, ClaimResult.REFUTED, told, figures)
    blocks = len({a.block for a in hit})
    if blocks >= BLOCKS_MIN:
        return Finding(CLAIM, ClaimResult.CONFIRMED, told, figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, f"n={blocks} of {BLOCKS_MIN} blocks")


def _gone(arm: ArmHistory) -> list[Span]:
    """From each loss to its end."""
    mine = [e for e in arm.events("fault") if e.get("fault") == KIND]
    ends = {e.get("name"): int(e["t"]) for e in mine if e.get("edge") == "end"}
    return [Span(int(e["t"]), ends[e.get("name")]) for e in mine if e.get("edge") == "begin" and e.get("name") in ends]

"""What a fault did to those who use the platform: sessions that broke while it lasted, how long until users were back, mail lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.store.broken import broken
from harness.store.history import SECOND, ArmHistory, Span

#: Sessions that break so long after a fault is undone still count as its doing.
GRACE_S = 10


@dataclass(frozen=True)
class Impact:
    """One arm.

    :param span: from the first fault's begin until the last was undone, and a grace. :param broken: protocol → sessions that broke then.
    :param back_s: longest time a reading user was without a session; None when none lost one. :param unaccounted: mails whose end is not known.
    """

    arm: str
    span: Span
    broken: dict[str, int]
    back_s: float | None
    lost: int
    unaccounted: int

    @property
    def sessions(self) -> int:
        return sum(self.broken.values())

    @property
    def text(self) -> str:
        """For a sentence."""
        protos = ", ".join(f"{n} {proto}" for proto, n in sorted(self.broken.items()) if n) or "no"
        back = f", users back within {self.back_s:.1f} s" if self.back_s is not None else ""
        return f"{self.arm}: {protos} sessions broke{back}, {self.lost} mails lost"

    def figures(self) -> dict[str, float]:
        """``<arm>_<proto>_broken`` and its like."""
        found = {f"{self.arm}_{proto}_broken": float(n) for proto, n in self.broken.items()} | {f"{self.arm}_lost": float(self.lost)}
        return found | ({f"{self.arm}_back_s": round(self.back_s, 2)} if self.back_s is not None else {})


def impact(arm: ArmHistory) -> Impact | None:
    """What the arm's faults did; None where not every planned fault began, was proven and undone, or the load is not on record."""
    planned = {f.name for f in arm.plan.faults if not f.arms or arm.name in f.arms}
    edges = {n: {str(e.get("edge")): int(e["t"]) for e in of(arm, n)} for n in planned}
    if not planned or arm.judged is None or any("failed" in e or not {"begin", "evidence", "undone"} <= set(e) for e in edges.values()):
        return None
    span = Span(min(e["begin"] for e in edges.values()), max(e["undone"] for e in edges.values()) + GRACE_S * SECOND)
    counts = arm.fates().counts
    backs = [float(e["after_ns"]) / SECOND for e in arm.events("reader_back") if span.begin <= e["t"] <= span.end]
    return Impact(
        arm.name, span, {b.proto: len(b.times) for b in broken(arm, span)}, max(backs, default=None), counts["lost"],
        counts["undetermined"] + counts["queued"],
    )


def of(arm: ArmHistory, fault: str) -> list[dict[str, Any]]:
    """The events of one fault, by time."""
    return [e for e in arm.events("fault") if e.get("name") == fault]


def ends(arm: ArmHistory) -> list[dict[str, Any]]:
    """The details of each fault's ``end``."""
    return [dict(e.get("detail") or {}) for e in arm.events("fault") if e.get("edge") == "end"]


def impacts(arms: Sequence[ArmHistory]) -> list[Impact]:
    """Of every arm whose faults are proven."""
    return [i for i in map(impact, arms) if i is not None]

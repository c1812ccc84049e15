"""Two runs of one plan side by side: what changed, by how much, and whether that is more than chance.

Figures that vary are compared as a ratio of geometric means over the blocks, with Welch's t-interval on the logarithms; it needs at least 6 blocks
on each side, else the ratio is told with "n too small". With k intervals one of them may lie beyond 1 by chance, so a *regression*
asks for an interval at level 1 − 0.05/k (Bonferroni) wholly on the worse side, and for a change of at least ``effect_min``. Promises (no mail
lost, none damaged) do not vary: broken where they were kept before is a regression with any number of blocks.
Losses under faults are bounded per fault (Clopper-Pearson, one-sided 95 %), since the mails of one fault share its fate.

Limits: runs at different times differ in more than what was changed on purpose; what is known to differ is in ``differs``. Only ratios
of runs on one host mean anything. The false-difference rate of a set-up is known from A/A runs only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from harness.claims.stats import BLOCKS_MIN
from harness.claims.student import share_at_most, welch
from harness.errors import UsageError
from harness.judge.extract import ArmExtract, Extract

LEVEL = 0.95
EFFECT_MIN = 0.05
#: Figure → +1 more is better, −1 less is better, 0 neither.
VARYING: dict[str, int] = {
    "intake_per_s": 0, "goodput_per_s": 1, "ordinary_p50_ms": -1, "ordinary_p99_ms": -1, "imap_p50_ms": -1, "imap_p99_ms": -1,
    "pop3_p50_ms": -1, "pop3_p99_ms": -1, "drain_s": -1, "queue_max": 0, "amplification": -1,
}
#: Counts that must be 0.
PROMISES: tuple[str, ...] = (
    "lost", "corrupted", "misdelivered", "unknown", "bounced", "quarantined_unplanted", "rejected_but_delivered", "duplicates_unexplained",
)
SAME, BETTER, WORSE, REGRESSION, OTHER, UNKNOWN = "same", "better", "worse?", "REGRESSION", "changed", "n too small"


@dataclass(frozen=True)
class Difference:
    """One figure in one arm.

    :param ratio: B's value for one of A's; None for promises, whose counts are ``a`` and ``b``.
    :param low, high: 95 % interval of the ratio; None with too few blocks.
    :param verdict: ``same``, ``better``, ``worse?`` (its own interval says so, all together do not), ``REGRESSION``, ``changed``, ``n too small``.
    """

    arm: str
    figure: str
    a: float
    b: float
    n_a: int
    n_b: int
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str

    @property
    def text(self) -> str:
        """The effect and its interval in words."""
        if self.ratio is None:
            return f"{self.a:g} → {self.b:g}"
        if self.low is None or self.high is None:
            return f"× {self.ratio:.3f} (n={min(self.n_a, self.n_b)} too small, no interval: {BLOCKS_MIN} blocks are needed)"
        return f"× {self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n_a} and {self.n_b})"


@dataclass(frozen=True)
class LossBound:
    """Losses under faults in one arm of one run. ``at_most``: of faults that lose mail, at 95 %."""

    side: str
    arm: str
    faults: int
    with_loss: int
    custody: int
    at_most: float

    @property
    def text(self) -> str:
        held = f", {self.custody} mails in the victims' custody" if self.custody >= 0 else ""
        return f"{self.side} {self.arm}: {self.with_loss} of {self.faults} faults lost mail{held}: at most {self.at_most:.0%} per fault at 95 %"


@dataclass(frozen=True)
class Comparison:
    """A and B side by side. ``left_out``: blocks without sound evidence; ``differs``: conditions that are not the same."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    bounds: tuple[LossBound, ...]
    differs: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    effect_min: float = EFFECT_MIN
    intervals: int = field(default=0)

    @property
    def regressions(self) -> tuple[Difference, ...]:
        """What got worse beyond chance."""
        return tuple(d for d in self.differences if d.verdict == REGRESSION)

    @property
    def exit_code(self) -> int:
        """6 with a regression; 5 when nothing could be compared by interval; else 0."""
        return 6 if self.regressions else 0 if self.intervals else 5

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        if self.regressions:
            found = "; ".join(f"{d.figure} in {d.arm} {d.text}" for d in self.regressions[:3])
            more = f", and {len(self.regressions) - 3} more" if len(self.regressions) > 3 else ""
            return f"REGRESSION: {found}{more}."
        if not self.intervals:
            return f"INCONCLUSIVE: no figure has {BLOCKS_MIN} blocks with sound evidence on both sides, so no difference can be told from chance."
        return f"No regression: {self.intervals} figures compared, no change of {self.effect_min:.0%} or more for the worse beyond chance."

    def to_json(self) -> str:
        """Everything as JSON."""
        made = {**asdict(self), "sentence": self.sentence, "exit_code": self.exit_code}
        for one, d in zip(made["differences"], self.differences, strict=True):
            one["text"] = d.text
        return json.dumps(made, indent=1, allow_nan=False) + "\n"


def compare(a: Extract, b: Extract, *, effect_min: float = EFFECT_MIN) -> Comparison:
    """What changed from ``a`` to ``b``.

    :param effect_min: a smaller change for the worse is no regression, however sure it is (0.05 = 5 %).
    :raises UsageError: other plans, or no arm in common.
    """
    if a.plan != b.plan:
        raise UsageError(f"runs of two plans cannot be compared: {a.plan} and {b.plan}", where=f"{a.run_id}, {b.run_id}")
    arms = [name for name in a.arms if name in b.arms]
    if not arms:
        raise UsageError("the runs have no arm in common", where=f"{a.run_id}, {b.run_id}")
    pairs = [(name, f, a.arms[name], b.arms[name]) for name in arms for f in VARYING if _values(a.arms[name], f) and _values(b.arms[name], f)]
    intervals = sum(_enough(x, f) and _enough(y, f) for _, f, x, y in pairs)
    varying = [_varying(name, f, x, y, max(intervals, 1), effect_min) for name, f, x, y in pairs]
    promises = [d for name in arms for p in PROMISES if (d := _promise(name, p, a.arms[name], b.arms[name]))]
    bounds = [bound for name in arms for side, e in (("A", a), ("B", b)) if (bound := _bound(side, name, e.arms[name]))]
    left = [f"{side} {n}: {e.arms[n].left_out} blocks without sound evidence left out" for side, e in (("A", a), ("B", b)) for n in arms if e.arms[n].left_out]
    differs = [k for k in a.conditions if a.conditions[k] != b.conditions.get(k)]
    return Comparison(a.run_id, b.run_id, (*promises, *varying), tuple(bounds), tuple(differs), tuple(left), effect_min, intervals)


def _values(arm: ArmExtract, figure: str) -> list[float]:
    """The figure in every block that has it above 0: of 0 there is no ratio."""
    return [v for block in arm.blocks if (v := block.get(figure, 0.0)) > 0]


def _enough(arm: ArmExtract, figure: str) -> bool:
    return len(_values(arm, figure)) >= BLOCKS_MIN


def _varying(arm: str, figure: str, a: ArmExtract, b: ArmExtract, family: int, effect_min: float) -> Difference:
    x, y = _values(a, figure), _values(b, figure)
    logs = [math.log(v) for v in x], [math.log(v) for v in y]
    means = [math.exp(math.fsum(part) / len(part)) for part in logs]
    ratio, verdict = means[1] / means[0], UNKNOWN
    low: float | None = None
    high: float | None = None
    if _enough(a, figure) and _enough(b, figure):
        _, low, high = (math.exp(v) for v in welch(*logs, LEVEL))
        strict = tuple(math.exp(v) for v in welch(*logs, 1 - (1 - LEVEL) / family)[1:])
        verdict = _verdict(VARYING[figure], ratio, (low, high), strict, effect_min)
    return Difference(arm, figure, means[0], means[1], len(x), len(y), ratio, low, high, verdict)


def _verdict(sense: int, ratio: float, own: Sequence[float], strict: Sequence[float], effect_min: float) -> str:
    if own[0] <= 1 <= own[1]:
        return SAME
    if sense == 0:
        return OTHER
    if (ratio > 1) == (sense > 0):
        return BETTER
    beyond = not strict[0] <= 1 <= strict[1]
    large = max(ratio, 1 / ratio) - 1 >= effect_min
    return REGRESSION if beyond and large else WORSE


def _promise(arm: str, figure: str, a: ArmExtract, b: ArmExtract) -> Difference | None:
    """Told only where it was broken on either side; None else, or without a block."""
    before, now = (sum(block.get(figure, 0.0) for block in side.blocks) for side in (a, b))
    if not (a.blocks and b.blocks) or not (before or now):
        return None
    verdict = REGRESSION if now and not before else BETTER if before and not now else OTHER
    return Difference(arm, figure, before, now, len(a.blocks), len(b.blocks), None, None, None, verdict)


def _bound(side: str, name: str, arm: ArmExtract) -> LossBound | None:
    if not arm.faults:
        return None
    return LossBound(side, name, arm.faults, arm.with_loss, arm.custody, round(share_at_most(arm.with_loss, arm.faults), 4))

"""The conservation account of DNS queries between layers: what one layer sends, the next one gets. Pure, judged.

``received = sent − cache hits + prefetch + probes + retries + …``: each step names its terms, and what they do not explain
is its residual. A residual above the tolerance means that a layer or an instrument is not understood, so nothing that rests on the
counts may pass: INCONCLUSIVE. An account can never make a run PASS or FAIL by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.dns import CaptureQuality
from harness.model.verdict import Status

#: Of what should have arrived; between logs, counters and captures of different layers.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Step:
    """From one layer to the next.

    :param above: who sends; :param below: who gets.
    :param sent: queries that ``above`` has to pass on before the terms are applied (None = not known).
    :param received: queries that ``below`` got (None = not known).
    :param terms: name → signed number of queries that explain a difference (``cache hits`` is negative).
    :param tolerance: share of the expected number that may stay unexplained; 0 between two captures of the same wire.
    """

    above: str
    below: str
    sent: int | None
    received: int | None
    terms: Mapping[str, int] = field(default_factory=dict)
    tolerance: float = TOLERANCE

    @property
    def expected(self) -> int | None:
        """What ``below`` should have got."""
        return None if self.sent is None else self.sent + sum(self.terms.values())

    @property
    def residual(self) -> int | None:
        """What is not explained: received minus expected."""
        return None if self.expected is None or self.received is None else self.received - self.expected

    @property
    def share(self) -> float | None:
        """The residual as a share of the larger of expected and received (0 … 1)."""
        if self.residual is None or self.expected is None or self.received is None:
            return None
        return abs(self.residual) / max(self.expected, self.received, 1)

    @property
    def problem(self) -> str:
        """Why this step does not close; "" when it does."""
        where = f"{self.above} → {self.below}"
        if self.expected is None or self.received is None or self.residual is None:
            return f"{where}: not counted"
        if self.expected < 0:
            return f"{where}: the counters contradict each other, {self.expected} queries expected"
        if not self.sent and not self.received:
            return f"{where}: no queries at all"
        if (self.share or 0.0) > self.tolerance:
            return f"{where}: {self.residual:+d} of {self.expected} queries unexplained ({100 * (self.share or 0):.1f} %, at most {100 * self.tolerance:g} %)"
        return ""


@dataclass(frozen=True)
class Account:
    """A settled account. ``status`` is PASS (it closes) or INCONCLUSIVE."""

    steps: tuple[Step, ...]
    status: Status
    problems: tuple[str, ...]


def settle(
    steps: Sequence[Step], *, quiet: Mapping[str, bool], captures: Mapping[str, CaptureQuality] | None = None
) -> Account:
    """Settle the account of a chain of layers.

    :param quiet: layer → whether its traffic had ended before it was counted; a layer that is not named counts as not quiet.
    :param captures: layer → quality of the capture its number comes from, where it comes from one.
    """
    layers = dict.fromkeys(name for s in steps for name in (s.above, s.below))
    problems = [f"{name}: was not quiet when it was counted" for name in layers if not quiet.get(name, False)]
    for name, quality in (captures or {}).items():
        problems += [f"{name}: {flaw}" for flaw in quality.flaws]
    problems += [s.problem for s in steps if s.problem]
    if not steps:
        problems.append("no layers were counted")
    return Account(tuple(steps), Status.INCONCLUSIVE if problems else Status.PASS, tuple(problems))

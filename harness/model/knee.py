"""The rate at which failures pass a share, with an interval: isotonic regression over the steps of a staircase.

The share of failures is taken to never fall as the rate grows (isotonic regression, pool adjacent violators; Barlow et al. 1972).
Between the last step that keeps the share and the first that breaks it nothing was measured, so the point is their geometric mean
and any rate between them counts as likely. The interval is a Monte Carlo one within the run: per draw each step's share comes from
Beta(failed + ½, good + ½) (Jeffreys), with counts divided by the dispersion of failures over the seconds of the step, since
failures come in bunches. Limits: it says nothing of another run; below the lowest and above the highest rate tried it is open.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Step:
    """One rate and what became of its queries.

    :param per_s: queries per second that were due.
    :param dispersion: variance over mean of failures per second, at least 1.
    """

    per_s: float
    sent: int
    failed: int
    dispersion: float = 1.0


@dataclass(frozen=True)
class Knee:
    """Where failures pass the share.

    :param per_s: None = at no rate up to ``tested``.
    :param low: the knee lies above this with 97.5 %; 0 = the lowest step fails already.
    :param high: and below this with 97.5 %; None = open, the highest rate tried may be below it.
    :param tested: the highest rate tried.
    """

    per_s: float | None
    low: float
    high: float | None
    tested: float

    @property
    def text(self) -> str:
        """For a reader, in queries per second."""
        ends = f" ({self.low:.0f} – {self.high:.0f})" if self.high is not None else f" (above {self.low:.0f})" if self.low < self.tested else ""
        return f"{self.per_s:.0f}/s{ends}" if self.per_s is not None else f"none up to {self.tested:.0f}/s{ends}"


def dispersion(failed: Sequence[int]) -> float:
    """Variance over mean of the counts in ``failed``, at least 1: how much failures come in bunches."""
    mean = sum(failed) / len(failed) if failed else 0.0
    if mean == 0 or len(failed) < 2:
        return 1.0
    return max(1.0, sum((n - mean) ** 2 for n in failed) / (len(failed) - 1) / mean)


def find_knee(steps: Iterable[Step], *, share: float, seed: str) -> Knee | None:
    """The knee of ``steps``; None where there is no step with a query.

    :param share: of failures (0 … 1), passed when it is exceeded.
    :param seed: of the draws, so that the same steps give the same interval.
    """
    known = _by_rate(steps)
    if not known:
        return None
    rates, weights = [s.per_s for s in known], [float(s.sent) for s in known]
    at = _crossing(rates, isotonic([s.failed / s.sent for s in known], weights), share, 0.5)
    made = random.Random(seed)
    drawn = sorted(_crossing(rates, isotonic([_draw(s, made) for s in known], weights), share, made.random()) for _ in range(DRAWS))
    low, high = drawn[int(DRAWS * (1 - LEVEL) / 2)], drawn[math.ceil(DRAWS * (1 + LEVEL) / 2) - 1]
    low, high = min(low, at), max(high, at)
    return Knee(None if math.isinf(at) else at, rates[-1] if math.isinf(low) else low, None if math.isinf(high) else high, rates[-1])


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``values`` (weighted least squares), by pooling adjacent violators."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, wa, na), (b, wb, nb) = pools[-2:]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return [value for value, _, n in pools for _ in range(n)]


def _by_rate(steps: Iterable[Step]) -> list[Step]:
    """One step a rate, in order; a rate that was tried several times counts once, with all its queries."""
    found: dict[float, Step] = {}
    for step in (s for s in steps if s.sent > 0):
        had = found.get(step.per_s)
        found[step.per_s] = step if had is None else Step(
            step.per_s, had.sent + step.sent, had.failed + step.failed, max(had.dispersion, step.dispersion)
        )
    return sorted(found.values(), key=lambda s: s.per_s)


def _draw(step: Step, made: random.Random) -> float:
    failed, good = step.failed / step.dispersion, (step.sent - step.failed) / step.dispersion
    return made.betavariate(failed + 0.5, good + 0.5)


def _crossing(rates: Sequence[float], shares: Sequence[float], limit: float, part: float) -> float:
    """The rate a ``part`` (0 … 1) of the way, in logarithms, from the last step that keeps the limit to the first that breaks it."""
    first = next((i for i, s in enumerate(shares) if s > limit), None)
    if first is None:
        return math.inf
    if first == 0:
        return rates[0] * part
    return float(rates[first - 1] * (rates[first] / rates[first - 1]) ** part)

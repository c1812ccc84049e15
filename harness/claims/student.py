"""Quantiles and bounds that the comparison of runs needs, without a library: Student's t at any level, and exact bounds on a share.

Sources: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4 (Student's t for whole degrees of freedom); Clopper and
Pearson, Biometrika 26 (1934) (bounds on a share); Welch, Biometrika 34 (1947) (two samples of unequal variance).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

_STEPS = 80


def within(t: float, degrees: int) -> float:
    """The probability that Student's t with ``degrees`` ≥ 1 degrees of freedom lies between −t and t."""
    theta = math.atan(t / math.sqrt(degrees))
    cos2 = math.cos(theta) ** 2
    odd = degrees % 2 == 1
    term, total, steps = (math.cos(theta) if odd else 1.0), 0.0, range(3 if odd else 2, degrees, 2)
    if not (odd and degrees == 1):
        total = term
    for k in steps:
        term *= cos2 * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total


def quantile(degrees: int, level: float) -> float:
    """The t with ``within(t, degrees) == level``.

    :raises ValueError: fewer than one degree of freedom, or a level outside 0 … 1.
    """
    if degrees < 1 or not 0 < level < 1:
        raise ValueError("Student's t needs a degree of freedom and a level between 0 and 1")
    return _root(lambda t: within(t, degrees) - level, 0.0, 1e9)


def welch(a: Sequence[float], b: Sequence[float], level: float) -> tuple[float, float, float]:
    """(difference of means b − a, its lower and upper bound at ``level``), variances not assumed equal.

    Degrees of freedom are rounded down, which only widens the interval. With no spread at all the interval is the difference itself.

    :raises ValueError: a sample with fewer than two values.
    """
    if len(a) < 2 or len(b) < 2:
        raise ValueError("an interval needs two values on each side")
    middle = statistics.fmean(b) - statistics.fmean(a)
    parts = [statistics.variance(a) / len(a), statistics.variance(b) / len(b)]
    spread = sum(parts)
    if spread <= 0:
        return middle, middle, middle
    degrees = 1 / sum((p / spread) ** 2 / (n - 1) for p, n in zip(parts, (len(a), len(b)), strict=True))
    half = quantile(max(1, math.floor(degrees)), level) * math.sqrt(spread)
    return middle, middle - half, middle + half


def share_at_most(hits: int, n: int, level: float = 0.95) -> float:
    """The upper bound at ``level`` on a share of which ``hits`` of ``n`` were seen; 1 of nothing. 0 of 5 gives 0.45."""
    if n <= 0 or hits >= n:
        return 1.0
    return _root(lambda p: 1 - level - _at_most(hits, n, p), 0.0, 1.0)


def _at_most(hits: int, n: int, p: float) -> float:
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits + 1))


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises crosses 0, by bisection."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return (low + high) / 2

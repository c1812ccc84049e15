"""Intervals over blocks: Student's t on log ratios, from 6 blocks on.

The quantiles of t (two-sided 95 %) are a table, exact to four digits, for up to 30 degrees of freedom and then in steps; between the steps the
next smaller one is taken, which only widens the interval. Source: NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

BLOCKS_MIN = 6
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314,
    2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)
_T975_ABOVE = ((40, 2.0211), (60, 2.0003), (120, 1.9799))


@dataclass(frozen=True)
class Ratio:
    """A ratio over ``n`` blocks; ``low`` and ``high`` are None below 6 blocks ("n=…, no interval")."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """For a sentence: the ratio with its interval, or why there is none."""
        if self.low is None or self.high is None:
            return f"{self.value:.2f} (n={self.n}, no interval)"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, n={self.n})"

    def figures(self, name: str) -> dict[str, float]:
        """``<name>_ratio`` and, with an interval, ``…_low`` and ``…_high``."""
        found = {f"{name}_ratio": round(self.value, 4)}
        if self.low is not None and self.high is not None:
            found |= {f"{name}_ratio_low": round(self.low, 4), f"{name}_ratio_high": round(self.high, 4)}
        return found


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t with ``degrees`` ≥ 1 degrees of freedom.

    :raises ValueError: fewer than 1 degree of freedom.
    """
    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    return next((t for d, t in reversed(_T975_ABOVE) if degrees >= d), _T975[-1])


def ratio_of(pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    """The geometric mean of ``b / a`` over the blocks' (a, b), with its 95 % interval from 6 blocks on.

    None without pairs, or when a value is not above 0 (there is no ratio then).
    """
    if not pairs or any(a <= 0 or b <= 0 for a, b in pairs):
        return None
    logs = [math.log(b / a) for a, b in pairs]
    middle = statistics.fmean(logs)
    if len(logs) < BLOCKS_MIN:
        return Ratio(math.exp(middle), len(logs))
    half = t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), len(logs), math.exp(middle - half), math.exp(middle + half))

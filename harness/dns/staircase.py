"""Which rate comes next: doubled until failures pass the share, then halfway (in logarithms) between the rates around the knee."""

from __future__ import annotations

import math

from harness.model.dnslab import LabLoad

_LOWEST_PER_S = 1.0


class Staircase:
    """One cell's rates, one after the other.

    ::

        while (rate := stairs.next()) is not None:
            stairs.took(rate, sent, failed)
    """

    def __init__(self, load: LabLoad) -> None:
        self._load = load
        self._good, self._bad = 0.0, math.inf
        self._left = load.refine

    def next(self) -> float | None:
        """The next rate in queries per second; None = the knee is known as well as asked for, or lies above the highest rate."""
        if math.isinf(self._bad):
            return self._up()
        if self._left <= 0:
            return None
        self._left -= 1
        between = math.sqrt(self._good * self._bad) if self._good else self._bad / 2
        return round(between, 2) if between >= _LOWEST_PER_S else None

    def took(self, per_s: float, sent: int, failed: int) -> None:
        """What became of a rate. One without a query counts as good: nothing failed."""
        if self.bad(sent, failed):
            self._bad = min(self._bad, per_s)
        else:
            self._good = max(self._good, per_s)

    def bad(self, sent: int, failed: int) -> bool:
        """Whether so many failures pass the share."""
        return bool(sent) and failed / sent > self._load.fail_share

    def _up(self) -> float | None:
        if not self._good:
            return float(self._load.start_per_s)
        return min(self._good * 2, float(self._load.max_per_s)) if self._good < self._load.max_per_s else None

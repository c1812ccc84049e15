"""Zipf's law over a finite number of things: the k-th most popular is asked for in proportion to 1 / k**s. Pure."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

#: Where the lab answers every name (wildcard MX and TXT, TTL ``ZIPF_TTL`` of run-params).
ZONE = "zipf.example.net"


class Zipf:
    """Ranks 1 … ``count`` with exponent ``s`` (1 is what resolvers' logs show, roughly; 0 is uniform).

    :raises ValueError: no rank, or a negative exponent.
    """

    def __init__(self, count: int, s: float = 1.0) -> None:
        if count < 1 or s < 0:
            raise ValueError(f"no distribution: {count} ranks, exponent {s:g}")
        weights = list(accumulate(k**-s for k in range(1, count + 1)))
        self._upto = [w / weights[-1] for w in weights]

    def rank(self, share: float) -> int:
        """The rank at ``share`` (0 ≤ share < 1) of all draws; a uniform share gives Zipf's law."""
        return min(bisect_left(self._upto, share), len(self._upto) - 1) + 1


def domain(rank: int) -> str:
    """The mail domain of a rank."""
    return f"d{rank}.{ZONE}"

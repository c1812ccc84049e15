"""How long an MTA waits before it tries again: postconf(5) minimal_backoff_time and maximal_backoff_time.

Postfix makes a deferred message wait as long as it has been in the queue, within these bounds, which doubles the wait each time.
Here the doubling is explicit, a seeded jitter stands for the grid of queue runs, and all is divided by the time scale.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.load.params import Params


@dataclass(frozen=True)
class Backoff:
    """A schedule in real seconds (time scale already applied).

    :param jitter: each wait is multiplied by a factor from 1 − jitter … 1 + jitter.
    """

    min_s: float
    max_s: float
    jitter: float

    @classmethod
    def of(cls, params: Params, time_scale: float) -> Backoff:
        """The schedule of a scenario."""
        return cls(params.min_backoff_s / time_scale, params.max_backoff_s / time_scale, params.backoff_jitter)

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (1, 2, …)."""
        plain = min(self.min_s * 2.0 ** min(failures - 1, 60), self.max_s)
        return plain * (1 + self.jitter * (2 * rng.random() - 1))

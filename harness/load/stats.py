"""What the engine counts and times, cheap enough for every mail: counts by name, latency histograms per protocol step.

Recording a latency appends one number to a list; lists are folded into buckets of microseconds with eight significant bits (error
≤0.4 %) when they are read, or full. HdrHistograms (3 digits) are made of these when the load ends; Locust gets the increments
since its last report.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

_HIGHEST_US = 3_600_000_000
_FULL = 4096  #: samples kept as they came
_PAGE = resource.getpagesize()
_STATM = Path("/proc/self/statm")


def quantised(us: NDArray[np.int64]) -> NDArray[np.int64]:
    """``us`` cut to eight significant bits."""
    shift = np.maximum(np.frexp(us.astype(np.float64))[1] - 8, 0)
    cut: NDArray[np.int64] = (us >> shift) << shift
    return cut


class Timing:
    """Latencies of one step."""

    __slots__ = ("buckets", "count", "fails", "fresh", "fresh_fails", "octets", "sample", "samples", "total_us")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.fresh: dict[int, int] = {}
        self.samples: list[int] = []  #: in ns, not yet in ``fresh``
        self.sample = self.samples.append  #: :meth:`add` for those who know that :meth:`take` is called a few times a second
        self.count = self.fails = self.fresh_fails = self.octets = self.total_us = 0

    def add(self, ns: int, failed: bool = False, octets: int = 0) -> None:
        """One sample."""
        samples = self.samples
        samples.append(ns)
        if len(samples) >= _FULL:
            self.fold()
        self.octets += octets
        if failed:
            self.fresh_fails += 1

    def fold(self) -> None:
        """Put the samples into buckets."""
        if not self.samples:
            return
        us = np.maximum(np.array(self.samples, np.int64) // 1000, 0)
        self.samples.clear()
        self.total_us += int(us.sum())
        keys, counts = np.unique(quantised(us), return_counts=True)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            self.fresh[key] = self.fresh.get(key, 0) + n

    def take(self) -> tuple[dict[int, int], int, int, int]:
        """The increment since the last call: (µs → count, failures, total µs, octets)."""
        self.fold()
        fresh, fails, total, octets = self.fresh, self.fresh_fails, self.total_us, self.octets
        for key, n in fresh.items():
            self.buckets[key] = self.buckets.get(key, 0) + n
        self.count += sum(fresh.values())
        self.fails += fails
        self.fresh, self.fresh_fails, self.total_us, self.octets = {}, 0, 0, 0
        return fresh, fails, total, octets

    def histogram(self) -> HdrHistogram:
        """Everything so far; call :meth:`take` before."""
        made = HdrHistogram(1, _HIGHEST_US, 3)
        for key, n in self.buckets.items():
            made.record_value(min(max(key, 1), _HIGHEST_US), n)
        return made


@dataclass
class Counts:
    """Of the whole load; recipients, not mails, except ``due``, ``in_flight`` and ``connections``."""

    due: int = 0
    offered: int = 0
    attempted: int = 0
    accepted: int = 0
    deferred: int = 0
    rejected: int = 0
    undetermined: int = 0
    failed: int = 0  #: attempts that ended without a reply and surely did nothing
    in_flight: int = 0
    connections: int = 0
    deferred_by: dict[str, int] = field(default_factory=dict)


class Stats:
    """Counts, timings and the lag of the schedule."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._timings: dict[tuple[str, str], Timing] = {}
        self._errors: dict[tuple[str, str, str], int] = {}
        self._lag = Timing()
        self._lag_all = Timing()

    def time(self, proto: str, step: str, ns: int, *, error: str = "", octets: int = 0) -> None:
        """One latency of one protocol step; ``error`` marks it failed."""
        self.timing(proto, step).add(ns, bool(error), octets)
        if error:
            key = (proto, step, error)
            if key in self._errors or len(self._errors) < 200:
                self._errors[key] = self._errors.get(key, 0) + 1

    def timing(self, proto: str, step: str) -> Timing:
        """Where the latencies of one step go, for those who add many that did not fail."""
        timing = self._timings.get((proto, step))
        if timing is None:
            timing = self._timings[proto, step] = Timing()
        return timing

    def late(self, ns: int) -> None:
        """Something due was done ``ns`` late."""
        self._lag.add(ns)
        self._lag_all.add(ns)

    def lag_ms(self) -> tuple[float, float]:
        """99th percentile and maximum since the last call."""
        fresh = self._lag.take()[0]
        return _quantile(fresh, 0.99) / 1000, max(fresh, default=0) / 1000

    def report(self) -> dict[str, Any]:
        """Increments since the last report, for Locust."""
        steps = []
        for (proto, step), timing in self._timings.items():
            fresh, fails, total_us, octets = timing.take()
            if fresh:
                steps.append({
                    "proto": proto, "step": step, "fails": fails, "total_ms": total_us / 1000, "octets": octets,
                    "buckets_us": sorted(fresh.items()),
                })
        errors = [{"proto": p, "step": s, "error": e, "n": n} for (p, s, e), n in self._errors.items()]
        self._errors = {}
        return {"steps": steps, "errors": errors}

    def summary(self) -> dict[str, Any]:
        """Quantiles per step and of the lag over the whole load, in milliseconds, and the encoded histograms."""
        for timing in (*self._timings.values(), self._lag_all):
            timing.take()
        named = {f"{p} {s}": t for (p, s), t in self._timings.items()}
        return {name: _quantiles(t) for name, t in {**named, "schedule lag": self._lag_all}.items() if t.count}


def _quantiles(timing: Timing) -> dict[str, Any]:
    histogram = timing.histogram()
    at = {f"p{q:g}_ms": histogram.get_value_at_percentile(q) / 1000 for q in (50, 90, 95, 99, 99.9)}
    return {"count": timing.count, "fails": timing.fails, **at, "max_ms": histogram.get_max_value() / 1000,
            "hdr": histogram.encode().decode()}


def _quantile(buckets: dict[int, int], q: float) -> int:
    left = q * sum(buckets.values())
    for key in sorted(buckets):
        left -= buckets[key]
        if left <= 0:
            return key
    return 0


def own_cost() -> dict[str, float]:
    """CPU seconds, resident bytes and their peak, of this process. Source: proc(5), getrusage(2)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_s": round(time.process_time(), 3), "rss_bytes": int(_STATM.read_text().split()[1]) * _PAGE, "peak_rss_bytes": peak}



"""When mails are due: seeded processes that yield offsets in seconds from their start, never decreasing.

Each is an endless iterator (``replay`` ends with its file). The engine counts latency from these times, whether it kept up or not.
Sources: MMPP and diurnal load as in the traffic studies named in the design notes; step is the talk's Friday.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError

REPLAY_LINES_MAX = 10_000_000


def constant(rate_per_s: float) -> Iterator[float]:
    """One every 1/rate seconds."""
    n = 0
    while True:
        n += 1
        yield n / rate_per_s


def poisson(rng: random.Random, rate_per_s: float) -> Iterator[float]:
    """Exponential gaps."""
    t = 0.0
    while True:
        t += rng.expovariate(rate_per_s)
        yield t


def mmpp(
    rng: random.Random, rate_per_s: float, *, high_factor: float = 5.0, low_mean_s: float = 20.0, high_mean_s: float = 5.0
) -> Iterator[float]:
    """Markov-modulated Poisson process with two states whose mean rate is ``rate_per_s``.

    :param high_factor: rate in the high state over the rate in the low one.
    :param low_mean_s, high_mean_s: mean stays.
    """
    low = rate_per_s * (low_mean_s + high_mean_s) / (low_mean_s + high_factor * high_mean_s)
    rates, stays = (low, low * high_factor), (low_mean_s, high_mean_s)
    t, state = 0.0, 0
    change = rng.expovariate(1 / stays[0])
    while True:
        gap = rng.expovariate(rates[state])
        if t + gap < change:
            t += gap
            yield t
        else:
            t, state = change, 1 - state
            change = t + rng.expovariate(1 / stays[state])


def diurnal(
    rng: random.Random, rate_per_s: float, *, amplitude: float = 0.8, period_s: float = 86_400.0, peak_s: float = 50_400.0
) -> Iterator[float]:
    """Poisson with rate ``rate · (1 + amplitude · cos(2π (t − peak)/period))``, by thinning."""
    top = rate_per_s * (1 + amplitude)
    t = 0.0
    while True:
        t += rng.expovariate(top)
        now = rate_per_s * (1 + amplitude * math.cos(2 * math.pi * (t - peak_s) / period_s))
        if rng.random() * top < now:
            yield t


def step(
    rng: random.Random, rate_per_s: float, *, factor: float = 2.0, begin_s: float = 30.0, end_s: float = 90.0
) -> Iterator[float]:
    """Friday: Poisson at ``rate``, ``factor`` times that between ``begin_s`` and ``end_s``."""
    t, top = 0.0, rate_per_s * max(factor, 1.0)
    while True:
        t += rng.expovariate(top)
        now = rate_per_s * (factor if begin_s <= t < end_s else 1.0)
        if rng.random() * top < now:
            yield t


def replay(path: Path, *, speed: float = 1.0) -> Iterator[float]:
    """Due times from a file: seconds (any origin) in the first comma-separated column, ``#`` and blank lines ignored.

    :param speed: 2.0 replays twice as fast.
    :raises UsageError: at the first line that is no number or goes back in time; too many lines.
    """
    first = last = None
    try:
        handle = path.open()
    except OSError as error:
        raise UsageError(f"cannot read the trace file: {error.strerror}", where=str(path)) from error
    with handle:
        for number, line in enumerate(handle, 1):
            word = line.split(",", 1)[0].strip()
            if not word or word.startswith("#"):
                continue
            try:
                t = float(word)
            except ValueError:
                raise UsageError(f"'{word}' is no time in seconds", where=f"{path}:{number}") from None
            if (last is not None and t < last) or not math.isfinite(t) or number > REPLAY_LINES_MAX:
                raise UsageError("times must not decrease, be finite, and be 10 million at most", where=f"{path}:{number}")
            first, last = t if first is None else first, t
            yield (t - first) / speed


_MAKERS: dict[str, Callable[..., Iterator[float]]] = {"poisson": poisson, "mmpp": mmpp, "diurnal": diurnal, "step": step}


def arrivals(kind: str, rate_per_s: float, options: Mapping[str, Any], seed: int) -> Iterator[float]:
    """The process called ``kind`` with its keyword ``options``.

    :param options: e.g. ``{"high_factor": 8}``; for ``replay``: ``{"file": PATH, "speed": 1}``.
    :raises UsageError: an unknown process or option.
    """
    rng = random.Random(seed)
    try:
        if kind == "constant":
            return constant(rate_per_s, **options)
        if kind == "replay":
            rest = {k: v for k, v in options.items() if k != "file"}
            return replay(Path(options["file"]), **rest)
        if kind in _MAKERS:
            return _MAKERS[kind](rng, rate_per_s, **options)
    except (TypeError, KeyError) as error:
        raise UsageError(f"wrong options for '{kind}' arrivals: {error}", where="params.arrivals") from error
    raise UsageError(f"unknown arrivals '{kind}'", todo=f"valid: constant, replay, {', '.join(sorted(_MAKERS))}")

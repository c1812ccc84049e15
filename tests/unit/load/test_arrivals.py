"""Arrival processes: their rates, their seeds, and what they refuse."""

from __future__ import annotations

import itertools

import pytest

from harness.errors import UsageError
from harness.load.arrivals import arrivals


def first(kind: str, n: int, rate: float = 100.0, seed: int = 1, **options) -> list[float]:
    return list(itertools.islice(arrivals(kind, rate, options, seed), n))


@pytest.mark.parametrize(("kind", "options"), [
    ("constant", {}), ("poisson", {}), ("mmpp", {"low_mean_s": 0.5, "high_mean_s": 0.2}), ("diurnal", {"period_s": 10.0, "peak_s": 0.0}),
])
def test_mean_rate_order_and_seed(kind, options):
    times = first(kind, 20_000, **options)
    assert times == sorted(times)
    assert 20_000 / times[-1] == pytest.approx(100, rel=0.08)
    assert times == first(kind, 20_000, **options)
    if kind != "constant":
        assert times != first(kind, 20_000, seed=2, **options)


def test_mmpp_is_burstier_than_poisson():
    def dispersion(times):
        counts = [0] * (int(times[-1]) + 1)
        for t in times:
            counts[int(t)] += 1
        mean = sum(counts) / len(counts)
        return sum((c - mean) ** 2 for c in counts) / len(counts) / mean

    assert dispersion(first("mmpp", 20_000, high_factor=8.0, low_mean_s=4.0, high_mean_s=2.0)) > 5 * dispersion(first("poisson", 20_000))


def test_step_doubles_between_its_ends():
    times = first("step", 40_000, factor=2.0, begin_s=50.0, end_s=100.0)
    before, during, after = (sum(a <= t < b for t in times) / 50 for a, b in ((0, 50), (50, 100), (100, 150)))
    assert (before, during, after) == pytest.approx((100, 200, 100), rel=0.05)


def test_diurnal_peaks_where_it_should():
    times = first("diurnal", 50_000, amplitude=1.0, period_s=100.0, peak_s=50.0)
    assert sum(45 <= t % 100 < 55 for t in times) > 10 * sum(t % 100 < 5 or t % 100 >= 95 for t in times)


def test_replay_starts_at_zero_and_speeds_up(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("# seconds,size\n100.0,1\n\n100.5,2\n102,3\n")
    assert list(arrivals("replay", 0, {"file": str(trace), "speed": 2.0}, 1)) == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(("text", "line"), [("1\nx\n", 2), ("2\n1\n", 2), ("nan\n", 1)])
def test_replay_refuses_with_the_line(tmp_path, text, line):
    trace = tmp_path / "t"
    trace.write_text(text)
    with pytest.raises(UsageError, match=f":{line}:"):
        list(arrivals("replay", 0, {"file": str(trace)}, 1))


@pytest.mark.parametrize(("kind", "options"), [("poison", {}), ("mmpp", {"high": 2}), ("replay", {}), ("replay", {"file": "/nonexistent"})])
def test_refusals(kind, options):
    with pytest.raises(UsageError):
        next(arrivals(kind, 1.0, options, 1))

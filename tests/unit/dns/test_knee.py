"""The knee and its interval, from steps whose truth is known."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.knee import Step, dispersion, find_knee, isotonic

SHARE = 0.01


def steps(*pairs: tuple[float, int, int]) -> list[Step]:
    return [Step(*p) for p in pairs]


def test_no_query_no_knee():
    assert find_knee([], share=SHARE, seed="1") is None
    assert find_knee(steps((10, 0, 0)), share=SHARE, seed="1") is None


def test_a_clear_step_lies_between_the_last_good_and_the_first_bad_rate():
    knee = find_knee(steps((40, 400, 0), (80, 800, 0), (160, 800, 120)), share=SHARE, seed="1")
    assert knee is not None
    assert knee.per_s == pytest.approx(113.1, abs=0.1)
    assert knee.high is not None
    assert 79 < knee.low < 90 < 150 < knee.high < 161


def test_nothing_failed_so_there_is_none_and_the_end_is_open():
    knee = find_knee(steps((40, 400, 0), (160, 1600, 0)), share=SHARE, seed="1")
    assert knee is not None
    assert (knee.per_s, knee.high, knee.low, knee.text) == (None, None, 160, "none up to 160/s")


def test_everything_failed_so_it_lies_below_the_lowest_rate():
    knee = find_knee(steps((40, 400, 200), (80, 400, 300)), share=SHARE, seed="1")
    assert knee is not None
    assert knee.per_s is not None
    assert knee.per_s < 40
    assert knee.high is not None
    assert 0 <= knee.low < knee.high <= 40


def test_few_queries_leave_the_interval_wide():
    few = find_knee(steps((40, 20, 0), (80, 20, 0), (160, 40, 8)), share=SHARE, seed="1")
    many = find_knee(steps((40, 2000, 0), (80, 2000, 0), (160, 4000, 800)), share=SHARE, seed="1")
    assert few is not None
    assert many is not None
    assert few.low < 40 < 79 < many.low


def test_bunches_leave_it_wider_than_single_failures():
    bunched = [Step(40, 2000, 8, 1), Step(80, 2000, 16, 16), Step(160, 2000, 60, 16)]
    single = [Step(s.per_s, s.sent, s.failed) for s in bunched]
    wide, narrow = (find_knee(s, share=SHARE, seed="1") for s in (bunched, single))
    assert wide is not None
    assert narrow is not None
    assert wide.high is None or (narrow.high is not None and wide.high - wide.low > narrow.high - narrow.low)


def test_the_same_steps_give_the_same_interval():
    made = steps((40, 300, 1), (80, 300, 3), (160, 300, 9))
    assert find_knee(made, share=SHARE, seed="x") == find_knee(list(reversed(made)), share=SHARE, seed="x")


@pytest.mark.parametrize(("counts", "value"), [([], 1.0), ([0, 0, 0], 1.0), ([5, 5, 5], 1.0), ([20, 0, 0, 0], 20.0)])
def test_dispersion(counts: list[int], value: float):
    assert dispersion(counts) == pytest.approx(value)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100)), min_size=1, max_size=12))
def test_isotonic_never_falls_and_keeps_the_mean(pairs: list[tuple[float, float]]):
    values, weights = [p[0] for p in pairs], [p[1] for p in pairs]
    fitted = isotonic(values, weights)
    assert all(a <= b + 1e-12 for a, b in pairwise(fitted))
    assert sum(f * w for f, w in zip(fitted, weights, strict=True)) == pytest.approx(sum(v * w for v, w in zip(values, weights, strict=True)))


def test_the_interval_holds_the_true_knee_about_as_often_as_it_says():
    """Failures by a logistic truth whose 1 % lies at 100/s; 60 experiments."""
    made, held = random.Random(7), 0
    for n in range(60):
        tried = []
        for rate in (25, 50, 71, 84, 100, 119, 200):
            true = 1 / (1 + (99 * (100 / rate) ** 8))
            tried.append(Step(rate, rate * 6, sum(made.random() < true for _ in range(rate * 6))))
        knee = find_knee(tried, share=SHARE, seed=str(n))
        assert knee is not None
        held += knee.low <= 100 and (knee.high is None or knee.high >= 100)
    assert held >= 52

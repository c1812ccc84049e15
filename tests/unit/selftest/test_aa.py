"""A/A pairs: the same set-up twice is no regression, and a change that is there is none of chance's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.judge.compare import compare
from harness.selftest.aa import aa_row, made, pair


@pytest.mark.slow
def test_a_few_pairs_hold_and_the_row_can_fail(tmp_path: Path):
    row = aa_row([pair(n) for n in range(2)])
    assert row.well, row
    assert "of 2 pairs" in row.reason
    a, b = made(tmp_path, 90, "a"), made(tmp_path, 90, "b")
    worse = tuple({k: v * 3 if k == "ordinary_p99_ms" else v for k, v in block.items()} for block in b.arms["1x"].blocks)
    changed = compare(a, replace(b, arms={"1x": replace(b.arms["1x"], blocks=worse)}))
    assert changed.regressions
    assert not aa_row([changed] * 5).well


def test_no_pairs_are_no_success():
    assert not aa_row([]).well

"""What was used of what was allowed: shown when recorded, marked when over, left out when nobody measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.report.budgets import budgets
from harness.report.text import NARROW_SPACE
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import friday_plan
from harness.store.history import load

PLAN = replace(friday_plan(), budget={"minutes": 2.0, "mails": 5000})
HOST = {"memory_bytes": 24 << 30}


def told(tmp_path: Path, meta: dict[str, object]) -> dict[str, str]:
    run = HistoryBuilder(tmp_path).write()
    with load(run) as history:
        return dict(budgets(PLAN, meta, history.arms))


def test_each_budget_says_used_of_allowed(tmp_path: Path):
    seen = told(tmp_path, {"timings": {"1-1x/deploy": 20.0, "1-2x/deploy": 25.0, "1-1x/load": 60.0, "setup": 500}, "host": HOST})
    assert seen["time of the arms"] == "1:45 min of 2:00 min"
    assert seen["stack ready"] == "25 s of 1:00 min"
    assert seen["mails"].replace(NARROW_SPACE, " ").endswith("of 5 000")
    assert " GiB of 6 GiB" in seen["memory in use on the host"]


def test_what_is_over_is_marked(tmp_path: Path):
    seen = told(tmp_path, {"timings": {"1-1x/deploy": 61.0, "1-1x/load": 90.0}})
    assert seen["stack ready"] == "1:01 min of 1:00 min, over"
    assert seen["time of the arms"].endswith(", over")


def test_what_was_not_recorded_is_left_out(tmp_path: Path):
    assert set(told(tmp_path, {})) <= {"mails"}

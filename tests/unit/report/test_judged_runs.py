"""Judge and report together: what the judge says of a run is what the page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.judge import judge
from harness.report.sheet import Tile
from harness.selftest.builder import HistoryBuilder, good_run, kill_run
from harness.selftest.friday import limited_plan
from harness.store.run import RunDir


def judged_and_reported(run: RunDir) -> tuple[dict[str, Any], report.Sheet, str]:
    judge(run.path)
    data = json.loads((run.path / "verdict.json").read_bytes())
    paths, sheet = report.write(run.path, data)
    return data, sheet, paths.html.read_text()


def test_a_good_run(tmp_path: Path):
    data, sheet, _ = judged_and_reported(good_run(tmp_path))
    assert (data["status"], sheet.tone) == ("PASS", "pass")
    assert sheet.notable == ()
    assert len(sheet.passed) == len(data["verdicts"])
    assert sheet.bars is not None, "intake and goodput are compared"
    assert sheet.ratios is not None, "ratios of the findings are drawn"
    assert [t.value for t in sheet.tiles if t.name == "lost"] == ["0"]
    assert not [r for r in sheet.arms.rows if r.name == "Further figures"], "every figure has its heading"


def test_a_lost_mail_is_named(tmp_path: Path):
    b = HistoryBuilder(tmp_path)
    b.arm("1x").lose(7)
    data, sheet, page = judged_and_reported(b.write())
    assert (data["status"], sheet.tone) == ("FAIL", "fail")
    lines = next(v["evidence"] for v in data["verdicts"] if v["check"] == "no-loss" and v["arm"] == "1x")
    assert len(lines) == 1
    assert lines[0] in [line for n in sheet.named for line in n.lines]
    assert [t for t in sheet.tiles if t.name == "lost"] == [Tile("lost", "1", "bad")]
    assert "no-loss" in page


def test_a_planted_defect_that_was_found(tmp_path: Path):
    data, sheet, _ = judged_and_reported(kill_run(tmp_path))
    assert data["status"] == "PASS"
    assert ("no-loss", "queue-on-emptydir", "planned") in {(r.check, r.arm, r.tone) for r in sheet.notable}
    assert [t for t in sheet.tiles if t.name.startswith("lost")] == [Tile("lost, as planned", "30")]
    assert [v.word for v in sheet.validity if v.question == "Did the faults happen?"] == ["yes"]


@pytest.mark.parametrize("spoil", ["saturate_generator", "saturate_host"])
def test_a_load_that_was_not_real(tmp_path: Path, spoil: str):
    b = HistoryBuilder(tmp_path)
    getattr(b.arm("2x"), spoil)()
    data, sheet, _ = judged_and_reported(b.write())
    assert (data["status"], sheet.tone) == ("INCONCLUSIVE", "inconclusive")
    assert [v.word for v in sheet.validity if v.question == "Was the load real?"] == ["not shown in 2x"]


def test_an_arm_that_was_not_run_is_in_the_matrix(tmp_path: Path):
    b = HistoryBuilder(tmp_path, limited_plan())
    run = b.write(seal=False)
    for path in sorted((run.path / "arms" / "1-2x").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (run.path / "arms" / "1-2x").rmdir()
    _, sheet, _ = judged_and_reported(run)
    assert "2x" in [h.name for h in sheet.matrix.heads]
    assert ("evidence-complete", "2x", "the arm was not run") in {(r.check, r.arm, r.reason) for r in sheet.notable}


@pytest.mark.slow
def test_blocks_give_intervals(tmp_path: Path):
    _, sheet, page = judged_and_reported(HistoryBuilder(tmp_path, blocks=6).write())
    assert sheet.ratios is not None
    assert 'class="whisker"' in sheet.ratios.svg
    assert not any("no interval" in line for line in sheet.limits)
    assert "n=6, no interval" not in page

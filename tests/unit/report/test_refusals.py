"""refusals: every attempt that was no acceptance is counted, by class, stage and code."""

from __future__ import annotations

from pathlib import Path

from harness.model.outcome import Deferral, Outcome, Stage
from harness.report.refusals import refusals
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import limited_plan
from harness.store.history import load


def test_planned_limits_are_counted_with_their_words(tmp_path: Path):
    with load(HistoryBuilder(tmp_path, limited_plan()).write()) as run:
        names, rows = refusals(run.arms)
        expected = [str(a.one("SELECT count(*) FROM dones WHERE deferral = 1")) for a in run.arms]
    assert names == ("1x", "2x", "1x-limit", "2x-limit", "control")
    assert [(r.kind, r.stage, r.code) for r in rows] == [("planned limit", "DOT", "451 4.7.1")]
    assert list(rows[0].counts) == expected
    assert rows[0].counts[2] == "320"
    assert rows[0].words == "Rate limit exceeded"


def test_each_class_has_its_own_row(tmp_path: Path):
    b = HistoryBuilder(tmp_path)
    arm = b.arm("1x")
    arm.end_attempt(1, Outcome.FAIL, Stage.RCPT, 451, Deferral.SYSTEM)
    arm.end_attempt(2, Outcome.FAIL, Stage.DOT, 554)
    arm.end_attempt(3, Outcome.INFO, Stage.DOT, 0)
    arm.end_attempt(4, Outcome.FAIL, Stage.CONNECT, 0)
    arm.mail(5).attempts[0].t_done = None
    with load(b.write()) as run:
        _, rows = refusals(run.arms)
    assert {(r.kind, r.stage, r.code, r.counts) for r in rows} == {
        ("system failure", "RCPT", "451 4.0.0", ("1", "0")), ("rejected", "DOT", "554 5.0.0", ("1", "0")),
        ("outcome unknown", "DOT", "", ("1", "0")), ("no reply", "CONNECT", "", ("1", "0")), ("no ending on record", "–", "", ("1", "0")),
    }  # fmt: skip

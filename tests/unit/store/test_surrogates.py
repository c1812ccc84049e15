"""Octets that are no UTF-8 reach an event as lone surrogates; they must neither break the log nor its reading."""

from __future__ import annotations

from pathlib import Path

from harness.selftest.builder import good_run
from harness.store.history import load
from harness.store.log import LogWriter, read_events


def test_a_lone_surrogate_becomes_a_question_mark(tmp_path: Path):
    with LogWriter(tmp_path / "x.log", "test") as log:
        log.event("reply", text="caf\udce9 \u2028 ü")
    assert [e["text"] for e in read_events(tmp_path / "x.log") if e["kind"] == "reply"] == ["caf? \u2028 ü"]


def test_a_history_with_hostile_text_still_loads(tmp_path: Path):
    run = good_run(tmp_path)
    with LogWriter(run.arm_dirs()[0].path / "faults.log", "faults") as log:
        log.event("fault", name="x\ud800", fault="kill_pod", edge="begin", targets=[])
    with load(run) as history:
        assert history.arms

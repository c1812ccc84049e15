"""Several engines share a load: each log tells of its own part, and none may hide behind another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checks import evidence_complete, load_was_real
from harness.model.verdict import Status
from harness.report.validity import _cores
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import friday_plan
from harness.store.control import cut_short
from harness.store.history import ArmHistory, load
from harness.store.rates import backlog_window

LOGS = ("load-1.log", "load-2.log")


def with_second_engine(arm: ArmBuilder) -> None:
    """A second log that tells the same, as far as the state goes; the rows stay in the first."""
    arm.expected.append("load-2.log")
    arm.events["load-2.log"] = [{**e} for e in arm.events["load-1.log"] if e["kind"] in ("load_state", "load_end")]


def judged(root: Path, spoil: Callable[[ArmBuilder], None], see: Callable[[ArmHistory], None]) -> None:
    history = HistoryBuilder(root, friday_plan())
    arm = history.arms[0]
    with_second_engine(arm)
    spoil(arm)
    with load(history.write()) as run:
        see(next(a for a in run.arms if a.name == arm.name))


def test_two_whole_engines_are_as_good_as_one(tmp_path: Path):
    def see(arm: ArmHistory) -> None:
        assert sorted(arm.load_states()) == list(LOGS)
        assert evidence_complete.check(arm, evidence_complete.LIMITS).status is Status.PASS
        assert load_was_real.check(arm, load_was_real.LIMITS).status is Status.PASS
        assert backlog_window(arm) is not None
        assert not cut_short(arm, arm.judged)
        assert _cores(arm) < 1

    judged(tmp_path, lambda arm: None, see)


def test_a_killed_worker_is_no_pass(tmp_path: Path):
    def kill(arm: ArmBuilder) -> None:
        states = [e for e in arm.events["load-2.log"] if e["kind"] == "load_state"]
        arm.events["load-2.log"] = states[: len(states) // 2]
        arm.unclosed.add("load-2.log")

    def see(arm: ArmHistory) -> None:
        evidence = evidence_complete.check(arm, evidence_complete.LIMITS)
        assert evidence.status is Status.INCONCLUSIVE
        assert any("load-2.log" in gap for gap in evidence.evidence)
        real = load_was_real.check(arm, load_was_real.LIMITS)
        assert "the load of load-2.log did not come to its end" in real.reason

    judged(tmp_path, kill, see)


def test_a_silent_engine_does_not_hide_behind_the_other(tmp_path: Path):
    def silence(arm: ArmBuilder) -> None:
        states = [e for e in arm.events["load-2.log"] if e["kind"] == "load_state"]
        arm.events["load-2.log"] = [states[0], states[-1], *(e for e in arm.events["load-2.log"] if e["kind"] == "load_end")]

    def see(arm: ArmHistory) -> None:
        found = evidence_complete.check(arm, evidence_complete.LIMITS)
        assert found.status is Status.INCONCLUSIVE
        assert "without a 'load_state' event" in found.reason

    judged(tmp_path, silence, see)


def test_the_burst_ends_where_the_first_engine_runs_out_of_backlog(tmp_path: Path):
    windows: list[float] = []

    def see(arm: ArmHistory) -> None:
        window = backlog_window(arm)
        windows.append(window.seconds if window else 0.0)

    def early(arm: ArmBuilder) -> None:
        states = [e for e in arm.events["load-2.log"] if e["kind"] == "load_state" and e["phase"] == "burst"]
        for event in states[len(states) // 2 :]:
            event["backlog_min"] = 0

    for name, spoil in (("whole", lambda arm: None), ("early", early)):
        (tmp_path / name).mkdir()
        judged(tmp_path / name, spoil, see)
    assert windows[1] < windows[0]


@pytest.mark.parametrize("log", LOGS)
def test_each_log_counts(tmp_path: Path, log: str):
    def stop(arm: ArmBuilder) -> None:
        next(e for e in arm.events[log] if e["kind"] == "load_end")["reason"] = "stopped"

    judged(tmp_path, stop, lambda arm: None if load_was_real.check(arm, load_was_real.LIMITS).status is Status.INCONCLUSIVE else pytest.fail(log))

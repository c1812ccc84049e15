"""The live view: what is on the screen is what stands in the run's files, and text from outside stays text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.chaos.undo import UndoLog
from harness.cli.live import plain, render
from harness.rehearse.live import LiveRun, Screen
from harness.selftest.friday import friday_plan
from harness.store.log import LogWriter
from harness.store.run import ArmDir, RunDir

STATE = {"offered": 40, "accepted": 30, "deferred": 6, "rejected": 1, "undetermined": 3, "seen": 20, "awaited": 10, "overdue": 2, "awaited_oldest_s": 61.0}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, friday_plan(), {}, plan_bytes=b"# a plan\n")


def say(path: Path, *events: tuple[str, dict[str, Any]]) -> LogWriter:
    log = LogWriter(path, "test")
    for kind, fields in events:
        log.event(kind, **fields)
    log.flush()
    return log


def begun(run: RunDir, number: int = 0) -> ArmDir:
    arm = run.arm(*run.planned_arms[number])
    say(arm.conductor_log, ("phase", {"name": "deploy", "edge": "begin"}), ("phase", {"name": "deploy", "edge": "end"}), ("phase", {"name": "load", "edge": "begin"}),
        ("incident", {"what": "a pod was slow", "where": "mx-0"}))
    return arm


def fault(edge: str, name: str = "kill") -> tuple[str, dict[str, Any]]:
    return "fault", {"name": name, "fault": "kill_pod", "edge": edge, "targets": ["mx-0"], "detail": {}}


def queue(pod: str, depth: int) -> tuple[str, dict[str, Any]]:
    return "queue", {"pod": pod, "component": "mx", "incoming": depth, "active": 1, "deferred": 0, "hold": None}


def text(screen: Screen) -> str:
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=False).print(render(screen))
    return out.getvalue()


def test_before_the_first_arm_there_is_a_screen(run: RunDir):
    screen = LiveRun(run).look()
    assert (screen.arm, screen.number, screen.arms, screen.phase, screen.ended) == ("", 0, len(run.planned_arms), "", False)
    assert "beginning" in text(screen)
    assert plain(screen).startswith("- beginning")


def test_every_part_is_there(run: RunDir):
    arm = begun(run)
    say(arm.load_log(), ("load_state", {"phase": "burst", **STATE}))
    say(arm.observe_log, queue("mx-0", 5), queue("mx-1", 7), queue("mx-0", 2))
    say(arm.faults_log, fault("armed"), fault("begin"))
    undo = UndoLog(arm.undo_log, lambda entry: "")
    undo.arm("scale", workload="StatefulSet/mx", replicas=2)
    screen = LiveRun(run).look()
    assert (screen.arm, screen.number, screen.phase) == (arm.label, 1, "load")
    assert screen.phase_s >= 0
    assert screen.state == STATE
    assert screen.queues == {"mx": 2 + 1 + 7 + 1}, "the last sample of each pod"
    assert screen.faults == {"kill": ("kill_pod", "begin", "mx-0")}
    assert screen.to_undo == ("scale workload=StatefulSet/mx replicas=2",)
    assert screen.incidents == ("a pod was slow",)
    assert screen.used["mails"] == (40.0, run.plan.budget.get("mails", 0.0))
    shown = text(screen)
    for wanted in ("load", "accepted 30", "lost so far 2", "awaited 10 (oldest 61 s)", "mx 11", "kill: kill_pod begin mx-0", "scale workload=StatefulSet/mx", "a pod was slow"):
        assert wanted in shown
    assert plain(screen).endswith("lost so far 2; queue 11; faults: kill begin; to undo: 1")


def test_it_follows_what_is_written_and_what_is_undone(run: RunDir):
    arm, live = begun(run), LiveRun(run)
    load = say(arm.load_log(), ("load_state", {"phase": "burst", "offered": 1}))
    undo = UndoLog(arm.undo_log, lambda entry: "")
    armed = undo.arm("uncordon", node="w1")
    assert (live.look().state["offered"], live.look().to_undo) == (1, ("uncordon node=w1",))
    load.event("load_state", phase="burst", offered=9)
    load.flush()
    undo.undo(armed)
    screen = live.look()
    assert (screen.state["offered"], screen.to_undo) == (9, ())
    assert "nothing to undo" in text(screen)


def test_engines_are_put_together(run: RunDir):
    arm = begun(run)
    for number in (1, 2):
        say(arm.load_log(number), ("load_state", {"phase": "burst", "offered": 10 * number, "overdue": 1, "awaited_oldest_s": 30.0 * number}))
    state = LiveRun(run).look().state
    assert (state["offered"], state["overdue"], state["awaited_oldest_s"]) == (30, 2, 60.0)


def test_the_newest_arm_is_shown_and_mails_of_all_count(run: RunDir):
    live = LiveRun(run)
    say(begun(run, 0).load_log(), ("load_end", {"offered": 10, "reason": "done"}))
    live.look()
    second = begun(run, 1)
    say(second.load_log(), ("load_state", {"phase": "burst", "offered": 3}))
    screen = live.look()
    assert (screen.arm, screen.number) == (second.label, 2)
    assert screen.used["mails"][0] == 13.0


def test_a_sealed_run_has_ended(run: RunDir):
    begun(run)
    run.seal()
    assert LiveRun(run).look().ended


def test_what_comes_from_outside_is_text(run: RunDir):
    arm = run.arm(*run.planned_arms[0])
    say(arm.conductor_log, ("incident", {"what": "[red]554[/] [link=http://x]go[/link] \x1b[2J", "where": ""}))
    shown = text(LiveRun(run).look())
    assert "[red]554[/] [link=http://x]go[/link]" in shown
    assert "\x1b" not in shown


def test_so_is_the_line_without_a_terminal(run: RunDir):
    arm = run.arm(*run.planned_arms[0])
    say(arm.conductor_log, ("phase", {"name": "lo\x1b[2Jad\n", "edge": "begin"}))
    assert plain(LiveRun(run).look()).isprintable()

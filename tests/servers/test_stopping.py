"""A whole run that is ended before its time: load stopped, census taken, sealed, judged, gone on with. Real processes, as in tests.servers.rig."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BudgetExceeded, GuardRefused, Interrupted, StopCondition
from harness.kube import runlease
from harness.model.plan import StopWhen
from harness.rehearse import arm as arm_module
from harness.rehearse.conductor import Ended
from harness.rehearse.live import LiveRun
from harness.rehearse.order import Options, arms_in_order
from harness.store.asking import ask_to_end
from harness.store.log import Damage, read_events
from harness.store.run import ArmDir, RunDir
from harness.store.sessions import put_aside, unfinished
from harness.support.clock import wait_for
from tests.servers.fake_api import fake_api
from tests.servers.load_sink import Behaviour, Sink
from tests.servers.rig import Rig, recorded
from tests.servers.test_cluster_gone import in_load
from tests.unit.kube.test_runlease import ELSEWHERE, PATH, lease

pytestmark = pytest.mark.timeout(240)
#: So long does the load go on when nothing stops it; no test waits for that.
TAIL_S = 60.0
CLI = "import sys; from harness.cli.main import main; sys.exit(main())"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with fake_api() as api, Sink() as sink:
        monkeypatch.setattr(arm_module, "CLUSTER_BACK_S", 3.0)
        made = Rig(tmp_path, api, sink, monkeypatch)
        made.load["tail_s"] = TAIL_S
        yield made


def events(path: Path, kind: str) -> list[dict[str, object]]:
    return [e for e in read_events(path) if not isinstance(e, Damage) and e["kind"] == kind]


def ended_in_order(rig: Rig, ended: Ended) -> ArmDir:
    """The one arm that was begun: its load was stopped, its census taken, and everything is sealed and gone."""
    (arm,) = ended.run.arm_dirs()
    ledger = rig.ledger(ended.run, arm.name)
    assert ledger.end["reason"] == "stopped"
    assert ledger.events[-1]["kind"] == "log_closed"
    recorded(rig.sink, [ledger], ended.run.run_id)
    assert arm.census_log.is_file()
    (stopped,) = events(arm.conductor_log, "stopped")
    assert stopped["why"] == str(ended.problem)
    assert ended.seal
    assert ended.run.verify() == []
    assert len(unfinished(ended.run)) == len(ended.run.planned_arms), "a stopped arm counts as finished"
    assert [p for p in rig.api.objects if p.startswith("/api/v1/namespaces/mailgale-")] == []
    return arm


def test_abort_from_another_terminal(rig: Rig):
    answers: list[subprocess.CompletedProcess[str]] = []

    def abort() -> None:
        (path,) = rig.checkout.runs.iterdir()
        words = ["abort", str(path), "--why", "the platform is needed"]
        answers.append(subprocess.run([sys.executable, "-c", CLI, *words], capture_output=True, text=True, check=False, timeout=120))

    in_load(rig, abort)
    ended = rig.run()
    assert isinstance(ended.problem, Interrupted)
    arm = ended_in_order(rig, ended)
    assert (ended.run.path / "abort-1.json").is_file()
    code, out, err = rig.told(ended)
    assert (code, "the platform is needed" in err) == (2, True), out + err
    assert "Traceback" not in "\n".join((out, err, *rig.notes.lines))
    settled = events(arm.conductor_log, "settled")
    assert len(settled) == 1, "nobody looked at the queues"
    screen = LiveRun(ended.run).look()
    assert screen.ended
    assert screen.state["offered"] > 0
    wait_for(lambda: answers, deadline_s=30, what="the other terminal")
    assert (answers[0].returncode, ended.seal in answers[0].stdout) == (0, True), answers[0]


def test_an_aborted_run_is_gone_on_with_and_not_ended_by_the_old_word(rig: Rig):
    order = [name for _, name in arms_in_order(rig.plan, Options())]
    rig.load["tail_s"] = 3.0
    in_load(rig, lambda: ask_to_end(RunDir.open(next(rig.checkout.runs.iterdir())), "later") and None, arm=order[1])
    stopped = rig.run()
    assert isinstance(stopped.problem, Interrupted)
    assert [name for _, name in unfinished(stopped.run)] == order[1:]
    again = rig.run()
    assert again.problem is None
    assert again.run.path == stopped.run.path
    assert unfinished(again.run) == ()
    assert put_aside(again.run) == (f"2-1-{order[1]}",)


def test_a_budget_that_is_used_up_in_mid_arm(rig: Rig):
    rig.plan = replace(rig.plan, budget={"minutes": 60.0, "mails": 50.0})
    ended = rig.run()
    assert isinstance(ended.problem, BudgetExceeded)
    ended_in_order(rig, ended)
    assert "the budget is 50" in str(ended.problem)
    assert rig.told(ended)[0] == 9


def test_an_objective_that_is_burnt(rig: Rig):
    rig.sink.behaviour = Behaviour(at_rcpt=lambda n, address: "451 4.3.0 later" if n % 2 else "")
    rig.plan = replace(rig.plan, stop_when=StopWhen(accepted_share_min=0.9, accepted_share_after=20))
    ended = rig.run()
    assert isinstance(ended.problem, StopCondition)
    ended_in_order(rig, ended)
    assert "the objective is 90.0%" in str(ended.problem)
    assert rig.told(ended)[0] == 9


def test_a_lease_that_another_takes_over(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Nothing new begins under it, and the other's stays."""
    monkeypatch.setattr(runlease, "RENEW_S", 0.2)
    in_load(rig, lambda: rig.api.put(PATH, lease(ELSEWHERE)) and None)
    ended = rig.run()
    assert isinstance(ended.problem, GuardRefused)
    assert "lease is lost" in str(ended.problem)
    assert len(ended.run.arm_dirs()) == 1
    assert ended.seal
    assert rig.api.objects[PATH]["spec"]["holderIdentity"] == ELSEWHERE
    assert rig.told(ended)[0] == 7

"""After SIGKILL of a run everything comes back: faults, processes, stacks, private files; and what cannot is said (exit 10)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.chaos.spec import ChaosSpec
from harness.chaos.undo import UndoLog, pending
from harness.cli import recover as command
from harness.cli.main import cli
from harness.errors import CleanupIncomplete, GuardRefused
from harness.kube.guards import CHECKOUT, MANAGED_BY, RUN
from harness.rehearse.orphans import orphans
from harness.rehearse.recover import recover
from harness.selftest.friday import kill_plan
from harness.store.log import LogWriter
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress
from tests.servers.fake_api import FakeApi, fake_api

NODE = "/api/v1/nodes/n1"
ROOT = Path(__file__).resolve().parents[3]


class Scene:
    """A checkout with one dead run, whose only arm ran on a fake cluster."""

    def __init__(self, api: FakeApi, root: Path) -> None:
        self.api, self.checkout = api, Checkout(root / "checkout")
        self.checkout.runs.mkdir(parents=True)
        self.target = api.target(root)
        self.run = self.new_run()
        self.arm = self.run.arm(1, "queue-on-pvc")
        self.spec = ChaosSpec(self.run.run_id, self.arm.label, str(self.arm.path), self.checkout.id, "ns", asdict(self.target), {})
        self.spec.save()
        api.put(NODE, {"metadata": {"name": "n1"}, "spec": {"unschedulable": True}, "status": {}})

    def new_run(self) -> RunDir:
        return RunDir.create(self.checkout.runs, kill_plan(), {})

    def arm_undo(self, *entries: dict) -> None:
        """An undo log whose writer was killed."""
        log = UndoLog(self.arm.path / "undo.log", lambda entry: "")
        for entry in entries:
            log.arm(**entry)

    def stack(self, suffix: str, run_id: str) -> str:
        name = self.checkout.namespace(suffix)
        self.api.namespace(name, **{MANAGED_BY: "mailgale", CHECKOUT: self.checkout.id, RUN: run_id})
        return f"/api/v1/namespaces/{name}"

    def recover(self, **more):
        return recover(self.checkout, lambda: self.target, SilentProgress(), **more)

    @property
    def schedulable(self) -> bool:
        return not self.api.objects[NODE]["spec"].get("unschedulable")


@pytest.fixture
def scene(tmp_path: Path):
    with fake_api() as api:
        yield Scene(api, tmp_path)


def test_everything_is_brought_back_once(scene: Scene):
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    stack = scene.stack("1-queue-on-pvc", scene.run.run_id)
    secret = scene.checkout.state / "secrets-aa"
    secret.mkdir(parents=True)
    found = scene.recover()
    assert found.left == []
    assert scene.schedulable
    assert stack not in scene.api.objects
    assert not secret.exists()
    assert pending(scene.arm.path) == []
    again = RunDir.open(scene.run.path)
    assert again.verify() == []
    assert again.meta["problem_code"] == 2
    assert any("uncordon node=n1" in line for line in again.meta["recovered"])
    mutations = len(scene.api.mutations)
    second = scene.recover()
    assert (second.done, second.left, len(scene.api.mutations)) == ([], [], mutations)


def test_it_goes_on_after_an_error_and_tries_only_that_again(scene: Scene):
    scene.arm_undo({"op": "uncordon", "node": "n1"}, {"op": "scale", "workload": "StatefulSet/mx", "replicas": 2})
    other, stack = scene.new_run(), scene.stack("1-a", scene.run.run_id)
    found = scene.recover()
    assert scene.schedulable
    assert stack not in scene.api.objects
    assert len(found.left) == 1
    assert "no such workload" in found.left[0]
    assert not (scene.run.path / "seal.json").exists()
    assert (other.path / "seal.json").exists()
    assert [a.entry["op"] for a in pending(scene.arm.path)] == ["scale"]
    scene.api.put("/apis/apps/v1/namespaces/ns/statefulsets/mx", {
        "metadata": {"name": "mx", "generation": 1}, "spec": {"replicas": 2},
        "status": {"readyReplicas": 2, "replicas": 2, "observedGeneration": 1}})
    assert scene.recover().left == []
    assert (scene.run.path / "seal.json").exists()


def test_a_stack_made_by_hand_and_one_that_was_kept_stay(scene: Scene):
    kept = scene.new_run()
    kept.seal()
    stay = [scene.stack("stack", "none"), scene.stack("1-kept", kept.run_id)]
    gone = scene.stack("1-lost", "20260101T000000Z-forgotten-0000")
    assert scene.recover().left == []
    assert all(s in scene.api.objects for s in stay)
    assert gone not in scene.api.objects


def test_a_sealed_run_with_something_to_undo_is_brought_back_too(scene: Scene):
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    scene.run.seal()
    assert scene.recover().left == []
    assert scene.schedulable
    assert RunDir.open(scene.run.path).verify() == []


def test_an_api_that_is_gone_is_said_and_nothing_is_sealed(scene: Scene):
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    scene.api.failures[("GET", "/api/v1/nodes")] = 503
    found = scene.recover()
    assert len(found.left) == 1
    assert len(pending(scene.arm.path)) == 1
    assert not (scene.run.path / "seal.json").exists()
    del scene.api.failures[("GET", "/api/v1/nodes")]
    assert scene.recover().left == []


def test_an_undo_that_does_not_take_is_not_believed(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    from harness.chaos import world

    monkeypatch.setattr(world, "_UNDO_S", 0.5)
    monkeypatch.setattr("harness.kube.gateway.Gateway.cordon", lambda self, node, *, on=True: None)
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    assert "still cordoned" in scene.recover().left[0]


def test_a_cluster_made_anew_has_nothing_left_to_undo(scene: Scene):
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    scene.spec = ChaosSpec(**{**asdict(scene.spec), "target": {**scene.spec.target, "uid": "another"}, "faults": ()})
    scene.spec.save()
    found = scene.recover()
    assert "the cluster is gone" in "".join(found.done)
    assert not scene.schedulable  # another cluster's node of that name is none of ours
    again = scene.recover()
    assert (again.done, again.left) == ([], [])


def test_while_a_run_is_alive_it_refuses(scene: Scene):
    with scene.checkout.lock("run"), pytest.raises(GuardRefused):
        scene.recover()


CRASH = """
import os, signal, sys
from pathlib import Path
from harness.chaos.spec import ChaosSpec
from harness.chaos.undo import UndoLog
from harness.chaos.world import Hands
spec = ChaosSpec.load(Path(sys.argv[1]))
hands, log = Hands.of(spec), UndoLog(spec.directory / "undo.log", lambda entry: "")
die = int(sys.argv[2])
if die == 0:
    os.kill(os.getpid(), signal.SIGKILL)
log.arm("uncordon", node="n1")
if die == 1:
    os.kill(os.getpid(), signal.SIGKILL)
hands.gateway.cordon("n1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("die", [0, 1, 2])
def test_sigkill_at_each_step_of_an_act(scene: Scene, die: int):
    scene.api.objects[NODE]["spec"] = {}
    words = [sys.executable, "-c", CRASH, str(scene.arm.path / "chaos.json"), str(die)]
    done = subprocess.run(words, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert scene.schedulable == (die < 2)
    began = time.monotonic()
    assert scene.recover().left == []
    assert time.monotonic() - began < 60
    assert scene.schedulable


ORPHAN = """
import signal, sys, time
from pathlib import Path
from harness.store.log import LogWriter
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN if sys.argv[2] == "deaf" else lambda *_: sys.exit(0))
log = LogWriter(Path(sys.argv[1]), "observe")
time.sleep(120)
"""


@pytest.mark.parametrize("ears", ["hears", "deaf"])
def test_processes_of_the_dead_run_are_ended_and_no_others(scene: Scene, tmp_path: Path, ears: str, monkeypatch: pytest.MonkeyPatch):
    from harness.rehearse import orphans as module

    monkeypatch.setattr(module, "ASK_S", 1.0)
    package = tmp_path / "lib" / "harness"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__.append({str(ROOT / 'harness')!r})\n")
    (package / "pretender.py").write_text(ORPHAN)
    started = []
    other = scene.checkout.runs.parent / "other.log"
    for log in (scene.arm.observe_log, other):
        words = [sys.executable, "-m", "harness.pretender", str(log), ears]
        started.append(subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")}, cwd=tmp_path))
    try:
        wait_for(lambda: scene.arm.observe_log.exists() and other.exists(), deadline_s=30, what="both to open their logs")
        assert [pid for pid, _ in orphans(scene.run.path)] == [started[0].pid]
        found = scene.recover()
        assert found.left == []
        assert started[0].wait(5) == (-signal.SIGKILL if ears == "deaf" else 0)
        assert started[1].poll() is None
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_command_lists_what_is_left_and_ends_with_10(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Checkout, "find", classmethod(lambda cls: scene.checkout))
    monkeypatch.setattr(command, "target_for", lambda *a, **k: scene.target)
    scene.arm_undo({"op": "uncordon", "node": "n1"}, {"op": "nonsense"})
    done = CliRunner().invoke(cli, ["recover"], standalone_mode=False)
    assert isinstance(done.exception, CleanupIncomplete)
    assert done.exception.exit_code == 10
    assert "unknown undo 'nonsense'" in str(done.exception)
    assert scene.schedulable


def test_the_command_on_one_run(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Checkout, "find", classmethod(lambda cls: scene.checkout))
    monkeypatch.setattr(command, "target_for", lambda *a, **k: scene.target)
    other = scene.new_run()
    scene.arm_undo({"op": "uncordon", "node": "n1"})
    done = CliRunner().invoke(cli, ["recover", scene.run.run_id], standalone_mode=False)
    assert (done.return_value, done.exception) == (0, None)
    assert "nothing is left" in done.output
    assert not (other.path / "seal.json").exists()


def test_a_run_that_was_brought_back_is_never_a_pass(scene: Scene):
    from harness.judge import judge
    from harness.model.verdict import Status

    with LogWriter(scene.run.conductor_log, "conductor") as log:
        log.event("phase", name="run", edge="begin")
    scene.recover()
    assert judge(scene.run.path).status == Status.INCONCLUSIVE
    assert json.loads((scene.run.path / "run.json").read_text())["meta"]["problem"].startswith("interrupted")

"""A run killed with a fault active, on the real cluster: 'mailgale recover' brings the node, the stack and the run's processes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kube.client import Cluster
from harness.model.target import Target
from harness.rehearse.orphans import end_orphans, orphans
from harness.stack import lifecycle
from harness.store.log import read_events
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
MAILGALE = Path(sys.executable).parent / "mailgale"
RECOVERED_S_MAX = 60.0
FAULT = "cordon-mx"


def plan_text(checkout: Checkout) -> str:
    """mx-pod-kill with less mail, and a node cordoned for longer than the test lives instead of a pod killed."""
    text = (checkout.root / "experiments" / "mx-pod-kill.yaml").read_text()
    for old, new in (
        ("name: kill-mx\n", f"name: {FAULT}\n"), ("func: kill_pod", "func: cordon"), ("pods: 1, grace_s: 0", "nodes: 1, for_s: 300"),
        ("{name: kill-mx, when: {queue_acked: 200}, deadline_s: 120}", f"{{name: {FAULT}, when: {{accepted: 20}}, deadline_s: 400}}"),
        ("backlog_per_sender: 60", "backlog_per_sender: 30"), ("users: 200", "users: 40"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Killed:
    """A run whose conductor and faults got SIGKILL while a node was cordoned."""

    run: RunDir
    node: str


def struck(checkout: Checkout, before: set[Path]) -> tuple[Path, str] | None:
    """The new run and the node that its fault cordoned, as soon as its evidence is on record."""
    for log in (p for run in set(checkout.runs.glob("*-small-cordon-*")) - before for p in run.glob("arms/*/faults.log")):
        for event in read_events(log):
            if isinstance(event, dict) and event.get("edge") == "evidence":
                return log.parents[2], str(event["targets"][0])
    return None


@pytest.fixture(scope="module")
def killed(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    lifecycle.down_all(cluster, checkout, SilentProgress())
    plan = tmp_path_factory.mktemp("plan") / "small-cordon.yaml"
    plan.write_text(plan_text(checkout))
    before = set(checkout.runs.glob("*"))
    output = plan.with_suffix(".out")
    with output.open("wb") as out:
        process = subprocess.Popen([str(MAILGALE), "run", str(plan)], stdout=out, stderr=out, start_new_session=True)
    try:
        found = wait_for(
            lambda: struck(checkout, before) or (process.poll() is not None and pytest.fail(output.read_text())), deadline_s=600,
            what="the fault to strike")
        assert isinstance(found, tuple)
        # The faults' own process first: left alone it would see that its lease's holder is dead, and undo by itself.
        for pid in [p for p, module in orphans(found[0]) if module == "harness.chaos"]:
            os.kill(pid, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        yield Killed(RunDir.open(found[0]), found[1])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        for path in set(checkout.runs.glob("*-small-cordon-*")) - before:
            end_orphans(path)


def schedulable(cluster: Target, node: str) -> bool:
    return next(n.schedulable for n in Cluster(cluster).nodes() if n.name == node)


def test_recover_brings_everything_back_within_a_minute(killed: Killed, cluster: Target, checkout: Checkout):
    assert not schedulable(cluster, killed.node)
    assert lifecycle.deployed(cluster, checkout)
    began = time.monotonic()
    done = subprocess.run([str(MAILGALE), "recover"], capture_output=True, text=True, check=False, timeout=300)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert schedulable(cluster, killed.node)
    assert lifecycle.deployed(cluster, checkout) == []
    assert list(orphans(killed.run.path)) == []
    assert list(checkout.state.glob("secrets-*")) == []
    assert took < RECOVERED_S_MAX, done.stdout


def test_the_run_is_sealed_as_interrupted(killed: Killed):
    run = RunDir.open(killed.run.path)
    assert run.verify() == []
    assert run.meta["problem_code"] == 2


def test_again_there_is_nothing_to_do(killed: Killed):
    done = subprocess.run([str(MAILGALE), "recover"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "there is nothing to recover")


def test_it_is_never_a_pass(killed: Killed):
    done = subprocess.run([str(MAILGALE), "judge", str(killed.run.path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (1, 5), done.stdout

"""Ctrl-C in the second arm of a small plan, and the same command again: the first arm stays to the byte, the verdict covers both."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.model.target import Target
from harness.stack import lifecycle
from harness.store.log import Damage, read_events
from harness.store.run import ArmDir, RunDir
from harness.store.sessions import finished, sessions, unfinished
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
MAILGALE = Path(sys.executable).parent / "mailgale"


def small_plan(checkout: Checkout, folder: Path, name: str) -> Path:
    """mx-pod-kill with less mail, under a name of its own."""
    text = (checkout.root / "experiments" / "mx-pod-kill.yaml").read_text()
    for old, new in (("backlog_per_sender: 30", "backlog_per_sender: 12"), ("queue_acked: 200", "queue_acked: 60"), ("users: 200", "users: 40")):
        assert old in text
        text = text.replace(old, new)
    plan = folder / f"{name}.yaml"
    plan.write_text(text)
    return plan


def newest(checkout: Checkout, name: str, before: frozenset[Path] = frozenset()) -> RunDir | None:
    """The last run of a plan, but for those that earlier sessions left."""
    found = sorted(p for p in checkout.runs.glob(f"*-{name}-*") if p not in before and (p / "run.json").is_file())
    return RunDir.open(found[-1]) if found else None


def loading(arm: ArmDir) -> bool:
    """Whether the arm's load has brought some mail in."""
    path = arm.load_log()
    return path.is_file() and any(not isinstance(e, Damage) and e["kind"] == "load_state" and e["accepted"] > 20 for e in read_events(path))


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@dataclass
class Twice:
    first: subprocess.Popen[str]
    said: str
    again: subprocess.CompletedProcess[str]
    run: RunDir
    before: dict[str, str]


@pytest.fixture(scope="module")
def twice(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    lifecycle.down_all(cluster, checkout, SilentProgress())
    plan = small_plan(checkout, tmp_path_factory.mktemp("plan"), "small-again")
    before_all = frozenset(checkout.runs.glob("*-small-again-*"))
    output = (plan.parent / "first.out").open("w+")
    process = subprocess.Popen([str(MAILGALE), "run", str(plan), "--fresh"], stdout=output, stderr=subprocess.STDOUT, text=True)
    try:

        def in_second() -> RunDir | None:
            assert process.poll() is None, "the run ended before its second arm was loaded"
            run = newest(checkout, "small-again", before_all)
            if run is None or len(run.arm_dirs()) < 2:
                return None
            arms = {(a.block, a.name): a for a in run.arm_dirs()}
            one, two = (arms[key] for key in run.planned_arms)
            return run if finished(one) and loading(two) else None

        run = wait_for(in_second, deadline_s=900, what="the load of the second arm", every_s=0.5)
        process.send_signal(signal.SIGINT)
        process.wait(300)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    output.seek(0)
    one = run.planned_arms[0]
    before = digests(run.path / "arms" / f"{one[0]}-{one[1]}")
    again = subprocess.run([str(MAILGALE), "run", str(plan)], capture_output=True, text=True, check=False, timeout=1200)
    yield Twice(process, output.read(), again, RunDir.open(run.path), before)
    output.close()


def test_the_interrupted_command_says_how_to_go_on(twice: Twice):
    assert twice.first.returncode == 2, twice.said[-3000:]
    assert "1 of 2 arms are done" in twice.said
    assert "Traceback" not in twice.said


def test_the_first_arm_stays_to_the_byte(twice: Twice):
    block, name = twice.run.planned_arms[0]
    assert digests(twice.run.path / "arms" / f"{block}-{name}") == twice.before


def test_no_new_run_was_begun_and_nothing_is_unfinished(twice: Twice, checkout: Checkout):
    found = newest(checkout, "small-again")
    assert found is not None
    assert found.path == twice.run.path
    assert unfinished(twice.run) == ()
    assert twice.run.verify() == []
    assert [s.number for s in sessions(twice.run)] == [2]


def test_the_verdict_covers_both_arms(twice: Twice):
    """A busy host may make the load INCONCLUSIVE; the evidence is complete all the same."""
    found = json.loads((twice.run.path / "verdict.json").read_text())["verdicts"]
    status = {(v["arm"], v["check"]): v for v in found}
    for _, name in twice.run.planned_arms:
        assert status[name, "evidence-complete"]["status"] == "PASS", status[name, "evidence-complete"]
    assert status["queue-on-pvc", "no-loss"]["status"] == "PASS"
    assert status["queue-on-emptydir", "no-loss"]["status"] == "FAIL"
    assert twice.again.returncode in (0, 5), twice.again.stdout + twice.again.stderr


def test_the_report_says_so_on_its_first_page(twice: Twice):
    page = (twice.run.path / "report.html").read_text()
    block, name = twice.run.planned_arms[1]
    assert f"begun again: {block}-{name}" in page[: page.index("<nav")]


def test_nothing_is_left_behind(twice: Twice, cluster: Target, checkout: Checkout):
    assert lifecycle.deployed(cluster, checkout) == []
    assert list(checkout.state.glob("secrets-*")) == []

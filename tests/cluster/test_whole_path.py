"""The whole path as a user takes it: a plan run by the command, on the real cluster, judged, reported, judged again.

The plan is mx-pod-kill with less mail. The arm on an emptyDir must lose mail and say which; the arm on a volume must not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.model.target import Target
from harness.stack import lifecycle
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MAILGALE = Path(sys.executable).parent / "mailgale"


@pytest.fixture(scope="module")
def run(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, subprocess.CompletedProcess[str]]:
    lifecycle.down_all(cluster, checkout, SilentProgress())
    text = (checkout.root / "experiments" / "mx-pod-kill.yaml").read_text()
    for old, new in (("backlog_per_sender: 30", "backlog_per_sender: 20"), ("users: 200", "users: 40")):
        assert old in text
        text = text.replace(old, new)
    plan = tmp_path_factory.mktemp("plan") / "small-kill.yaml"
    plan.write_text(text)
    before = set(checkout.runs.glob("*"))
    done = subprocess.run([str(MAILGALE), "run", str(plan), "--fresh"], capture_output=True, text=True, check=False, timeout=1400)
    made = [p for p in checkout.runs.glob("*-small-kill-*") if p not in before]
    assert len(made) == 1, done.stdout[-2000:] + done.stderr[-4000:]
    return RunDir.open(made[0]), done


def verdicts(run: RunDir) -> dict[tuple[str, str], dict[str, object]]:
    found = json.loads((run.path / "verdict.json").read_text())["verdicts"]
    return {(v["arm"].split("#")[0], v["check"]): v for v in found}


def test_the_queue_on_a_volume_loses_nothing(run):
    one = verdicts(run[0])["queue-on-pvc", "no-loss"]
    assert one["status"] == "PASS", one


def test_the_queue_on_an_emptydir_loses_mail_and_the_verdict_names_it(run):
    one = verdicts(run[0])["queue-on-emptydir", "no-loss"]
    assert one["status"] == "FAIL", one
    assert one["figures"]["lost"] >= 100
    assert any("@example.org" in line for line in one["evidence"])


def test_the_fault_took_place_in_both_arms(run):
    found = verdicts(run[0])
    assert [found[arm, "faults-happened"]["status"] for arm in ("queue-on-pvc", "queue-on-emptydir")] == ["PASS", "PASS"]


def test_the_evidence_is_complete(run):
    found = verdicts(run[0])
    assert [found[arm, "evidence-complete"] for arm in ("queue-on-pvc", "queue-on-emptydir") if found[arm, "evidence-complete"]["status"] != "PASS"] == []


def test_the_exit_code_says_the_verdict(run):
    """A busy host may make the load INCONCLUSIVE (5); nothing but that may keep the plan from passing."""
    directory, done = run
    found = verdicts(directory)
    planned = {("queue-on-emptydir", "no-loss")}
    failed = [k for k, v in found.items() if v["status"] == "FAIL" and k not in planned]
    unsure = {check for (_, check), v in found.items() if v["status"] == "INCONCLUSIVE"}
    assert failed == [], [found[k]["reason"] for k in failed]
    assert done.returncode == (5 if unsure else 0), done.stdout + done.stderr
    assert unsure <= {"load-was-real"}, [v["reason"] for v in found.values() if v["status"] == "INCONCLUSIVE"]


def test_the_summary_fits_one_screen_and_names_the_report(run):
    directory, done = run
    assert len(done.stdout.splitlines()) <= 42
    assert str(directory.path / "report.html") in done.stdout


def test_the_run_is_sealed_and_judged_again_alike(run):
    directory, done = run
    assert directory.verify() == []
    before = (directory.path / "verdict.json").read_bytes()
    again = subprocess.run([str(MAILGALE), "judge", str(directory.path)], capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == done.returncode
    assert (directory.path / "verdict.json").read_bytes() == before


def test_no_password_lies_in_the_run(run):
    directory, _ = run
    suspects = [p for p in directory.path.rglob("*") if p.is_file() and b'"password": "' in p.read_bytes() and b'"password": ""' not in p.read_bytes()]
    assert suspects == []


def test_nothing_is_left_behind(run, cluster: Target, checkout: Checkout):
    assert lifecycle.deployed(cluster, checkout) == []
    assert list(checkout.state.glob("secrets-*")) == []

"""Everything of a run is killed with SIGKILL while faults are active: the janitor in the cluster undoes them, and recover finds nothing to undo.

The faults are a scale-out and a cordon, both meant to last far longer than the test. While the run lives, a second one is refused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.chaos import mirror
from harness.chaos.undo import pending
from harness.errors import GuardRefused
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.kube.runlease import RunLease
from harness.model.target import Target
from harness.stack import lifecycle
from harness.store.log import Damage, read_events
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress
from tests.cluster.test_whole_path_again import MAILGALE, newest, small_plan

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]
NAME = "small-janitor"
FAULTS = {"out": ("scale", "component: mx, replicas: 2, for_s: 200"), "closed": ("cordon", "component: mailbox, nodes: 1, for_s: 200")}  # of two mailboxes one at least is off the edge


def plan_of(checkout: Checkout, folder: Path) -> Path:
    """One arm, mail for a while, two faults from its first seconds on."""
    path = small_plan(checkout, folder, NAME)
    text = path.read_text()
    head, tail = text.index("method:"), text.index("extensions:")
    method = "".join(
        f"  - {{type: action, name: {name}, provider: {{type: python, module: harness.chaos.actions, func: {kind}, arguments: {{{given}}}}}}}\n"
        for name, (kind, given) in FAULTS.items()
    )
    text = f"{text[:head]}method:\n{method}{text[tail:]}"
    whens = "".join(f"      - {{name: {name}, when: {{at_s: 2}}, deadline_s: 250}}\n" for name in FAULTS)
    faults, arms = text.index("    faults:"), text.index("    arms:")
    text = f"{text[:faults]}    nodes: {{max: 1}}\n    faults:\n{whens}{text[arms:]}"
    emptydir = next(line for line in text.splitlines(keepends=True) if "queue-on-emptydir" in line)
    path.write_text(text.replace(emptydir, "").replace("        tail_s: 8\n", "        tail_s: 200\n"))
    return path


def family(pid: int) -> list[int]:
    """A process and all that it started, whatever session they are in. Source: proc(5), /proc/pid/task/tid/children."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


@dataclass
class Killed:
    run: RunDir
    second: subprocess.CompletedProcess[str]
    refused: str
    before: dict[str, object]
    broken: dict[str, object]
    after: dict[str, object]
    took_s: float
    ended: dict[int, str]
    recovered: list[subprocess.CompletedProcess[str]] = field(default_factory=list)


def state(cluster: Cluster, namespace: str) -> dict[str, object]:
    mx = cluster.find("apps/v1", "StatefulSet", "mx", namespace)
    return {"replicas": mx and mx["spec"]["replicas"], "cordoned": [n.name for n in cluster.nodes() if not n.schedulable]}


@pytest.fixture(scope="module")
def killed(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    lifecycle.down_all(cluster, checkout, SilentProgress())
    reader, before_all = Cluster(cluster), frozenset(checkout.runs.glob(f"*-{NAME}-*"))
    plan, namespace = plan_of(checkout, tmp_path_factory.mktemp("plan")), checkout.namespace("1-queue-on-pvc")
    before = {"replicas": 1, "cordoned": [n.name for n in reader.nodes() if not n.schedulable]}
    output = (plan.parent / "out").open("w+")
    process = subprocess.Popen([str(MAILGALE), "run", str(plan), "--fresh"], stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def active() -> RunDir | None:
        if process.poll() is not None:
            output.seek(0)
            raise AssertionError(f"the run ended before its faults were active: {output.read()[-3000:]}")
        run = newest(checkout, NAME, before_all)
        arms = run.arm_dirs() if run else []
        events = [e for a in arms if a.faults_log.is_file() for e in read_events(a.faults_log) if not isinstance(e, Damage)]
        assert not [e for e in events if e.get("edge") == "failed"], events
        return run if {e.get("name") for e in events if e.get("edge") == "evidence"} == set(FAULTS) else None

    try:
        run = wait_for(active, deadline_s=400, what="both faults to be active", every_s=0.5)
        second = subprocess.run([str(MAILGALE), "run", str(plan), "--fresh"], capture_output=True, text=True, check=False, timeout=120)
        with pytest.raises(GuardRefused) as refused:  # as another checkout would be, which no lock of this one holds back
            RunLease(Gateway(reader, "0therone"), "0therone").acquire()
        broken = state(reader, namespace)
    finally:
        for pid in family(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)
        output.close()
    begin = time.monotonic()
    wait_for(lambda: len(mirror.ended(reader, namespace)) >= 2, deadline_s=90, what="the janitor", every_s=0.5)
    one = Killed(run, second, str(refused.value), before, broken, state(reader, namespace), time.monotonic() - begin, mirror.ended(reader, namespace))
    for _ in range(2):
        one.recovered.append(subprocess.run([str(MAILGALE), "recover", run.run_id], capture_output=True, text=True, check=False, timeout=300))
    yield one
    lifecycle.down_all(cluster, checkout, SilentProgress())


def test_both_faults_were_active(killed: Killed):
    assert killed.broken["replicas"] == 2
    assert len(killed.broken["cordoned"]) == 1


def test_a_second_run_was_refused(killed: Killed):
    assert killed.second.returncode == 7, killed.second.stderr
    assert f"another run is under way on this cluster: {killed.run.run_id}" in killed.refused


def test_the_janitor_brought_the_cluster_back(killed: Killed):
    assert killed.after == killed.before
    assert set(killed.ended.values()) == {"undone by the janitor"}
    assert killed.took_s < 60


def test_recover_finds_nothing_to_undo_and_then_nothing_at_all(killed: Killed):
    first, then = killed.recovered
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count("undone by the janitor; verified") == 2
    assert then.stdout.strip() == "nothing was left"
    assert pending(killed.run.arm_dirs()[0].path) == []


def test_nothing_is_left_in_the_cluster(killed: Killed, cluster: Target, checkout: Checkout):
    assert lifecycle.deployed(cluster, checkout) == []
    assert Cluster(cluster).find("coordination.k8s.io/v1", "Lease", "mailgale-run", "default") is None

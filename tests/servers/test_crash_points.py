"""The harness struck with a fault active, the API server a small one over a real socket: everything is brought back, nothing is forgotten.

Two ways: the driver of ``mailgale selftest crash`` at a sample of its cases; and the faults' process killed at every record it writes,
exactly: before the record that follows an act, so that the act is done and nobody has noted it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.chaos import runner
from harness.chaos.lease import held
from harness.chaos.targets import resolve
from harness.chaos.undo import pending
from harness.kube.client import Cluster
from harness.model.plan import FaultSpec
from harness.model.target import Node
from harness.selftest.crash import Ground, crash_rows
from harness.store.log import LogWriter
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from tests.servers.fake_api import FakeApi, fake_api
from tests.unit.chaos.plans import COMPONENTS, plan

pytestmark = pytest.mark.slow
NAMESPACE, OWNER = "mailgale-crash", "crash-test"
NODES = (Node("n1", "worker", ("127.0.0.1",), edge=True), Node("n2", "worker", ("127.0.0.2",)), Node("n3", "worker", ("127.0.0.3",)))
CORDON = FaultSpec("cordon-mx", "cordon", {"component": "mx", "nodes": 1}, {"for_s": 3.0}, {"at_s": 0.2}, 60.0)


def pod(name: str, node: str) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    one = {"name": "pause", "image": "pause"}
    return {
        "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/component": "mx"}},
        "spec": {"nodeName": node, "containers": [one]}, "status": {"phase": "Running", "conditions": ready, "containerStatuses": []},
    }


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        made.namespace(NAMESPACE)
        for node in NODES:
            made.put(f"/api/v1/nodes/{node.name}", {"kind": "Node", "metadata": {"name": node.name}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        base = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx"
        made.put(base, {"kind": "StatefulSet", "metadata": {"name": "mx", "generation": 1}, "spec": {"replicas": 1},
                        "status": {"replicas": 1, "readyReplicas": 1, "observedGeneration": 1}})
        made.put(f"/api/v1/namespaces/{NAMESPACE}/pods/mx-0", pod("mx-0", "n2"))
        yield made


def cordoned(api: FakeApi) -> list[str]:
    return [f"{n.name} is cordoned" for n in NODES if api.objects[f"/api/v1/nodes/{n.name}"]["spec"].get("unschedulable")]


@pytest.mark.parametrize("case", [
    ("KILL", "armed"), ("TERM", "begin"), ("all killed", "evidence"), ("API gone", "evidence"), ("disk full", "begin"),
], ids=lambda c: f"{c[0]} at {c[1]}")
def test_what_the_driver_strikes_is_brought_back(case: tuple[str, str], api: FakeApi, tmp_path: Path):
    ground = Ground(api.target(tmp_path, nodes=NODES), NAMESPACE, OWNER, (CORDON,), lambda: cordoned(api))
    (row,) = crash_rows(ground, SilentProgress(), cases=[case])
    assert row.well, row
    if row.seen == "not supported here":
        pytest.skip(row.reason)
    struck = case[1] in ("begin", "evidence")
    assert any(m == "PATCH" and (b or {}).get("spec", {}).get("unschedulable") for m, _, b in api.requests) or not struck, "no fault was active"


def test_the_driver_sees_what_was_not_brought_back(api: FakeApi, tmp_path: Path):
    """Planted: while the run goes on, something is changed that stands in no undo log."""
    planted: list[str] = []
    ground = Ground(api.target(tmp_path, nodes=NODES), NAMESPACE, OWNER, (CORDON,), lambda: [*cordoned(api), *planted])
    threading.Timer(2.0, planted.append, ("n9 is cordoned",)).start()
    (row,) = crash_rows(ground, SilentProgress(), cases=[("KILL", "evidence")])
    assert not row.well
    assert (row.seen, row.reason) == ("left", "n9 is cordoned")


KILLED = """#!{python}
import os, runpy, signal, sys
from harness.store import log
left, write = int(os.environ["CRASH_AT"]), log.LogWriter.flush

def flush(self):
    global left
    if self._events:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    write(self)

log.LogWriter.flush = flush
runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
"""


@pytest.mark.timeout(300)
def test_killed_before_any_record_everything_is_brought_back(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "python"
    script.write_text(KILLED.format(python=sys.executable))
    script.chmod(0o700)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Checkout.find().root), os.environ.get("PYTHONPATH", "")]))
    target, acted = api.target(tmp_path, nodes=NODES), []
    for at in range(1, 40):
        arm = tmp_path / f"arm-{at}"
        arm.mkdir()
        monkeypatch.setenv("CRASH_AT", str(at))
        code = faults(arm, target)
        before = cordoned(api)
        acted.append(bool(before))
        undone = runner.recover(arm, target)
        assert cordoned(api) == [], at
        assert pending(arm) == [], at
        assert not before or undone, (at, "what was done was not in the undo log")
        if code == 0:
            break
    assert code == 0, "the faults never came to their end"
    assert at > 8
    assert acted.count(True) >= 2, "no strike came while the fault was active"


def faults(arm: Path, target: Any) -> int | None:
    """Run the faults' process to its end."""
    load, wanted = LogWriter(arm / "load-1.log", "load"), plan(replace(CORDON, arguments={"for_s": 0.1}, when={"at_s": 0.0}))
    load.event("load_state", phase="burst", accepted=1)
    load.flush()
    resolved = resolve(wanted, "a", Cluster(target), NAMESPACE, COMPONENTS)
    with held(arm / "lease", run_id=OWNER, namespace=NAMESPACE) as lease:
        process = runner.start(
            wanted, "a", resolved, target=target, namespace=NAMESPACE, arm_dir=arm, arm_label="1-a", run_id=OWNER, checkout=Checkout.find(),
            components=COMPONENTS, lease=lease, trigger_deadline_s=20,
        )
        return process.wait(60)

"""The whole process on a fake API server: logs from creation, changes of pods, and a log that is closed on SIGTERM."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.observe.spec import ObserveSpec
from harness.store.log import read_events
from harness.support.clock import now_ns, wait_for
from tests.servers.fake_api import FakeApi, fake_api

PODS = "/api/v1/namespaces/n/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices"
LOG = f"{PODS}/mx-0/log"


def pod(instance: str, *, last: str = "", restarts: int = 0) -> dict[str, Any]:
    status: dict[str, Any] = {"name": "mx", "containerID": f"containerd://{instance}", "state": {"running": {}}, "restartCount": restarts}
    if last:
        status["lastState"] = {"terminated": {"containerID": f"containerd://{last}"}}
    return {"metadata": {"name": "mx-0", "namespace": "n", "uid": "u1", "resourceVersion": str(restarts)}, "spec": {"containers": [{"name": "mx"}]},
            "status": {"phase": "Running", "containerStatuses": [status]}}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


@pytest.fixture
def start(api: FakeApi, tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(**changes: Any) -> subprocess.Popen[bytes]:
        target = api.target(tmp_path)
        ObserveSpec(target.kubeconfig, target.context, "n", str(tmp_path), "r", **{"interval_s": 0.2, **changes}).write(tmp_path / "spec.json")
        started.append(subprocess.Popen([sys.executable, "-m", "harness.observe", str(tmp_path / "spec.json")], stderr=subprocess.PIPE))
        return started[-1]

    yield begin
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "observe.log"
    return [e for e in read_events(path) if isinstance(e, dict)] if path.exists() else []


def seen(folder: Path, kind: str, **fields: Any) -> dict[str, Any] | None:
    return next((e for e in events(folder) if e["kind"] == kind and fields.items() <= e.items()), None)


def test_pods_endpoints_and_logs_are_followed_and_the_log_is_closed(api: FakeApi, start: Any, tmp_path: Path):
    api.put(f"{PODS}/mx-0", pod("a" * 64))
    stream: queue.Queue[bytes | None] = queue.Queue()
    api.streams[LOG] = stream
    stream.put(b"first line\n")
    process = start()
    text = tmp_path / "logs" / "mx-0.mx.log"
    wait_for(lambda: text.exists() and b"first line" in text.read_bytes(), deadline_s=20, what="the first line", every_s=0.1)
    stream.put(b"second line\n")
    api.emit(SLICES, "ADDED", {"metadata": {"name": "mx-1", "uid": "s", "labels": {"kubernetes.io/service-name": "mx"}}, "addressType": "IPv4",
                               "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]})
    wait_for(lambda: seen(tmp_path, "endpoints", service="mx", ready=["10.0.0.1"]), deadline_s=10, what="endpoints", every_s=0.1)
    api.emit(PODS, "DELETED", pod("a" * 64))
    wait_for(lambda: seen(tmp_path, "pod", pod="mx-0", phase="Deleted"), deadline_s=10, what="the pod to go", every_s=0.1)
    wait_for(lambda: b"second line" in text.read_bytes(), deadline_s=10, what="the second line", every_s=0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert events(tmp_path)[-1]["kind"] == "log_closed"


def test_a_restart_between_two_looks_is_read_from_the_previous_log(api: FakeApi, start: Any, tmp_path: Path):
    api.put(f"{PODS}/mx-0", pod("b" * 64, last="a" * 64, restarts=1))
    api.texts[LOG] = b"some line\n"
    start()
    text = tmp_path / "logs" / "mx-0.mx.log"
    wait_for(lambda: text.exists() and text.read_bytes().count(b"some line") == 2, deadline_s=20, what="both logs", every_s=0.1)
    assert text.read_bytes().count(b"--- mailgale: container") == 2


def test_a_log_is_bounded_and_says_so(api: FakeApi, start: Any, tmp_path: Path):
    api.put(f"{PODS}/mx-0", pod("a" * 64))
    api.texts[LOG] = b"x" * 100_000
    start(log_bytes_max=50_000)
    wait_for(lambda: seen(tmp_path, "incident"), deadline_s=20, what="the incident", every_s=0.1)
    assert (tmp_path / "logs" / "mx-0.mx.log").stat().st_size < 51_000


def test_an_api_server_that_fails_is_missed_samples(api: FakeApi, start: Any, tmp_path: Path):
    api.failures[("GET", PODS)] = 500
    start()
    wait_for(lambda: seen(tmp_path, "sample_missed", what="pods"), deadline_s=20, what="the missed sample", every_s=0.1)


def test_it_ends_by_itself_at_its_time(start: Any, tmp_path: Path):
    assert start(ends_at_ns=now_ns() + 3 * 10**9).wait(20) == 0
    assert events(tmp_path)[-1]["kind"] == "log_closed"


def test_it_ends_when_its_parent_is_gone(api: FakeApi, start: Any, tmp_path: Path):
    target = api.target(tmp_path)
    ObserveSpec(target.kubeconfig, target.context, "n", str(tmp_path), "r", interval_s=0.2).write(tmp_path / "spec.json")
    code = "import subprocess,sys,time; subprocess.Popen([sys.executable,'-m','harness.observe',sys.argv[1]]); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "spec.json")])
    wait_for(lambda: seen(tmp_path, "log_opened"), deadline_s=20, what="the observer", every_s=0.1)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: seen(tmp_path, "log_closed"), deadline_s=15, what="the observer to end", every_s=0.1)


def test_a_spoilt_spec_is_a_usage_error(tmp_path: Path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kubeconfig": "x", "nonsense": 1}))
    with pytest.raises(UsageError, match="nonsense"):
        ObserveSpec.read(path)
    done = subprocess.run([sys.executable, "-m", "harness.observe", str(path)], capture_output=True, check=False)
    assert done.returncode == 4
    assert b"nonsense" in done.stderr

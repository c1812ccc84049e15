"""Samplers over real sockets and files; for each the defect that turns its sample into a missed one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.kube.client import Cluster
from harness.kube.objects import Pod, pod_of
from harness.observe.samplers import EdgeSampler, HostSampler, QueueSampler, parse_statistics
from harness.observe.sink import Sink
from harness.observe.throttle import ThrottleSampler, cpu_root, parse_cadvisor
from harness.store.log import read_events
from tests.servers.fake_api import FakeApi, fake_api

QUEUE = b'{"incoming":1,"active":2,"deferred":3,"hold":0,"corrupt":0,"oldest_s":4.5}'
CSV = b"# pxname,svname,scur,status\nmx,FRONTEND,7,OPEN\nmx,mx1,3,UP\nmx,mx2,,MAINT\n"
CONTAINER = "c" * 64


def make_pod(name: str = "mx-0", component: str = "mx", *, ready: bool = True, deleting: bool = False, phase: str = "Running") -> Pod:
    meta: dict[str, Any] = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": {"app.kubernetes.io/component": component}}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {
        "phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": "a", "containerID": f"containerd://{CONTAINER}", "state": {"running": {}}, "restartCount": 0}],
    }
    return pod_of({"metadata": meta, "spec": {"nodeName": "w1", "containers": [{"name": "a"}]}, "status": status})


class Recorder:
    """A sink and what was written through it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "observe.log"
        self.sink = Sink(self.path, "observe")

    def events(self, kind: str) -> list[dict[str, Any]]:
        self.sink.flush()
        return [e for e in read_events(self.path) if isinstance(e, dict) and e["kind"] == kind]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path)
    yield made
    made.sink.close()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


# -- queues


def queues(recorder: Recorder, api: FakeApi, tmp_path: Path, *pods: Pod) -> QueueSampler:
    return QueueSampler(recorder.sink, Cluster(api.target(tmp_path)), "n", {"mx": 9154}, lambda: pods)


PROXY = "/api/v1/namespaces/n/pods/mx-0:9154/proxy/queue"


def test_queue_depths_come_through_the_proxy(recorder: Recorder, api: FakeApi, tmp_path: Path):
    api.texts[PROXY] = QUEUE
    queues(recorder, api, tmp_path, make_pod(), make_pod("web-0", "web"), make_pod("mx-1", phase="Pending")).sample()
    (event,) = recorder.events("queue")
    assert (event["pod"], event["component"], event["deferred"], event["oldest_s"]) == ("mx-0", "mx", 3, 4.5)
    assert recorder.events("sample_missed") == []


@pytest.mark.parametrize("body", [b"{}", b"no json", None], ids=["no figures", "no json", "gone"])
def test_a_queue_that_does_not_answer_is_missed(recorder: Recorder, api: FakeApi, tmp_path: Path, body: bytes | None):
    if body is not None:
        api.texts[PROXY] = body
    queues(recorder, api, tmp_path, make_pod()).sample()
    assert [e["what"] for e in recorder.events("sample_missed")] == ["queue mx-0"]
    assert recorder.events("queue") == []


def test_a_pod_that_only_starts_or_goes_is_not_missed(recorder: Recorder, api: FakeApi, tmp_path: Path):
    queues(recorder, api, tmp_path, make_pod(ready=False)).sample()
    queues(recorder, api, tmp_path, make_pod(deleting=True)).sample()
    assert recorder.events("sample_missed") == []


def test_a_pod_that_answered_once_is_missed_even_when_unready(recorder: Recorder, api: FakeApi, tmp_path: Path):
    sampler = queues(recorder, api, tmp_path, make_pod(ready=False))
    api.texts[PROXY] = QUEUE
    sampler.sample()
    del api.texts[PROXY]
    sampler.sample()
    assert len(recorder.events("sample_missed")) == 1


# -- edge


@pytest.fixture
def statistics() -> Iterator[tuple[str, dict[str, Any]]]:
    answer: dict[str, Any] = {"status": 200, "body": CSV}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(answer["body"])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", answer
    server.shutdown()
    server.server_close()


def test_the_edge_is_told_once_and_then_on_change(recorder: Recorder, statistics: tuple[str, dict[str, Any]]):
    address, answer = statistics
    sampler = EdgeSampler(recorder.sink, address, lambda: [make_pod("edge", "edge")])
    sampler.sample()
    sampler.sample()
    assert len(recorder.events("edge")) == 3
    answer["body"] = CSV.replace(b"mx1,3,UP", b"mx1,0,DOWN")
    sampler.sample()
    assert recorder.events("edge")[-1]["status"] == "DOWN"
    assert len(recorder.events("edge")) == 4


@pytest.mark.parametrize("change", [{"status": 503}, {"body": b"<html>"}])
def test_an_edge_that_answers_nonsense_is_missed(recorder: Recorder, statistics: tuple[str, dict[str, Any]], change: dict[str, Any]):
    address, answer = statistics
    answer.update(change)
    EdgeSampler(recorder.sink, address, lambda: [make_pod("edge", "edge")]).sample()
    assert [e["what"] for e in recorder.events("sample_missed")] == ["edge"]


def test_an_edge_that_is_not_there_yet_is_not_missed_but_one_that_went_is(recorder: Recorder, statistics: tuple[str, dict[str, Any]]):
    address, answer = statistics
    sampler = EdgeSampler(recorder.sink, address, list)
    sampler.sample()
    assert recorder.events("edge") == recorder.events("sample_missed") == []
    sampler = EdgeSampler(recorder.sink, address, lambda: [make_pod("edge", "edge", ready=False)])
    sampler.sample()
    answer["status"] = 500
    sampler.sample()
    assert len(recorder.events("sample_missed")) == 1


def test_statistics_parse():
    assert parse_statistics(CSV.decode()) == {("mx", "FRONTEND"): (7, "OPEN"), ("mx", "mx1"): (3, "UP"), ("mx", "mx2"): (0, "MAINT")}
    with pytest.raises(ValueError, match="no statistics"):
        parse_statistics("")


# -- host


def host_files(folder: Path, busy: int, idle: int) -> None:
    (folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0\n")
    (folder / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:    1000 kB\n")


def test_the_host_share_is_of_the_time_since_the_last_sample(recorder: Recorder, tmp_path: Path):
    host_files(tmp_path, 1000, 1000)
    sampler = HostSampler(recorder.sink, tmp_path)
    sampler.sample()
    host_files(tmp_path, 1075, 1025)
    sampler.sample()
    (event,) = recorder.events("host")
    assert (event["cpu_share"], event["mem_available_bytes"]) == (0.75, 1024000)


def test_a_host_that_cannot_be_read_is_missed(recorder: Recorder, tmp_path: Path):
    HostSampler(recorder.sink, tmp_path / "none").sample()
    assert [e["what"] for e in recorder.events("sample_missed")] == ["host"]


def test_this_real_host_is_read(recorder: Recorder):
    sampler = HostSampler(recorder.sink)
    sampler.sample()
    sampler.sample()
    assert recorder.events("sample_missed") == []


# -- throttling


def cgroup_v1(root: Path) -> Path:
    below = Path("docker/node/kubelet.slice/pod1.slice") / f"cri-containerd-{CONTAINER}.scope"
    for controller in ("cpu", "cpuacct"):
        (root / controller / below).mkdir(parents=True)
    (root / "cpu/cpu.shares").write_text("1024\n")
    folder = root / "cpu" / below
    (folder / "cpu.stat").write_text("nr_periods 100\nnr_throttled 40\nthrottled_time 5000\n")
    (folder / "cpu.cfs_quota_us").write_text("15000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (root / "cpuacct" / below / "cpuacct.usage").write_text("777\n")
    return folder


def cgroup_v2(root: Path) -> Path:
    folder = root / "system.slice/docker-x.scope/kubelet.slice" / f"cri-containerd-{CONTAINER}.scope"
    folder.mkdir(parents=True)
    (folder / "cpu.stat").write_text("usage_usec 7\nuser_usec 1\nnr_periods 100\nnr_throttled 40\nthrottled_usec 5\n")
    (folder / "cpu.max").write_text("15000 100000\n")
    return folder


@pytest.mark.parametrize(("make", "usage"), [(cgroup_v1, 777), (cgroup_v2, 7000)])
def test_throttling_is_read_from_both_kinds_of_cgroups(recorder: Recorder, tmp_path: Path, make: Any, usage: int):
    make(tmp_path / "cg")
    ThrottleSampler(recorder.sink, tmp_path / "cg", lambda: [make_pod()]).sample()
    (event,) = recorder.events("throttle")
    assert {k: event[k] for k in ("pod", "periods", "throttled", "throttled_ns", "usage_ns", "quota_cores")} == {
        "pod": "mx-0", "periods": 100, "throttled": 40, "throttled_ns": 5000, "usage_ns": usage, "quota_cores": 0.15,
    }


def test_no_limit_is_a_quota_of_nothing(recorder: Recorder, tmp_path: Path):
    (cgroup_v2(tmp_path / "cg") / "cpu.max").write_text("max 100000\n")
    ThrottleSampler(recorder.sink, tmp_path / "cg", lambda: [make_pod()]).sample()
    assert recorder.events("throttle")[0]["quota_cores"] == 0


def test_a_cgroup_that_is_gone_is_missed_when_it_stays_so(recorder: Recorder, tmp_path: Path):
    folder = cgroup_v2(tmp_path / "cg")
    sampler = ThrottleSampler(recorder.sink, tmp_path / "cg", lambda: [make_pod()])
    sampler.sample()
    (folder / "cpu.stat").unlink()
    sampler.sample()
    assert recorder.events("sample_missed") == []
    sampler.sample()
    assert [e["what"] for e in recorder.events("sample_missed")] == ["throttle mx-0"]


def test_the_root_of_v2_is_the_root(tmp_path: Path):
    assert cpu_root(tmp_path) == tmp_path


def test_cadvisor_parses():
    labels = 'container="a",namespace="n",pod="mx-0"'
    names = {"container_cpu_usage_seconds_total": 2, "container_cpu_cfs_periods_total": 10, "container_cpu_cfs_throttled_periods_total": 4,
             "container_cpu_cfs_throttled_seconds_total": 0.5, "container_spec_cpu_quota": 15000, "container_spec_cpu_period": 100000}
    text = "# HELP x\n" + "".join(f"{k}{{{labels}}} {v} 1700000000\n" for k, v in names.items())
    (usage,) = parse_cadvisor(text + text.replace('"n"', '"other"'), "n").values()
    assert (usage.periods, usage.throttled, usage.throttled_ns, usage.usage_ns, usage.quota_cores) == (10, 4, 5 * 10**8, 2 * 10**9, 0.15)

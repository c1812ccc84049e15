"""Undoing reads back what it did. The API server is a small one over a real socket; the engine's command is one that may answer wrongly."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.chaos import restore
from harness.errors import CommandFailed, NotSupported
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from tests.servers.fake_api import FakeApi
from tests.unit.kube.conftest import NAMESPACE, api, cluster, gateway, recorded

__all__ = ["api", "cluster", "gateway", "recorded"]
POD = f"/api/v1/namespaces/{NAMESPACE}/pods/mx-0"
SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/redis"
#: Notes how it was called, and prints the first line of the file named like its first word; without one it fails.
DOCKER = """#!/bin/sh
echo "$@" >> {folder}/asked
f={folder}/$1; [ -e "$f" ] || exit 1
head -n 1 "$f"; [ "$(wc -l < "$f")" -lt 2 ] || sed -i 1d "$f"
"""


class Clock:
    """A minute goes by at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 20.0
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(gateway: Gateway, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(restore, "time", Clock())
    return SimpleNamespace(spec=SimpleNamespace(namespace=NAMESPACE), cluster=cluster, gateway=gateway, nodes=None)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an engine's answers."""
    folder = tmp_path / "docker-says"
    folder.mkdir()
    command = tmp_path / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(DOCKER.format(folder=folder))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return folder


def undo(hands: SimpleNamespace, op: str, **entry: object) -> str:
    return restore.UNDO[op](hands, {"op": op, **entry})  # type: ignore[arg-type]


def test_a_pod_goes_at_once_and_is_looked_for(api: FakeApi, hands: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    api.put(POD, {"metadata": {"name": "mx-0"}, "spec": {}, "status": {}})
    assert undo(hands, "pod_gone", pod="mx-0") == ""
    assert POD not in api.objects
    assert next(b for m, _, b in api.requests if m == "DELETE")["gracePeriodSeconds"] == 0
    hands.cluster = SimpleNamespace(namespace=lambda name: {}, pod=lambda namespace, name: object())
    assert undo(hands, "pod_gone", pod="mx-0") == "pod mx-0 is still there"
    looks = iter([object(), None])
    hands.cluster = SimpleNamespace(namespace=lambda name: {}, pod=lambda namespace, name: next(looks))
    assert undo(hands, "pod_gone", pod="mx-0") == "", "it is looked for more than once"


def test_without_its_namespace_nothing_is_left_to_undo(api: FakeApi, hands: SimpleNamespace, tmp_path: Path):
    del api.objects[f"/api/v1/namespaces/{NAMESPACE}"]
    assert undo(hands, "pod_gone", pod="mx-0") == ""
    assert undo(hands, "volume_repair", path=str(tmp_path), workload="StatefulSet/mx", replicas=1) == ""
    assert undo(hands, "service_selector", service="redis", selector={"a": "b"}) == ""
    assert api.mutations == []


@pytest.mark.parametrize(("selector", "endpoint", "left"), [
    ({"app": "redis"}, "redis-0", ""), ({"app": "redis"}, "redis-1", ""), ({"app": "redis"}, "impostor", "still leads to impostor"), ({"app": "x"}, "redis-0", "still has another selector"),
])
def test_a_service_leads_to_its_own_pods_again(api: FakeApi, hands: SimpleNamespace, selector: dict[str, str], endpoint: str, left: str):
    api.put(SERVICE, {"metadata": {"name": "redis"}, "spec": {"selector": selector}})
    for name, labels in (("redis-0", {"app": "redis", "more": "x"}), ("redis-1", {"app": "redis"}), ("impostor", {"app": "y"})):
        api.put(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}})
    api.put(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/redis-1", {
        "metadata": {"name": "redis-1", "labels": {"kubernetes.io/service-name": "redis"}}, "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": endpoint}}]})
    found = undo(hands, "service_selector", service="redis", selector={"app": "redis"})
    assert left in found
    assert bool(found) == bool(left)
    patches = [b for m, p, b in api.requests if m == "PATCH" and p == SERVICE]
    assert patches == ([] if selector == {"app": "redis"} else [[{"op": "replace", "path": "/spec/selector", "value": {"app": "redis"}}]])


def test_who_still_uses_a_volume_is_named(api: FakeApi, hands: SimpleNamespace):
    claim = {"volumes": [{"name": "t", "emptyDir": {}}, {"name": "s", "persistentVolumeClaim": {"claimName": "spool-mx-0"}}]}
    api.put(POD, {"metadata": {"name": "mx-0"}, "spec": claim, "status": {}})
    assert restore._users_of(hands, "spool-mx-0") == "pod mx-0 still uses spool-mx-0"  # type: ignore[arg-type]
    assert restore._users_of(hands, "spool-mx-1") == ""  # type: ignore[arg-type]


def test_a_volume_that_does_not_thaw_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    thawed: list[Path] = []
    monkeypatch.setattr(restore, "filesystems", SimpleNamespace(own=lambda path: True, thaw=thawed.append, frozen=lambda path: len(thawed) < 2))
    assert [restore.UNDO["thaw_volume"](None, {"path": str(tmp_path)}) for _ in range(2)] == [f"{tmp_path} is still frozen", ""]  # type: ignore[arg-type]
    assert restore.UNDO["thaw_volume"](None, {"path": str(tmp_path / "gone")}) == ""  # type: ignore[arg-type]
    assert len(thawed) == 2


def test_a_file_goes_and_one_that_is_gone_is_well(tmp_path: Path):
    (tmp_path / "f").touch()
    for _ in range(2):
        assert restore.UNDO["unlink"](None, {"path": str(tmp_path / "f")}) == ""  # type: ignore[arg-type]
    assert not (tmp_path / "f").exists()


def test_a_file_that_comes_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "f").touch()
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok: None)
    assert restore.UNDO["unlink"](None, {"path": str(tmp_path / "f")}) == f"{tmp_path}/f is still there"  # type: ignore[arg-type]


@pytest.mark.parametrize(("answers", "left"), [("1500", "still has a CPU quota of 1500 µs"), ("2000", "")])
def test_a_quota_is_read_back(hands: SimpleNamespace, docker: Path, answers: str, left: str):
    (docker / "update").write_text("n1\n")
    (docker / "inspect").write_text(f"{answers}\n")
    found = undo(hands, "node_cores", node="n1", quota=2000)
    assert left in found
    assert bool(found) == bool(left)
    assert (docker / "asked").read_text().splitlines()[0] == "update --cpu-quota 2000 n1"


def test_nodes_that_are_not_ours_are_not_reached(hands: SimpleNamespace, docker: Path):
    with pytest.raises(CommandFailed, match="no such node"):
        undo(hands, "node_cores", node="n2", quota=1)
    hands.cluster = SimpleNamespace(target=SimpleNamespace(kind="context", nodes=()))
    with pytest.raises(NotSupported, match="kind clusters only"):
        undo(hands, "static_pod", node="n1", name="etcd")
    assert not (docker / "asked").exists()


@pytest.mark.parametrize(("states", "asked", "left"), [
    ("paused running running", "unpause", ""), ("exited exited running", "start", ""), ("running running running", "", ""),
    ("exited exited exited", "start", "n1 is exited"),
])
def test_a_container_runs_again_and_the_api_answers(api: FakeApi, hands: SimpleNamespace, docker: Path, states: str, asked: str, left: str):
    api.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    (docker / "inspect").write_text("\n".join(states.split()) + "\n")
    for verb in ("unpause", "start"):
        (docker / verb).write_text("n1\n")
    assert undo(hands, "container_start", container="n1") == left
    verbs = [line.split()[0] for line in (docker / "asked").read_text().splitlines()]
    assert [v for v in verbs if v != "inspect"] == ([asked] if asked else [])


def test_a_container_that_runs_is_no_control_plane_yet(api: FakeApi, hands: SimpleNamespace, docker: Path):
    (docker / "inspect").write_text("running\n")
    api.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    assert undo(hands, "container_start", container="n1") == "node n1 is not ready"
    assert undo(hands, "container_start", container="the-load-balancer") == ""
    api.failures["GET", "/api/v1/nodes"] = 500
    assert "the API does not answer yet" in undo(hands, "container_start", container="n1")


def test_a_static_pod_comes_back_and_is_looked_for(hands: SimpleNamespace, docker: Path):
    (docker / "exec").write_text("4711\n")
    assert undo(hands, "static_pod", node="n1", name="kube-controller-manager") == ""
    first, second = (docker / "asked").read_text().splitlines()[-2:]
    assert first.endswith("sh kube-controller-manager")
    assert second == "exec n1 pgrep -x kube-controller"


@pytest.mark.parametrize(("answer", "limit"), [("1024", 1024), ("unlimited", 0), (None, 0)])
def test_a_limit_that_cannot_be_read_is_none(docker: Path, answer: str | None, limit: int):
    if answer is not None:
        (docker / "exec").write_text(f"{answer}\n")
    assert restore.fd_limit("n1", 7) == limit
    assert not restore.static_pod_runs("n1", "etcd") if answer is None else restore.static_pod_runs("n1", "etcd")


def test_a_process_that_is_gone_needs_no_files(hands: SimpleNamespace, docker: Path):
    hands.nodes = SimpleNamespace(processes=lambda node, container: [SimpleNamespace(pid=7)], alive=lambda node, found: [])
    assert undo(hands, "fd_limits", node="n1", container="c", soft=1024) == ""


@pytest.mark.parametrize(("seen", "left"), [("1024", ""), ("64", "processes on n1 with few files still: [7]"), ("1", "processes on n1 with few files still: [7]"), ("unlimited", "")])
def test_every_process_gets_its_files_back(hands: SimpleNamespace, docker: Path, seen: str, left: str):
    process = SimpleNamespace(pid=7)
    hands.nodes = SimpleNamespace(processes=lambda node, container: [process], alive=lambda node, found: found)
    (docker / "exec").write_text(f"\n{seen}\n")
    assert undo(hands, "fd_limits", node="n1", container="c", soft=1024) == left
    assert (docker / "asked").read_text().splitlines()[0] == "exec n1 prlimit --pid 7 --nofile=1024:"

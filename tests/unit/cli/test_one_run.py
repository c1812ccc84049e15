"""A run under way is not disturbed by a second command of the same checkout, and what a killed one left is found as it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main as border
from harness.cli.target import TargetOptions, target_for
from harness.cluster import found, kind, tools
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, NotReady
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress

#: Each of them would bring the cluster up (and replace one whose node is cordoned), wake it, or take it down.
COMMANDS = (("run", "mx-pod-kill"), ("rehearse", "mx-pod-kill"), ("preflight", "mx-pod-kill"), ("recover",), ("cluster", "up"), ("cluster", "down"), ("stack", "up"), ("stack", "down"))


def _touched(*_: object, **__: object) -> None:
    raise AssertionError("the cluster was touched")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout of its own, whose cluster must not be touched."""
    real, made = Checkout.find(), Checkout(tmp_path)
    for name in ("deploy", "experiments", "scenarios"):
        (tmp_path / name).symlink_to(real.root / name)
    monkeypatch.setattr(Checkout, "find", classmethod(lambda cls: made))
    for name in ("up", "down", "current", "wake"):
        monkeypatch.setattr(kind, name, _touched)
    return made


def end(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["mailgale", *words])
    return border._guarded(), capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c))
def test_while_a_run_is_under_way_its_cluster_is_left_alone(
    command: tuple[str, ...], checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with checkout.lock("run"):
        code, said = end(*command, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, "another mailgale process holds 'run'" in said) == (7, True), said


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c))
def test_the_control_without_one_it_is_touched(
    command: tuple[str, ...], checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, said = end(*command, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, "the cluster was touched" in said) == (3, True), said


DOCKER = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$1" in
  info) echo '{"ServerVersion": "1"}' ;;
  ps) echo a-control-plane; echo a-worker; echo a-worker2; echo a-external-load-balancer ;;
  inspect) cat "$0.json" ;;
esac
"""


def engine(folder: Path, monkeypatch: pytest.MonkeyPatch, **states: str) -> Path:
    """A docker command in the path that knows four containers; ``states``: name → ``exited`` or ``paused``."""
    docker = folder / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    roles = {"a-control-plane": "control-plane", "a-worker": "worker", "a-worker2": "worker", "a-external-load-balancer": "external-load-balancer"}
    listed = ",".join(
        f"""{{"Name": "/{name}", "Config": {{"Labels": {{"io.x-k8s.kind.role": "{role}"}}, "Image": "i"}}, "Mounts": [],
        "State": {{"Running": {str(states.get(name) != "exited").lower()}, "Paused": {str(states.get(name) == "paused").lower()}}},
        "NetworkSettings": {{"Networks": {{}}}}}}""" for name, role in roles.items()
    )
    (folder / "docker.json").write_text(f"[{listed}]")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "docker.calls"


def test_what_is_paused_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine(tmp_path, monkeypatch, **{"a-worker": "exited", "a-worker2": "paused"})
    seen = {c.name: (c.running, c.paused) for c in found.containers(Engine("1"), "a")}
    assert seen == {"a-control-plane": (True, False), "a-worker": (False, False), "a-worker2": (False, True), "a-external-load-balancer": (True, False)}


@pytest.mark.parametrize(("states", "calls"), [
    ({"a-worker": "exited", "a-external-load-balancer": "paused"}, ["start a-worker", "unpause a-external-load-balancer"]), ({}, []),
], ids=["a node and the balancer", "nothing"])  # fmt: skip
def test_what_a_killed_run_left_stopped_or_paused_is_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: dict[str, str], calls: list[str]):
    log = engine(tmp_path, monkeypatch, **states)
    monkeypatch.setattr(kind, "ensure_engine", lambda *_: Engine("1"))
    monkeypatch.setattr(kind, "_recorded", lambda *_: {"name": "single"})
    monkeypatch.setattr(tools, "kubectl_path", lambda checkout: Path("/bin/false"))
    monkeypatch.setattr(kind, "_RETURN_S", 0.1)
    kind.wake(Checkout(tmp_path), SilentProgress())
    assert [c for c in log.read_text().splitlines() if c.split()[0] in ("start", "unpause", "rm", "kill")] == calls


@pytest.mark.parametrize("verb", [kind.wake, kind.down])
def test_after_a_restart_of_the_machine_the_engine_is_started_for_a_cluster_on_record_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Checkout, SilentProgress], None]
):
    started: list[str] = []

    def start(*_: object) -> Engine:
        started.append("engine")
        raise ClusterFailed("none can be started")

    monkeypatch.setattr(kind, "ensure_engine", start)
    monkeypatch.setattr(kind, "answering", lambda: None)
    verb(Checkout(tmp_path), SilentProgress())
    assert not started
    monkeypatch.setattr(kind, "_recorded", lambda *_: {"name": "single"})
    with pytest.raises(ClusterFailed):
        verb(Checkout(tmp_path), SilentProgress())
    assert started == ["engine"]


@pytest.mark.parametrize("wake", [True, False])
def test_only_who_puts_back_wakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wake: bool):
    asked: list[str] = []
    monkeypatch.setattr(kind, "current", lambda checkout, **how: asked.append(f"current {how}"))
    monkeypatch.setattr(kind, "wake", lambda *_: asked.append("wake"))
    monkeypatch.setattr(kind, "answering", lambda: None)
    with pytest.raises(NotReady, match="there is no cluster"):
        target_for(Checkout(tmp_path), SilentProgress(), TargetOptions(), start=False, wake=wake)
    once = "current {'well': False}"
    assert asked == ([once, "wake", once] if wake else [once])


def test_a_cluster_that_does_not_come_back_is_not_called_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine(tmp_path, monkeypatch)
    monkeypatch.setattr(kind, "answering", lambda: Engine("1"))
    monkeypatch.setattr(kind, "current", lambda *_, **__: None)
    monkeypatch.setattr(kind, "_healthy", lambda *_: False)
    with pytest.raises(NotReady, match="the cluster is there, but its API server does not answer"):
        target_for(Checkout(tmp_path), SilentProgress(), TargetOptions(), start=False)


KUBECTL = """#!/bin/sh
case "$*" in
  *readyz*) echo ok ;;
  *kube-system*) echo '{"metadata": {"uid": "u1"}}' ;;
  *) cat "$0.json" ;;
esac
"""


def test_a_cordoned_and_a_stopped_node_do_not_hide_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is asked of a node is asked of one that runs."""
    real, checkout = Checkout.find(), Checkout(tmp_path)
    (tmp_path / "deploy").symlink_to(real.root / "deploy")
    log = engine(tmp_path, monkeypatch, **{"a-worker2": "exited"})
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    items = ",".join(
        f"""{{"metadata": {{"name": "{name}", "labels": {{}}}}, "spec": {{"unschedulable": {str(name == "a-worker").lower()}}},
        "status": {{"nodeInfo": {{"kubeletVersion": "v", "containerRuntimeVersion": "containerd://2", "kernelVersion": "6"}},
        "conditions": [{{"type": "Ready", "status": "{"Unknown" if name == "a-worker2" else "True"}"}}],
        "addresses": [{{"type": "InternalIP", "address": "127.0.0.1"}}]}}}}""" for name in ("a-control-plane", "a-worker", "a-worker2")
    )
    (tmp_path / "kubectl.json").write_text(f'{{"items": [{items}]}}')
    monkeypatch.setattr(tools, "kubectl_path", lambda checkout: kubectl)
    checkout.state.mkdir()
    (checkout.state / "kubeconfig").write_text("")
    (checkout.state / "cluster.json").write_text('{"name": "single", "topology": "t", "uid": "u1"}')
    assert kind.current(checkout) is None, "it is not well"
    target = kind.current(checkout, well=False)
    assert target is not None
    assert (target.uid, [n.name for n in target.nodes]) == ("u1", ["a-control-plane", "a-worker", "a-worker2"])
    (asked,) = [c for c in log.read_text().splitlines() if c.startswith("exec ")]
    assert " a-worker bash" in asked


def test_the_fake_docker_is_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine(tmp_path, monkeypatch)
    assert subprocess.run(["docker", "ps"], capture_output=True, text=True, check=True).stdout.startswith("a-control-plane")

"""Finding and starting an engine: stale files, refusals, and a second engine of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness.cluster import capabilities, engine, packages
from harness.errors import ClusterFailed
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def place(tmp_path: Path) -> engine.Place:
    return engine.Place(
        f"unix://{tmp_path}/docker.sock", tmp_path / "docker.pid", tmp_path / "exec", tmp_path / "data",
        ("--bridge=none", "--iptables=false", "--ip-masq=false"),
    )  # fmt: skip


@pytest.mark.parametrize("content", ["999999999", "", "rubbish", "1"])
def test_pid_files_of_other_or_gone_processes_are_removed(place: engine.Place, content: str):
    place.containerd_pidfile.parent.mkdir(parents=True)
    for path in (place.pidfile, place.containerd_pidfile):
        path.write_text(content)
    notes = Notes()
    engine.clear_stale(place, notes)
    assert not place.pidfile.exists()
    assert not place.containerd_pidfile.exists()
    assert len(notes.said) == 2


def test_without_root_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, place: engine.Place):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterFailed, match=r"only root can start one.*group 'docker'"):
        engine.ensure_engine(Checkout.find(), SilentProgress(), place)


def test_elsewhere_than_on_debian_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, place: engine.Place):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda *a, **k: None)
    with pytest.raises(ClusterFailed, match="no Debian-like system"):
        engine.ensure_engine(Checkout.find(), SilentProgress(), place)


def test_missing_packages_without_root_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "available", lambda: False)
    with pytest.raises(ClusterFailed, match="apt-get install mmdebstrap"):
        packages.install(["mmdebstrap"], SilentProgress())


def test_the_shim_is_registered_only_where_a_capability_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: engine.Place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(capabilities, "missing", lambda: ())
    assert "--default-runtime" not in engine.dockerd_command(Checkout.find(), place)
    monkeypatch.setattr(capabilities, "missing", lambda: (24,))
    assert "--default-runtime" in engine.dockerd_command(Checkout.find(), place)


needs_dockerd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="starting an engine needs root and dockerd"
)


@needs_dockerd
@pytest.mark.slow
def test_an_engine_is_started_and_a_killed_one_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: engine.Place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkout = Checkout.find()
    assert engine.answering(place) is None
    try:
        first = engine.ensure_engine(checkout, SilentProgress(), place)
        assert first.version
        assert first.containers() == []
        pid = int(place.pidfile.read_text())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: engine.answering(place) is None, deadline_s=10, what="the engine to be gone")
        again = engine.ensure_engine(checkout, SilentProgress(), place)  # over stale files and a live containerd
        assert again.version == first.version
        assert int(place.pidfile.read_text()) != pid
    finally:
        stop(place)


@needs_dockerd
@pytest.mark.slow
def test_an_engine_that_ends_at_once_is_reported_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: engine.Place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    broken = engine.Place(place.host, place.pidfile, place.exec_root, place.data_root, ("--storage-driver=rubbish", "--bridge=none"))
    try:
        with pytest.raises(ClusterFailed, match="dockerd ended with"):
            engine.ensure_engine(Checkout.find(), SilentProgress(), broken)
    finally:
        stop(broken)


def stop(place: engine.Place) -> None:
    for path, name in ((place.pidfile, "dockerd"), (place.containerd_pidfile, "containerd")):
        try:
            pid = int(path.read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda pid=pid: not engine._alive(pid), deadline_s=20, what=f"{name} to end")
        except (FileNotFoundError, ValueError, ProcessLookupError):
            continue
    subprocess.run(["umount", str(place.data_root)], capture_output=True, check=False)  # a killed dockerd leaves its own bind mounts

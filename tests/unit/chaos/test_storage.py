"""Stalls and full volumes on a real ext4 file system on a loop device; what shares the host's file system is not touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.chaos import powerloss, restore, storage
from harness.chaos.world import FaultFailed
from harness.cluster import filesystems
from harness.errors import NotSupported
from harness.kube.objects import Pod
from harness.model.target import Target
from harness.stack.volumes import own_file_systems

NAMESPACE, CLAIM, SIZE = "mailgale-test-x", "spool-mx-0", 32 << 20
POD = Pod("mx-0", NAMESPACE, "u", "w1", "mx", "Running", True, False, (), (), {},
          raw={"spec": {"volumes": [{"name": "spool", "persistentVolumeClaim": {"claimName": CLAIM}}]}})  # fmt: skip


class Doing:
    """A fault under way, as far as storage needs it; what it says and arms is kept."""

    def __init__(self, target: Target) -> None:
        self.name, self.victims, self.workload = "f", ["mx-0"], "StatefulSet/mx"
        self.world = SimpleNamespace(spec=SimpleNamespace(namespace=NAMESPACE, target_object=lambda: target))
        self.said: list[tuple[str, dict[str, object]]] = []
        self.armed: list[dict[str, object]] = []
        self.while_held = lambda: None

    def pod(self, name: str) -> Pod:
        return POD

    def say(self, edge: str, **detail: object) -> None:
        self.said.append((edge, detail))

    def arm(self, op: str, **fields: object) -> dict[str, object]:
        self.armed.append({"op": op, **fields})
        return self.armed[-1]

    def until(self, probe, what: str):
        assert probe(), what

    def undo_one(self, armed: dict[str, object]) -> None:
        self.armed.remove(armed)
        assert restore.UNDO[str(armed["op"])](self.world, armed) == ""

    def hold(self, seconds: float) -> None:
        self.while_held()
        time.sleep(seconds)

    def undo(self) -> list[str]:
        return [left for e in reversed(self.armed) if (left := restore.UNDO[str(e["op"])](None, e))]


def target_in(root: Path) -> Target:
    return Target("kind", "t", "/nowhere", "ctx", "uid", (), (), (), (), volumes_dir=str(root / "volumes"))


@pytest.fixture
def volume(tmp_path: Path):
    """The target, and a claim of it that is a file system of its own."""
    target = target_in(tmp_path)
    try:
        filesystems.provide(target, NAMESPACE, {CLAIM: SIZE})
    except NotSupported as lacking:
        pytest.skip(str(lacking))
    yield target, Path(target.volumes_dir) / NAMESPACE / CLAIM
    filesystems.withdraw(target, NAMESPACE)
    assert not os.path.ismount(Path(target.volumes_dir) / NAMESPACE / CLAIM)


@pytest.fixture
def plain(tmp_path: Path):
    target = target_in(tmp_path)
    path = Path(target.volumes_dir) / NAMESPACE / CLAIM
    path.mkdir(parents=True)
    return target, path


def test_a_file_system_is_made_empty_and_goes_without_a_trace(volume, tmp_path):
    target, path = volume
    assert filesystems.own(path)
    assert list(path.iterdir()) == []
    filesystems.freeze(path)
    filesystems.withdraw(target, NAMESPACE)  # thaws what is frozen
    assert not filesystems.own(path)
    assert not (tmp_path / "file-systems" / NAMESPACE).exists()
    loops = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in loops
    filesystems.withdraw(target, NAMESPACE)


def test_each_stall_holds_a_write_up(volume):
    f = Doing(volume[0])
    storage._volume_stall(f, 0.4, 2, 0.1)
    evidence = [d for e, d in f.said if e == "evidence"]
    assert [e for e, _ in f.said] == ["begin", "evidence", "evidence", "end"]
    assert all(0.4 <= d["lasted_s"] < 2 and d["write_waited_s"] >= 0.4 for d in evidence)
    assert f.undo() == []
    assert list(volume[1].iterdir()) == []


def test_a_stall_that_is_none_is_a_failed_fault(volume):
    """Planted: somebody thaws the volume at once."""
    f = Doing(volume[0])
    f.while_held = lambda: filesystems.thaw(volume[1])
    with pytest.raises(FaultFailed, match="was to stall"):
        storage._volume_stall(f, 0.4, 1, 0.1)
    assert f.undo() == []


def test_whatever_is_frozen_is_thawed_by_its_undo(volume):
    filesystems.freeze(volume[1])
    entry = {"op": "thaw_volume", "path": str(volume[1])}
    assert restore.UNDO["thaw_volume"](None, entry) == ""
    assert not filesystems.frozen(volume[1])
    assert restore.UNDO["thaw_volume"](None, entry) == ""


def test_a_full_volume_takes_no_mail_and_has_room_again(volume):
    f, path = Doing(volume[0]), volume[1]

    def write() -> None:
        with pytest.raises(OSError, match="No space left"), (path / "mail").open("wb") as handle:
            handle.write(bytes(16384))

    f.while_held = write
    storage._volume_full(f, 0.1)
    assert [e for e, _ in f.said] == ["begin", "evidence", "end"]
    assert f.said[-1][1]["free_octets"][CLAIM] > SIZE / 2
    assert f.undo() == []


def repairing(target, log):
    """Hands on a cluster without pods that writes down how its workload is scaled."""
    cluster = SimpleNamespace(target=target, namespace=lambda name: {}, pods=lambda name: [])
    gateway = SimpleNamespace(scale=lambda workload, namespace, replicas: log.append(replicas))
    return SimpleNamespace(spec=SimpleNamespace(namespace=NAMESPACE), cluster=cluster, gateway=gateway, until_whole=lambda *_: "")


def test_a_read_only_volume_is_repaired_with_what_it_held(volume):
    f, (target, path), log = Doing(volume[0]), volume, []
    (path / "mail").write_text("x")
    handle = os.open(path / "mail", os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    (path / "unsynced").write_text("x")
    f.world.workload = lambda name: {"spec": {"replicas": 1}}
    try:
        storage._volume_readonly(f, 0.1)
    except NotSupported as lacking:
        pytest.skip(str(lacking))
    assert [e for e, _ in f.said] == ["begin", "evidence", "end"]
    assert not filesystems.writable(path)
    assert (path / "mail").read_text() == "x"
    for expected in ([0, 1], [0, 1, 1]):  # the second time there is nothing left to repair
        assert restore.UNDO["volume_repair"](repairing(target, log), f.armed[0]) == ""
        assert log == expected
    assert filesystems.writable(path)
    assert {p.name for p in path.iterdir()} - {"lost+found"} == {"mail"}  # what nobody had synced is gone, as with a real disk
    assert (path / "mail").read_text() == "x"


def losing_power(volume, monkeypatch, power_off=filesystems.power_off, meanwhile=lambda: None):
    """A fault that cuts the power of ``volume``, on a cluster whose pod goes at once; what it said."""
    f, killed, scaled = Doing(volume[0]), [], []
    f.world, f.while_held = repairing(volume[0], scaled), meanwhile
    f.world.spec.target_object = lambda: volume[0]
    f.world.workload = lambda name: {"spec": {"replicas": 1}}
    f.world.gateway.delete_pod = lambda name, *_, uid: killed.append(uid)
    monkeypatch.setattr(powerloss, "gone", lambda f, pod: pod.uid in killed)
    monkeypatch.setattr(filesystems, "power_off", power_off)
    monkeypatch.setattr(powerloss, "BEFORE_S", 0.1)
    powerloss._power_loss(f)
    assert (killed, scaled) == (["u"], [0, 1])
    return f.said


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(volume, monkeypatch):
    path = volume[1]
    (path / "mail").write_text("x")
    subprocess.run(["sync", path / "mail"], check=True)
    said = losing_power(volume, monkeypatch, meanwhile=lambda: (path / "acknowledged-too-early").write_text("x"))
    assert [e for e, _ in said] == ["begin", "evidence", "evidence", "end"]
    assert said[2][1] == {"volume": CLAIM, "synced_kept": True, "unsynced_kept": False}
    assert {p.name for p in path.iterdir()} - {"lost+found"} == {"mail"}


def test_a_power_cut_that_forgets_nothing_is_a_failed_fault(volume, monkeypatch):
    """Planted: the file system is synced before it is broken off."""

    def in_order(path: Path) -> None:
        os.sync()
        filesystems.break_off(path)

    with pytest.raises(FaultFailed, match="unsynced file there: True"):
        losing_power(volume, monkeypatch, in_order)
    assert filesystems.writable(volume[1])


def test_a_volume_in_use_is_not_repaired(volume):
    (target, path), log = volume, []
    filesystems.break_off(path)
    hands = repairing(target, log)
    hands.cluster.pods = lambda name: [POD]
    entry = {"path": str(path), "workload": "StatefulSet/mx", "replicas": 1}
    before, restore._AWAY_S = restore._AWAY_S, 0.3
    try:
        assert restore.UNDO["volume_repair"](hands, entry) == f"pod mx-0 still uses {CLAIM}"
    finally:
        restore._AWAY_S = before
    assert filesystems.own(path)


def test_a_volume_that_shares_the_hosts_file_system_is_left_alone(plain):
    for act in (lambda f: storage._volume_stall(f, 0.1, 1, 0), lambda f: storage._volume_full(f, 0.1)):
        f = Doing(plain[0])
        with pytest.raises(NotSupported, match="shares its file system"):
            act(f)
        assert f.armed == []


def test_a_volume_set_aside_comes_back_with_what_it_held(plain):
    path = plain[1]
    (path / "mail").write_text("x")
    aside = path.with_name(path.name + restore.ASIDE)
    entry = {"op": "reattach", "path": str(path)}
    for leave in (path.touch, path.mkdir, lambda: None):  # as the fault leaves it, as a kubelet might, and cut off between
        path.rename(aside)
        leave()
        assert restore.UNDO["reattach"](None, entry) == ""
        assert (path / "mail").read_text() == "x"
    assert restore.UNDO["reattach"](None, entry) == ""
    path.rename(aside)
    path.mkdir()
    (path / "other").touch()
    assert "still set aside" in restore.UNDO["reattach"](None, entry)
    shutil.rmtree(path)


def test_the_template_says_which_claims_are_file_systems():
    template = {"metadata": {"name": "spool", "annotations": {"mailgale.dev/file-system": "ext4"}}, "spec": {"resources": {"requests": {"storage": "256Mi"}}}}
    manifest = {"kind": "StatefulSet", "metadata": {"name": "mx"}, "spec": {"replicas": 2, "volumeClaimTemplates": [template]}}
    assert own_file_systems([manifest]) == {"spool-mx-0": 256 << 20, "spool-mx-1": 256 << 20}
    del template["metadata"]["annotations"]
    assert own_file_systems([manifest]) == {}


def test_elsewhere_it_is_not_supported(tmp_path):
    target = target_in(tmp_path)
    object.__setattr__(target, "kind", "context")
    with pytest.raises(NotSupported):
        filesystems.provide(target, NAMESPACE, {CLAIM: SIZE})
    filesystems.provide(target, NAMESPACE, {})

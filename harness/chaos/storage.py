"""Faults of a component's volume: writing stalls again and again (T06), no room is left, it does not attach (T07).

Stalls and fullness need a volume with a file system of its own (a variant such as ``queue-on-ext4``), so that neither the host nor the
run's record is hit; on any other volume they are "not supported here". Sources: fsfreeze(8), posix_fallocate(3), statvfs(3).
"""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from harness.chaos import restore
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed
from harness.cluster import filesystems
from harness.errors import NotSupported
from harness.kube.objects import Pod

PROBE, BALLAST = ".mailgale-probe", ".mailgale-ballast"
#: A volume counts as full with less than this left, which is less than one mail.
FULL_OCTETS = 8192
_PROBE_ENDS_S = 10.0
_FAILED_TO_ATTACH = frozenset({"FailedMount", "FailedAttachVolume"})


def volume_stall(
    component: str, pods: int = 1, for_s: float = 2.0, times: int = 5, pause_s: float = 3.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Suspend all writing to the volumes of the pods ``victims`` for ``for_s`` seconds, ``times`` times with ``pause_s`` between. kind only.

    Evidence, for every stall: a write of our own, begun while it lasted, did not end before it did. Known limits: reading goes on, as it does
    with a real stall as long as the page cache has what is read.
    """
    act = partial(_volume_stall, for_s=for_s, times=times, pause_s=pause_s)
    return carry_out("volume_stall", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _volume_stall(f: Fault, for_s: float, times: int, pause_s: float) -> None:
    volumes = [own_file_system(f, f.pod(v)) for v in f.victims]
    for path in volumes:
        f.arm("unlink", path=str(path / PROBE))
        f.arm("thaw_volume", path=str(path))
    f.say("begin", for_s=for_s, times=times, pause_s=pause_s, volumes=[str(p) for p in volumes])
    for number in range(1, times + 1):
        for path in volumes:
            f.say("evidence", volume=path.name, stall=number, **_stall(f, path, for_s))
        if number < times:
            f.hold(pause_s)
    f.say("end")


def _stall(f: Fault, path: Path, for_s: float) -> dict[str, float]:
    """One stall; how long it lasted and how long a write waited in it."""
    filesystems.freeze(path)
    begun = time.monotonic()
    probe = subprocess.Popen(
        ["dd", "if=/dev/zero", f"of={path / PROBE}", "bs=512", "count=1", "conv=fsync", "status=none"], stderr=subprocess.DEVNULL
    )
    try:
        f.hold(for_s)
        waited = probe.poll() is None
    finally:
        filesystems.thaw(path)
        lasted = time.monotonic() - begun
        code = _end_of(probe)
    if not waited or code != 0:
        raise FaultFailed(f"a write ended with {code} while the volume was to stall", where=str(path))
    return {"lasted_s": round(lasted, 3), "write_waited_s": round(time.monotonic() - begun, 3)}


def _end_of(probe: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a write once its volume is thawed; None when it does not end (it is killed then)."""
    try:
        return probe.wait(_PROBE_ENDS_S)
    except subprocess.TimeoutExpired:
        probe.kill()
        return None


def volume_full(
    component: str, pods: int = 1, for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Leave no room on the volumes of the pods ``victims`` for ``for_s`` seconds. kind only.

    Evidence: statvfs(3) says that nothing is free, and a write of our own ends with ENOSPC. Ended by deleting what filled it.
    """
    act = partial(_volume_full, for_s=for_s)
    return carry_out("volume_full", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _volume_full(f: Fault, for_s: float) -> None:
    volumes = [own_file_system(f, f.pod(v)) for v in f.victims]
    for path in volumes:
        f.arm("unlink", path=str(path / BALLAST))
    f.say("begin", for_s=for_s, free_octets={p.name: restore.free_octets(p) for p in volumes})
    for path in volumes:
        fill(path / BALLAST)
        free = restore.free_octets(path)
        if free >= FULL_OCTETS:
            raise FaultFailed(f"{free} octets are still free", where=str(path))
        f.say("evidence", volume=path.name, free_octets=free, error="ENOSPC")
    f.hold(for_s)
    for path in volumes:
        (path / BALLAST).unlink()
        if restore.free_octets(path) < FULL_OCTETS:
            raise FaultFailed("nothing became free again", where=str(path))
    f.say("end", free_octets={p.name: restore.free_octets(p) for p in volumes})


def fill(ballast: Path) -> None:
    """Grow ``ballast`` until its file system has no block left.

    :raises FaultFailed: it took more than was free, so it is not what limits it.
    """
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        at, step = 0, 1 << 26
        while step >= os.statvfs(ballast).f_frsize:
            try:
                os.posix_fallocate(handle, at, step)
                at += step
            except OSError:
                step //= 2  # no room for so much: the rest in smaller pieces
    finally:
        os.close(handle)


def volume_readonly(
    component: str, pods: int = 1, for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 240.0,
) -> dict[str, Any]:
    """Make the volumes of the pods ``victims`` read-only, as an error of the disk does, for ``for_s`` seconds. kind only.

    Evidence: a write of our own ends with EROFS, and reading goes on. Undone as people do it: the workload is scaled to nothing, the volume
    unmounted, checked by e2fsck(8) and mounted again, the workload scaled back. What was written and not synced before is lost with it, so mail that was
    acknowledged too early shows. Known limits: all pods of the workload are away for the repair.
    """
    act = partial(_volume_readonly, for_s=for_s)
    return carry_out("volume_readonly", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _volume_readonly(f: Fault, for_s: float) -> None:
    volumes = [own_file_system(f, f.pod(v)) for v in f.victims]
    replicas = int(f.world.workload(f.workload)["spec"].get("replicas", 1))
    for path in volumes:
        f.arm("volume_repair", path=str(path), workload=f.workload, replicas=replicas)
    f.say("begin", for_s=for_s, volumes=[str(p) for p in volumes])
    for path in volumes:
        filesystems.break_off(path)
        if filesystems.writable(path):
            raise FaultFailed("can still be written to", where=str(path))
        f.say("evidence", volume=path.name, error="EROFS", entries=len(os.listdir(path)))
    f.hold(for_s)
    f.say("end")


def attach_refused(
    component: str, pods: int = 1, for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 240.0,
) -> dict[str, Any]:
    """Delete the pods ``victims`` while their volumes cannot be attached for ``for_s`` seconds, so that they come back late (T07).

    Evidence: the new pod's own event that its volume is not mounted. Undone when the workload is whole. Known limits: a kubelet tries again
    at growing intervals, up to two minutes, so a pod may start that much later than its volume is back; needs the shared volumes of kind.
    """
    act = partial(_attach_refused, for_s=for_s)
    return carry_out("attach_refused", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _attach_refused(f: Fault, for_s: float) -> None:
    before = [f.pod(v) for v in f.victims]
    volumes = {p.name: _volume(f, p) for p in before}
    if owned := [p for p in volumes.values() if filesystems.own(p)]:
        raise NotSupported(f"a volume that is mounted cannot be set aside: {owned[0].name}")
    f.arm("whole", workload=f.workload)
    for path in volumes.values():
        f.arm("reattach", path=str(path))
    f.say("begin", for_s=for_s, volumes=[str(p) for p in volumes.values()])
    for path in volumes.values():
        path.rename(path.with_name(path.name + restore.ASIDE))
        path.touch()  # a kubelet makes a missing directory, and refuses a file
    for pod in before:
        f.world.gateway.delete_pod(pod.name, pod.namespace, uid=pod.uid)
    for pod in before:
        why = f.until(partial(_not_attached, f, pod), f"the new pod {pod.name} says that its volume does not attach")
        f.say("evidence", pod=pod.name, old_uid_gone=pod.uid, said=why)
    f.hold(for_s)
    for path in volumes.values():
        if left := restore.UNDO["reattach"](f.world, {"path": str(path)}):
            raise FaultFailed(left)
    f.say("end")


def _not_attached(f: Fault, old: Pod) -> str:
    """What the successor of ``old`` says of its volume; "" while it says nothing."""
    now = f.world.pod(old.name)
    if now is None or now.uid == old.uid:
        return ""
    said = [e for e in f.world.cluster.events(old.namespace, about=old.name) if e.get("reason") in _FAILED_TO_ATTACH]
    return next((str(e.get("message")) for e in said if e["involvedObject"].get("uid") == now.uid), "")


def _volume(f: Fault, pod: Pod) -> Path:
    """The directory of the pod's first claim on this host.

    :raises NotSupported: it has none there.
    """
    root: str = f.world.spec.target_object().volumes_dir
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod.raw.get("spec", {}).get("volumes") or [] if "persistentVolumeClaim" in v]
    path = Path(root) / f.world.spec.namespace / str(claims[0]) if root and claims else Path("/nonexistent")
    if not path.is_dir():
        raise NotSupported(f"{pod.name} has no volume that can be reached from this host")
    return path


def own_file_system(f: Fault, pod: Pod) -> Path:
    """The directory of the pod's first claim, which is a file system of its own.

    :raises NotSupported: it is none, or cannot be reached.
    """
    path = _volume(f, pod)
    if not filesystems.own(path):
        raise NotSupported(f"the volume {path.name} shares its file system with this host; a variant such as queue-on-ext4 gives it one of its own")
    return path

"""The power goes while a component writes: its volumes lose whatever nobody had synced, its pods are killed.

A killed pod leaves the host's page cache alone, so it proves nothing of a program that acknowledges mail before it is on the disk. Sources:
ext4's EXT4_IOC_SHUTDOWN (without flushing its log), fsync(2), e2fsck(8).
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.pods import gone
from harness.chaos.storage import own_file_system
from harness.chaos.world import FaultFailed
from harness.cluster import filesystems

SYNCED, UNSYNCED = ".mailgale-synced", ".mailgale-unsynced"
#: Syncing a file of ours commits the journal, and with it what others have not synced; so much later they have written more.
BEFORE_S = 3.0


def power_loss(
    component: str, pods: int = 1, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 240.0
) -> dict[str, Any]:
    """Shut the file systems of the pods ``victims`` off as a power cut does, kill the pods, and bring both back. kind only.

    Evidence: the old UIDs are gone; of two files of our own, written before, the one that had been synced is there afterwards and the other
    is not. Undone by stopping the workload, e2fsck(8) and starting it again. Known limits: it is the file system that forgets; what a disk
    forgets that lies about a flush is not in it. All pods of the workload are away for the repair.
    """
    return carry_out("power_loss", _power_loss, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _power_loss(f: Fault) -> None:
    before = [f.pod(v) for v in f.victims]
    volumes = [own_file_system(f, p) for p in before]
    replicas = int(f.world.workload(f.workload)["spec"].get("replicas", 1))
    armed = [f.arm("volume_repair", path=str(path), workload=f.workload, replicas=replicas) for path in volumes]
    f.say("begin", volumes=[str(p) for p in volumes], pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in before])
    for path in volumes:
        _write(path / SYNCED, sync=True)
    f.hold(BEFORE_S)
    for path in volumes:
        _write(path / UNSYNCED, sync=False)
        filesystems.power_off(path)
        if filesystems.writable(path):
            raise FaultFailed("can still be written to", where=str(path))
    for pod in before:
        f.world.gateway.delete_pod(pod.name, pod.namespace, 0, uid=pod.uid)
    for pod in before:
        f.until(partial(gone, f, pod), f"pod {pod.name} with UID {pod.uid} is gone")
        f.say("evidence", pod=pod.name, old_uid_gone=pod.uid)
    for one in armed:
        f.undo_one(one)
    for path in volumes:
        f.say("evidence", volume=path.name, **_kept(path))
    f.say("end")


def _write(path: Path, *, sync: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(handle, bytes(4096))
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _kept(path: Path) -> dict[str, bool]:
    """What became of the two files, which go with this.

    :raises FaultFailed: what was synced is gone, or nothing is.
    """
    found = {name: (path / name).exists() and (path / name).stat().st_size == 4096 for name in (SYNCED, UNSYNCED)}
    for name in found:
        (path / name).unlink(missing_ok=True)
    if not found[SYNCED] or found[UNSYNCED]:
        raise FaultFailed(f"synced file there: {found[SYNCED]}, unsynced file there: {found[UNSYNCED]}; a power cut takes the second only", where=str(path))
    return {"synced_kept": found[SYNCED], "unsynced_kept": found[UNSYNCED]}

"""Volumes that are file systems of their own: ext4 on a loop device, mounted on this host and on every kind node at the claim's place.

A volume that is a directory shares its file system with the host and with the run's record, so it can neither be frozen nor filled. One
kernel runs all nodes, so the mounts are one file system, and a pod finds its files on whatever node it comes up. Sources: losetup(8), mount(8),
mke2fs(8), ioctl_fsfreeze in linux/fs.h. Limits: needs root, loop devices and mkfs.ext4 on this host; a node that is started again has lost
its mounts, so such a volume and faults that restart nodes exclude each other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cluster.topology import NODE_VOLUMES
from harness.errors import CleanupIncomplete, CommandFailed, NotReady, NotSupported
from harness.model.target import Target
from harness.support.clock import wait_for
from harness.support.shell import run

#: From linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
#: From ext4's ext4.h: _IOR('X', 125, __u32), and EXT4_GOING_FLAGS_NOLOGFLUSH: as if the power went.
_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, 2
_S = 30.0
_MOUNT = (
    'd=$1 at=$2; [ -b "$d" ] || mknod -m 0660 "$d" b 7 "${d#/dev/loop}"; mkdir -p "$at" && mount -t ext4 -o errors=remount-ro "$d" "$at"'
)
_UNMOUNT = 'while read -r _ at _; do case "$at" in "$1"|"$1"/*) umount "$at" || umount -l "$at";; esac; done </proc/mounts'


def provide(target: Target, namespace: str, claims: Mapping[str, int]) -> None:
    """Make a file system for each claim and mount it.

    :param claims: name → size in octets.
    :raises NotSupported: this host or this target cannot; nothing is left of the attempt.
    """
    if not claims:
        return
    if target.kind != "kind" or not target.volumes_dir:
        raise NotSupported("a volume with a file system of its own is made on kind clusters only")
    lacking = [w for w in ("losetup", "mkfs.ext4", "mount") if shutil.which(w) is None]
    if os.geteuid() != 0 or lacking or not Path("/dev/loop-control").exists():
        raise NotSupported(f"a file system on a loop device needs root, loop devices, losetup, mount and mkfs.ext4 here{': no ' + lacking[0] if lacking else ''}")
    try:
        for claim, size in claims.items():
            _provide(target, namespace, claim, size)
    except (CommandFailed, OSError) as error:
        withdraw(target, namespace)
        raise NotSupported(f"no file system for volumes can be made here: {error}") from error


def withdraw(target: Target, namespace: str) -> None:
    """Thaw, unmount and delete every file system of ``namespace``. Idempotent; nothing happens where there is none.

    :raises CleanupIncomplete: one is still mounted on this host.
    """
    images = _images(target) / namespace if target.volumes_dir else None
    if images is None or not images.exists():
        return
    _unmount(target, namespace)
    shutil.rmtree(images, ignore_errors=True)


def break_off(path: Path) -> None:
    """Make the file system at ``path`` read-only as an error on its device does (ext4's ``errors=remount-ro``). :func:`repair` is the way back.

    What was written and not synced before is lost, as with a real error.

    :raises NotSupported: this kernel cannot be told to do so.
    """
    device = next((d for d, at in _mounted() if at == path), "")
    trigger = Path("/sys/fs/ext4") / device.rpartition("/")[2] / "trigger_fs_error"
    if not device or not trigger.exists():
        raise NotSupported(f"this kernel has no {trigger}, or the volume is no ext4")
    trigger.write_text("asked for by mailgale\n")


def power_off(path: Path) -> None:
    """Shut the ext4 file system at ``path`` off as a power cut does: nothing that is not on its disk gets there. :func:`repair` is the way back.

    :raises NotSupported: this kernel or this file system cannot be told to do so.
    """
    with _opened(path) as handle:
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        except OSError as error:
            raise NotSupported(f"the file system at {path.name} cannot be shut off: {error}") from error


def repair(target: Target, namespace: str, claim: str) -> None:
    """Unmount one file system everywhere, check it (e2fsck(8)) and mount it again. No pod may use it.

    :raises CleanupIncomplete: it is still in use, or cannot be repaired.
    """
    image = _images(target) / namespace / f"{claim}.img"
    _unmount(target, f"{namespace}/{claim}")
    try:
        wait_for(lambda: not run(["losetup", "--associated", image], timeout_s=_S).stdout.strip(), deadline_s=_S, what="its loop device to go")
    except NotReady as error:
        raise CleanupIncomplete(f"is still in use: {error.what}", where=str(image), todo="mailgale recover") from error
    checked = run(["e2fsck", "-f", "-p", image], timeout_s=_S, check=False)
    if checked.code not in (0, 1):  # 1: errors were corrected
        raise CleanupIncomplete(f"e2fsck ended with {checked.code}: {checked.stdout[-300:]}", where=str(image), todo=f"e2fsck {image}")
    _attach(target, namespace, claim, image)


def writable(path: Path) -> bool:
    """Whether a file can be made on the file system at ``path``."""
    probe = path / ".mailgale-writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EIO):
            return False
        raise
    return True


def forget(below: Path) -> None:
    """Thaw and unmount whatever is mounted on this host at ``below`` or below it.

    :raises CleanupIncomplete: something stays mounted.
    """
    for path in _mounts(below):
        thaw(path)
        with suppress(CommandFailed):
            run(["umount", path], timeout_s=_S)
    if left := _mounts(below):
        raise CleanupIncomplete("is still mounted", where=str(left[0]), todo=f"umount {left[0]}")


def own(path: Path) -> bool:
    """Whether ``path`` is where a file system begins."""
    return os.path.ismount(path)


def freeze(path: Path) -> None:
    """Suspend all writing to the file system at ``path`` (fsfreeze(8)).

    :raises OSError: it cannot be frozen; EBUSY = it is already.
    """
    with _opened(path) as handle:
        fcntl.ioctl(handle, _FIFREEZE, 0)


def thaw(path: Path) -> bool:
    """Let writing go on; False when it was not frozen. Idempotent."""
    with _opened(path) as handle:
        try:
            fcntl.ioctl(handle, _FITHAW, 0)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY):
                return False
            raise
    return True


def frozen(path: Path) -> bool:
    """Whether the file system at ``path`` is frozen. It is asked by freezing it, and given free again when that succeeds."""
    try:
        freeze(path)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    thaw(path)
    return False


def _provide(target: Target, namespace: str, claim: str, size: int) -> None:
    image = _images(target) / namespace / f"{claim}.img"
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as handle:
        handle.truncate(size)
    run(["mkfs.ext4", "-q", "-m", "0", image], timeout_s=_S)
    _attach(target, namespace, claim, image)
    (Path(target.volumes_dir) / namespace / claim / "lost+found").rmdir()


def _attach(target: Target, namespace: str, claim: str, image: Path) -> None:
    device = run(["losetup", "--find", "--show", image], timeout_s=_S).stdout.strip()
    try:
        here = Path(target.volumes_dir) / namespace / claim
        here.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "ext4", "-o", "errors=remount-ro", device, here], timeout_s=_S)
        for node in target.nodes:
            run(["docker", "exec", node.name, "bash", "-c", _MOUNT, "bash", device, f"{NODE_VOLUMES}/{namespace}/{claim}"], timeout_s=_S)
    finally:
        # The device goes with its last mount (autoclear).
        run(["losetup", "--detach", device], timeout_s=_S, check=False)


def _unmount(target: Target, place: str) -> None:
    """Unmount ``<namespace>`` or ``<namespace>/<claim>`` on every node and here."""
    for node in target.nodes:
        with suppress(CommandFailed):  # a node that does not run has no mounts either
            run(["docker", "exec", node.name, "bash", "-c", _UNMOUNT, "bash", f"{NODE_VOLUMES}/{place}"], timeout_s=_S)
    forget(Path(target.volumes_dir) / place)


def _images(target: Target) -> Path:
    return Path(target.volumes_dir).parent / "file-systems"


def _mounted() -> Iterator[tuple[str, Path]]:
    """(device, place) of everything that is mounted on this host (proc(5), mounts)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, place, *_ = line.split()
        yield device, Path(place.encode().decode("unicode_escape"))


def _mounts(below: Path) -> list[Path]:
    """Places at ``below`` or beneath it where something is mounted on this host, the deepest first."""
    return sorted((p for _, p in _mounted() if p == below or below in p.parents), reverse=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)

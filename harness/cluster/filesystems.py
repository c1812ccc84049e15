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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cluster.topology import NODE_VOLUMES
from harness.errors import CleanupIncomplete, CommandFailed, NotSupported
from harness.model.target import Target
from harness.support.shell import run

#: From linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
_S = 30.0
_MOUNT = (
    'd=$1 at=$2; [ -b "$d" ] || mknod -m 0660 "$d" b 7 "${d#/dev/loop}"; mkdir -p "$at" && mount -t ext4 "$d" "$at"'
)
_UNMOUNT = 'while read -r _ at _; do case "$at" in "$1"/*) umount "$at" || umount -l "$at";; esac; done </proc/mounts'


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
    for node in target.nodes:
        with suppress(CommandFailed):  # a node that does not run has no mounts either
            run(["docker", "exec", node.name, "bash", "-c", _UNMOUNT, "bash", f"{NODE_VOLUMES}/{namespace}"], timeout_s=_S)
    forget(Path(target.volumes_dir) / namespace)
    shutil.rmtree(images, ignore_errors=True)


def forget(below: Path) -> None:
    """Thaw and unmount whatever is mounted on this host below ``below``.

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
    device = run(["losetup", "--find", "--show", image], timeout_s=_S).stdout.strip()
    try:
        here = Path(target.volumes_dir) / namespace / claim
        here.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "ext4", device, here], timeout_s=_S)
        (here / "lost+found").rmdir()
        for node in target.nodes:
            run(["docker", "exec", node.name, "bash", "-c", _MOUNT, "bash", device, f"{NODE_VOLUMES}/{namespace}/{claim}"], timeout_s=_S)
    finally:
        # The device goes with its last mount (autoclear).
        run(["losetup", "--detach", device], timeout_s=_S, check=False)


def _images(target: Target) -> Path:
    return Path(target.volumes_dir).parent / "file-systems"


def _mounts(below: Path) -> list[Path]:
    """Places below ``below`` where something is mounted on this host, the deepest first."""
    found = (Path(line.split()[1].encode().decode("unicode_escape")) for line in Path("/proc/self/mounts").read_text().splitlines())
    return sorted((p for p in found if below in p.parents), reverse=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)

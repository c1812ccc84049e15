"""Limits of the host that nodes share: each pod runtime, kubelet and kube-proxy holds inotify instances of the one root user.

The kernel's default of 128 instances ends a second cluster with "too many open files" (kind's known issues page).
Limits: the value lasts until the next boot.
"""

from __future__ import annotations

from pathlib import Path

from harness.support.progress import Progress

WANTED = {"max_user_instances": 2048, "max_user_watches": 524288}
_FOLDER = Path("/proc/sys/fs/inotify")


def too_low(folder: Path = _FOLDER) -> dict[str, int]:
    """Limit → its present value, for those below what several clusters need."""
    now = {name: int((folder / name).read_text()) for name in WANTED if (folder / name).exists()}
    return {name: value for name, value in now.items() if value < WANTED[name]}


def raise_inotify(progress: Progress, folder: Path = _FOLDER) -> bool:
    """Raise what is too low, saying so; whether all is high enough now (False where this user may not)."""
    for name, value in too_low(folder).items():
        try:
            (folder / name).write_text(f"{WANTED[name]}\n")
            progress.note(f"fs.inotify.{name} raised from {value} to {WANTED[name]}, until the next boot")
        except OSError as error:
            progress.note(f"fs.inotify.{name} is {value} and cannot be raised: {error.strerror}; one small cluster works with that")
    return not too_low(folder)

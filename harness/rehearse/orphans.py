"""Processes of a dead run that live on: found by the files of the run that they hold open, ended by their own number.

A process is taken for one of the run's only when it is a Python of ours (``-m harness.…`` or ``-m locust``) *and* holds a file below the run's
directory open. Source: proc(5), /proc/pid/fd and /proc/pid/cmdline. Limits: processes of other users are not seen.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.errors import NotReady
from harness.support.clock import wait_for

#: The faults' process undoes what it did when it is asked to stop; that takes a while.
ASK_S = 45.0
KILL_S = 10.0
_FAULTS = "harness.chaos"


def end_orphans(run_path: Path) -> list[str]:
    """End every process of the run at ``run_path``: asked first, then killed; one line for each.

    :raises NotReady: one of them is still there.
    """
    found = dict(orphans(run_path))
    for pid, module in found.items():
        _signal(pid, signal.SIGHUP if module == _FAULTS else signal.SIGTERM)
    with suppress(NotReady):
        wait_for(lambda: not any(_living(p) for p in found), deadline_s=ASK_S, what="the run's processes to end", every_s=0.1)
    for pid in (p for p in found if _living(p)):
        _signal(pid, signal.SIGKILL)
    wait_for(lambda: not any(_living(p) for p in found), deadline_s=KILL_S, what="the run's processes to be gone", every_s=0.1)
    return [f"ended process {pid} ({module})" for pid, module in found.items()]


def orphans(run_path: Path) -> Iterator[tuple[int, str]]:
    """(process, its module) of every process of the run."""
    root = f"{run_path.resolve()}{os.sep}"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            module = _module(entry)
            if module and any(target.startswith(root) for target in _open_files(entry)):
                yield int(entry.name), module


def _module(process: Path) -> str:
    """The module that ``python -m`` runs there, if it is one of ours; else ""."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    name = words[words.index(b"-m") + 1].decode("ascii", "replace") if b"-m" in words[:-1] else ""
    return name if name == "locust" or name.startswith("harness.") else ""


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                yield os.readlink(link)


def _living(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)

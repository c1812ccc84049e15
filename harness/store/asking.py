"""Asking a run to end, from another process: a small file in its directory, which its conductor looks for.

The file belongs to one session of the run (``abort-<n>.json``), so that the same command can go on with the run afterwards. It is sealed
with the rest: who asked, and why, is on record.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.store.run import ArmDir, RunDir, anchor, write_whole
from harness.support.process import Identity


@dataclass(frozen=True)
class Asked:
    """Somebody wants the run to end. ``by`` is the asking process, ``wall_ns`` when."""

    why: str
    by: str
    wall_ns: int


def ask_to_end(run: RunDir, why: str) -> Path:
    """Ask the run's conductor to end in order. Asking again changes nothing.

    :raises OSError: it cannot be written.
    """
    path = _path(run)
    if not path.exists():
        asked = Asked(why, str(Identity.own()), anchor()["wall_ns"])
        write_whole(path, json.dumps(asdict(asked), indent=1).encode() + b"\n")
    return path


def asked_to_end(run: RunDir) -> Asked | None:
    """Who asked this session of the run to end; None = nobody. A file that does not read asks all the same."""
    path = _path(run)
    if not path.exists():
        return None
    with suppress(OSError, ValueError, TypeError):
        return Asked(**json.loads(path.read_text()))
    return Asked("no reason that can be read", "unknown", 0)


def mark_stopped(arm: ArmDir, why: str) -> None:
    """Write down that an arm was ended before its time: however whole its census is, it is run again.

    :raises OSError: it cannot be written.
    """
    write_whole(arm.path / STOPPED, json.dumps({"why": why}).encode() + b"\n")


STOPPED = "stopped.json"


def _path(run: RunDir) -> Path:
    return run.path / f"abort-{len(run.conductor_logs)}.json"

"""A run in several sessions: which of its arms are finished, and how it is opened again after its conductor was stopped or killed.

    if unfinished(run):
        run, session = reopen(run)          # same run id, so the trace headers of the finished arms stay valid

An arm is finished once its census is whole on record, and then it is never run again, whatever was found: a verdict is not retried.
What an arm left that did not come so far is put aside as ``interrupted/<session>-<block>-<arm>``: kept and sealed, never judged.
``run.json`` lists under ``sessions`` each time the run was opened again. Limit: the log of a killed conductor simply ends; its
finished arms were not sealed yet, so a change to them between the two sessions would not show.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.store.asking import STOPPED
from harness.store.log import JSON_BLOCK, Block, read_blocks
from harness.store.run import SEAL, ArmDir, RunDir, anchor

INTERRUPTED = "interrupted"
KILLED = "its conductor was killed"
#: Of the session before: not true of the run any more once it is opened again.
_SESSION_ONLY = ("problem", "problem_code", "unfinished")


@dataclass(frozen=True)
class Session:
    """One time that a run was opened again.

    :param number: 2 for the first time.
    :param wall_ns: when.
    :param why: what had ended the session before.
    :param seal: SHA-256 of the seal that the run had; "" = none, its conductor was killed.
    :param kept: finished arms, as ``<block>-<arm>``.
    :param again: arms whose remains were put aside, to be run again.
    """

    number: int
    wall_ns: int
    why: str
    seal: str
    kept: tuple[str, ...]
    again: tuple[str, ...]


def finished(arm: ArmDir) -> bool:
    """Whether the arm's census is on record to its end, and the arm was not ended before its time."""
    if not arm.census_log.is_file() or (arm.path / STOPPED).exists():
        return False
    last = next(iter(deque(read_blocks(arm.census_log), maxlen=1)), None)
    return isinstance(last, Block) and last.type == JSON_BLOCK and _kind(last.payload.rstrip(b"\n").rpartition(b"\n")[2]) == "log_closed"


def unfinished(run: RunDir) -> tuple[tuple[int, str], ...]:
    """(block, arm) of every arm that was to run and is not finished, in the order they were to run."""
    there = {(a.block, a.name): a for a in run.arm_dirs()}
    return tuple(key for key in run.planned_arms if key not in there or not finished(there[key]))


def label(key: tuple[int, str]) -> str:
    """``<block>-<arm>``."""
    return f"{key[0]}-{key[1]}"


def sessions(run: RunDir) -> tuple[Session, ...]:
    """Every time the run was opened again, the first one first."""
    listed = (s for s in run.head.get("sessions", ()) if isinstance(s, Mapping))
    return tuple(
        Session(int(s.get("number", 0)), int(s.get("wall_ns", 0)), str(s.get("why", "")), str(s.get("seal", "")), _words(s.get("kept")), _words(s.get("again")))
        for s in listed
    )


def put_aside(run: RunDir) -> tuple[str, ...]:
    """Names of the directories that interrupted arms left."""
    return tuple(sorted(p.name for p in (run.path / INTERRUPTED).glob("*") if p.is_dir()))


def reopen(run: RunDir) -> tuple[RunDir, Session]:
    """Make an unfinished run writable again: its seal and the remains of unfinished arms go to ``interrupted/``.

    Whenever this is cut short, doing it again leads to the same.

    :raises OSError: something cannot be moved or written.
    """
    todo = set(unfinished(run))
    remains = [a for a in run.arm_dirs() if (a.block, a.name) in todo]
    kept = tuple(label(k) for k in run.planned_arms if k not in todo)
    session = Session(
        len(sessions(run)) + 2, anchor()["wall_ns"], str(run.meta.get("problem") or KILLED), run.seal_digest, kept, tuple(a.label for a in remains)
    )
    aside = run.path / INTERRUPTED
    aside.mkdir(exist_ok=True)
    if session.seal:
        (run.path / SEAL).rename(_free(aside, f"{session.number}-{SEAL}"))
    meta = {k: v for k, v in run.meta.items() if k not in _SESSION_ONLY}
    run.write_head({**run.head, "meta": meta, "sessions": [*run.head.get("sessions", ()), {**asdict(session), "anchor": anchor()}]})
    for arm in remains:
        arm.path.rename(_free(aside, f"{session.number}-{arm.label}"))
    return RunDir.open(run.path), session


def _free(folder: Path, name: str) -> Path:
    path, n = folder / name, 1
    while path.exists():
        path, n = folder / f"{name}.{n}", n + 1
    return path


def _kind(line: bytes) -> str:
    try:
        event: Any = json.loads(line)
    except ValueError:
        return ""
    return str(event.get("kind", "")) if isinstance(event, dict) else ""


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()

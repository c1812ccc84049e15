"""The undo log: what must be brought back, written and synced before anything is done to the cluster.

Entries are data, never code: ``{"op": "uncordon", "node": "worker2"}``. Each op is idempotent, and it is done only once the state was read
back. Entries are undone last in, first out; an error in one does not keep the others from being tried. A disk that takes no more
keeps nothing from being undone either: what is undone and could not be noted counts as pending, and is tried again.
``undo.log`` has one writer. Who recovers after that writer's death writes ``undo-<n>.log`` beside it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.errors import CleanupIncomplete, MailgaleError
from harness.store.log import MAGIC, Damage, LogWriter, read_events

Entry = Mapping[str, Any]
#: Carries out and verifies one entry; returns "" or what is still not as it was.
Undoer = Callable[[Entry], str]
_FILE = re.compile(r"undo(-\d+)?\.log$")


@dataclass(frozen=True)
class Armed:
    """An entry that waits to be undone. ``id`` is its place in the order of arming."""

    id: int
    entry: Entry


class Mirrored(Protocol):
    """Where entries are written a second time, for who undoes when this host is gone (harness.chaos.mirror)."""

    def armed(self, number: int, entry: Entry) -> None: ...

    def undone(self, number: int) -> None: ...


class UndoLog:
    """Writes one undo log. Threads may share it.

    :param path: must not exist yet.
    :param undoer: carries out entries.
    :param mirror: told of each entry before the act, and once it is undone.
    """

    def __init__(self, path: Path, undoer: Undoer, mirror: Mirrored | None = None) -> None:
        self._log, self._path, self._undoer, self._mirror = LogWriter(path, "undo"), path, undoer, mirror
        self._lock, self._next = threading.Lock(), 1
        _sync(path.parent)

    def arm(self, op: str, **fields: Any) -> Armed:
        """Write and sync an entry. Only when this has returned may the act be done.

        :raises OSError: it could not be made durable, so nothing may be done.
        :raises MailgaleError: it could not be mirrored, so nothing may be done either.
        """
        with self._lock:
            armed = Armed(self._next, {"op": op, **fields})
            self._next += 1
            self._write(armed.id, "armed", entry=armed.entry)
        if self._mirror is not None:
            self._mirror.armed(armed.id, armed.entry)
        return armed

    def undo(self, armed: Armed) -> str:
        """Undo one entry and verify it; "" or what is left. Errors are written down, not raised."""
        left = attempt(self._undoer, armed.entry)
        self.mark(armed, left)
        return left

    def mark(self, armed: Armed, left: str) -> None:
        """Write down how an undo ended that was carried out elsewhere. Never raises OSError."""
        with self._lock, suppress(OSError):
            self._write(armed.id, "failed" if left else "undone", left=left)
        if self._mirror is not None and not left:
            self._mirror.undone(armed.id)

    def close(self) -> None:
        """Close the log; one that takes no more stays without its end mark."""
        with self._lock, suppress(OSError):
            self._log.close()

    def _write(self, number: int, state: str, **fields: Any) -> None:
        self._log.event("undo", id=number, state=state, **fields)
        self._log.flush()
        _sync(self._path)


def attempt(undoer: Undoer, entry: Entry) -> str:
    """What is left after one try: "" = verified."""
    try:
        return undoer(entry)
    except (MailgaleError, OSError) as error:
        return str(error) or type(error).__name__


def pending(arm_dir: Path) -> list[Armed]:
    """Entries of all undo logs in ``arm_dir`` that were armed and not undone, last in first.

    A log cut off by the death of its writer reads up to the cut: an entry that was not whole was never acted upon.
    """
    armed: dict[int, Armed] = {}
    for event in _events(arm_dir):
        if event["state"] == "armed":
            armed[event["id"]] = Armed(event["id"], event["entry"])
        elif event["state"] == "undone":
            armed.pop(event["id"], None)
    return sorted(armed.values(), key=lambda a: -a.id)


def armed_in(arm_dir: Path) -> list[Armed]:
    """Every entry of the undo logs in ``arm_dir``, undone or not, in the order of arming."""
    return [Armed(e["id"], e["entry"]) for e in _events(arm_dir) if e["state"] == "armed"]


def recover(arm_dir: Path, undoer: Undoer, said: Mapping[int, str] | None = None) -> list[str]:
    """Undo everything that is pending; what was undone, one line each.

    :param said: entry → who says that it has been ended already; it is verified all the same.
    :raises CleanupIncomplete: lists what is left, parts of a log that do not read included; calling it again tries exactly that again.
    """
    todo = pending(arm_dir)
    done: list[str] = []
    left = unreadable(arm_dir)
    if not todo and not left:
        return []
    note, tried = _notes(arm_dir), 0
    try:
        for armed in todo:
            why = attempt(undoer, armed.entry)
            note(armed, why)
            tried += 1
            who = (said or {}).get(armed.id, "")
            (left if why else done).append(f"{describe(armed.entry)}{f' ({who}; verified)' if who and not why else ''}{': ' + why if why else ''}")
    except KeyboardInterrupt:
        left += [describe(a.entry) for a in todo[tried:]]
        raise CleanupIncomplete(f"interrupted before this was undone: {'; '.join(left)}", where=str(arm_dir), todo="mailgale recover") from None
    finally:
        note(None, "")
    if left:
        raise CleanupIncomplete(f"not everything is undone: {'; '.join(left)}", where=str(arm_dir), todo="mailgale recover")
    return done


def _notes(arm_dir: Path) -> Callable[[Armed | None, str], None]:
    """Writes down how each undo ended, as far as the disk takes it; None closes the log."""
    try:
        log: LogWriter | None = LogWriter(_next_path(arm_dir), "undo")
    except OSError:
        log = None

    def note(armed: Armed | None, why: str) -> None:
        with suppress(OSError):
            if log is not None and armed is None:
                log.close()
            elif log is not None and armed is not None:
                log.event("undo", id=armed.id, state="failed" if why else "undone", left=why)
                log.flush()

    return note


def unreadable(arm_dir: Path) -> list[str]:
    """Damages of the undo logs other than an end cut off: behind these, entries may be hidden that were acted upon."""
    begun = (p for p in _paths(arm_dir) if p.stat().st_size >= len(MAGIC))  # a shorter one never got as far as an entry
    found = (d for path in begun for d in read_events(path) if isinstance(d, Damage))
    return [f"{Path(d.path).name}, octet {d.offset}: {d.what}" for d in found if not d.what.startswith("cut off")]


def describe(entry: Entry) -> str:
    """One entry as words."""
    return " ".join([str(entry.get("op")), *(f"{k}={v}" for k, v in entry.items() if k != "op")])


def _events(arm_dir: Path) -> Iterator[dict[str, Any]]:
    """Undo events, the first writer's before those of who recovered."""
    for path in _paths(arm_dir):
        for event in read_events(path):
            if isinstance(event, dict) and event.get("kind") == "undo":
                yield event


def _paths(arm_dir: Path) -> list[Path]:
    return sorted((p for p in arm_dir.glob("undo*.log") if _FILE.match(p.name)), key=lambda p: (len(p.name), p.name))


def _next_path(arm_dir: Path) -> Path:
    number = 1
    while (path := arm_dir / f"undo-{number}.log").exists():
        number += 1
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

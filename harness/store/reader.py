"""Reads one log whole: its events, its packed rows in big chunks, and where it is damaged.

Rows name recipients and senders by their place in the log's own lists; here they get numbers that hold for the whole arm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.store.log import JSON_BLOCK, UNREADABLE, Damage, event_of, read_blocks
from harness.store.ops import BLOCK_TYPES

Rows = NDArray[np.void]
#: Rows are handed on when so many bytes of them are there.
CHUNK_BYTES = 32 << 20
#: Census copies stay JSON text, for the database to parse.
_COPY = b'{"kind":"copy",'


@dataclass
class Directory:
    """Names shared by all logs of an arm: address → its number."""

    recipients: dict[str, int] = field(default_factory=dict)
    senders: dict[str, int] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)  #: sender's address → client address


@dataclass
class LogContent:
    """What one log held beside its rows, which went to the sink."""

    name: str
    events: list[dict[str, Any]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    closed: bool = False


class Lines(Protocol):
    """Takes whole lines of text."""

    def write(self, text: bytes | memoryview, /) -> Any: ...


def read_log(path: Path, directory: Directory, rows: Callable[[int, Rows], None], copies: Lines) -> LogContent:
    """Read ``path`` to its end or to its first damage.

    :param directory: takes the log's recipients and senders.
    :param rows: called with (block type, rows), numbers of recipients and senders already those of ``directory``.
    :param copies: gets the census' ``copy`` events, one JSON object per line.
    """
    return _Reader(path, directory, rows, copies).read()


class _Reader:
    def __init__(self, path: Path, directory: Directory, rows: Callable[[int, Rows], None], copies: Lines) -> None:
        self.path, self.directory, self.sink, self.copies = path, directory, rows, copies
        self.content = LogContent(path.name)
        self.waiting: dict[int, list[bytes]] = {}
        self.bytes = 0
        self.maps: dict[str, NDArray[np.uint32]] = {}

    def read(self) -> LogContent:
        last_kind = ""
        for block in read_blocks(self.path):
            if isinstance(block, Damage):
                self.content.damages.append(Damage(self.path.name, block.offset, block.what))
            elif block.type == JSON_BLOCK:
                last_kind = self._events(block.payload) or last_kind
            elif block.type in BLOCK_TYPES:
                last_kind = "rows"
                self._keep(block.type, block.payload)
            else:
                self._damage(f"unknown block type {block.type}")
        self._hand_on()
        self.content.closed = last_kind == "log_closed" and not self.content.damages
        return self.content

    def _events(self, payload: bytes) -> str:
        copies = _leading_copies(payload)
        kind = "copy" if copies else ""
        if copies:
            self.copies.write(memoryview(payload)[:copies])
        for line in payload[copies:].split(b"\n"):
            if line.startswith(_COPY):
                self.copies.write(line + b"\n")
                kind = "copy"
            elif line:
                kind = self._event(line)
        return kind

    def _event(self, line: bytes) -> str:
        event = event_of(line)
        if event is None:
            self._damage(UNREADABLE)
            return ""
        kind = str(event["kind"])
        if kind in ("recipients", "senders"):
            self._names(kind, event)
        event["log"] = self.path.name
        self.content.events.append(event)
        return kind

    def _names(self, kind: str, event: dict[str, Any]) -> None:
        addresses, clients = ([str(a).lower() for a in _listed(event.get(key))] for key in ("addresses", "clients"))
        known = self.directory.recipients if kind == "recipients" else self.directory.senders
        self.maps[kind] = np.array([known.setdefault(a, len(known)) for a in addresses], dtype=np.uint32)
        if kind == "senders":
            self.directory.clients.update(zip(addresses, clients, strict=False))

    def _keep(self, block_type: int, payload: bytes) -> None:
        if len(payload) % BLOCK_TYPES[block_type].itemsize:
            self._damage("rows of a wrong size")
            return
        self.waiting.setdefault(block_type, []).append(payload)
        self.bytes += len(payload)
        if self.bytes >= CHUNK_BYTES and len(self.maps) == 2:
            self._hand_on()

    def _hand_on(self) -> None:
        for block_type, payloads in sorted(self.waiting.items()):
            rows = np.frombuffer(b"".join(payloads), dtype=BLOCK_TYPES[block_type]).copy()
            names = rows.dtype.names or ()
            if "rcpt" in names:
                rows = self._mapped(rows, "rcpt", "recipients")
            if "sender" in names:
                rows = self._mapped(rows, "sender", "senders")
            self.sink(block_type, rows)
        self.waiting, self.bytes = {}, 0

    def _mapped(self, rows: Rows, column: str, kind: str) -> Rows:
        """``rows`` with the arm's numbers; rows whose number the log does not explain are damage and left out."""
        numbers = self.maps.get(kind, np.empty(0, dtype=np.uint32))
        known = rows[column] < len(numbers)
        if not known.all():
            self._damage(f"{int((~known).sum())} rows name {kind} that the log does not list")
            rows = rows[known]
        if len(rows):
            rows[column] = numbers[rows[column]]
        return rows

    def _damage(self, what: str) -> None:
        self.content.damages.append(Damage(self.path.name, 0, what))


def _leading_copies(payload: bytes) -> int:
    """How many octets at the begin of ``payload`` are whole lines of copies and nothing else; 0 where that is not seen at a glance.

    A census of ten million mails has twenty million of them, in blocks that hold little else.
    """
    if not payload.startswith(_COPY):
        return 0
    end = payload.find(b"\n", payload.rfind(b"\n" + _COPY) + 1) + 1
    return end if payload.count(b"\n", 0, end) == payload.count(b"\n" + _COPY, 0, end) + 1 else 0


def _listed(value: Any) -> list[Any]:
    """``value`` when it is a list, else nothing: rows that name what is not there are then damage."""
    return value if isinstance(value, list) else []

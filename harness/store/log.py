"""Append-only logs in CRC'd blocks: what one process of a run writes, and how it is read back.

Format: the eight bytes ``MGLOG\\x00\\x01\\n``, then blocks ``<u32 length><u32 crc32><u8 type><payload>``; length counts type and
payload, the CRC covers them. Type 1 is JSON lines (one event each), others are packed rows of harness.store.ops. One block
is one write(2), so SIGKILL of the writer loses nothing that was flushed. It is not safe against power loss.
A log that was closed well ends with the event ``log_closed``. After a failed write (disk full) the log is cut back to its last
whole block and takes nothing more, so it never ends with ``log_closed`` and counts as cut off.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.support.clock import now_ns

MAGIC = b"MGLOG\x00\x01\n"
JSON_BLOCK = 1
UNREADABLE = "an event that does not read"
BLOCK_BYTES_MAX = 64 << 20


class LogWriter:
    """Writes one log. Not thread-safe: one writer, one thread.

    :param path: must not exist yet.
    :param writer: who writes (``load``, ``observe``, …), kept in the first event.
    :raises OSError: disk full and the like; what was flushed before stays readable.
    """

    def __init__(self, path: Path, writer: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        self._broken: OSError | None = None
        self._events = bytearray()
        try:
            self._write(MAGIC)
            self.event("log_opened", writer=writer, pid=os.getpid())
            self.flush()
        except OSError:
            self.abandon()
            raise

    def event(self, kind: str, **fields: Any) -> None:
        """Buffer one JSON event. ``t`` is now unless given."""
        fields.setdefault("t", now_ns())
        self._events += _line({"kind": kind, **fields})

    def rows(self, block_type: int, payload: bytes | bytearray) -> None:
        """Write packed rows (see store.ops) as one block, at once; events that wait go before them."""
        self.flush()
        self._block(block_type, payload)

    def batch(self, blocks: Iterable[tuple[int, bytes | bytearray]]) -> None:
        """Write several blocks of packed rows, in order, and the buffered events behind them, with one write(2)."""
        data = b"".join(_framed(kind, payload) for kind, payload in blocks if payload)
        if self._events:
            data += _framed(JSON_BLOCK, self._events)
            self._events = bytearray()
        self._write(data)

    def flush(self) -> None:
        """Hand buffered events to the kernel as one block."""
        if self._events:
            self._block(JSON_BLOCK, self._events)
            self._events = bytearray()

    def close(self) -> None:
        """Write ``log_closed``, flush, fsync. A log without it counts as cut off.

        :raises OSError: it could not be written, now or before; the file is closed all the same.
        """
        if self._fd < 0:
            return
        try:
            self.event("log_closed")
            self.flush()
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
            self._fd = -1

    def abandon(self) -> None:
        """Close the file without an end mark: the log counts as cut off, since its writer did not come to its end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _block(self, block_type: int, payload: bytes | bytearray) -> None:
        self._write(_framed(block_type, payload))

    def _write(self, data: bytes) -> None:
        if self._broken is not None:
            raise OSError(self._broken.errno, f"this log took no more since: {self._broken.strerror}", str(self.path))
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._broken = error
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


_head = struct.Struct("<IIB").pack


def _framed(block_type: int, payload: bytes | bytearray) -> bytes:
    return _head(len(payload) + 1, zlib.crc32(payload, _type_crc(block_type)), block_type) + payload


@lru_cache(maxsize=256)
def _type_crc(block_type: int) -> int:
    return zlib.crc32(bytes((block_type,)))


def _line(event: dict[str, Any]) -> bytes:
    """One event as a line. What is no Unicode text (a lone surrogate, from octets that were no UTF-8) becomes ``?``."""
    text = json.dumps(event, separators=(",", ":"), default=str, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


@dataclass(frozen=True)
class Block:
    """One block that read back whole."""

    type: int
    payload: bytes


@dataclass(frozen=True)
class Damage:
    """Where a log stops being what was written."""

    path: str
    offset: int
    what: str


def read_blocks(path: Path) -> Iterator[Block | Damage]:
    """Every whole block in order; a Damage at the first that is not, and then nothing more."""
    with path.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            yield Damage(str(path), 0, "not a log, or its head is damaged")
            return
        while head := handle.read(8):
            offset = handle.tell() - len(head)
            if len(head) < 8:
                yield Damage(str(path), offset, "cut off in a block's head")
                return
            length, crc = struct.unpack("<II", head)
            if not 1 <= length <= BLOCK_BYTES_MAX:
                yield Damage(str(path), offset, f"impossible block length {length}")
                return
            body = handle.read(length)
            if len(body) < length:
                yield Damage(str(path), offset, "cut off in a block")
                return
            if zlib.crc32(body) != crc:
                yield Damage(str(path), offset, "checksum does not match")
                return
            yield Block(body[0], body[1:])


def read_events(path: Path) -> Iterator[dict[str, Any] | Damage]:
    """The JSON events of a log in order, a Damage for each that does not read and where it ends too early."""
    for block in read_blocks(path):
        if isinstance(block, Damage):
            yield block
        elif block.type == JSON_BLOCK:
            for line in block.payload.split(b"\n"):
                if line:
                    yield event_of(line) or Damage(str(path), 0, UNREADABLE)


def event_of(line: bytes) -> dict[str, Any] | None:
    """The event on one line; None when it is none: no JSON object, or without ``kind`` (a word) and ``t`` (whole ns)."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(event, dict) and isinstance(event.get("kind"), str) and isinstance(event.get("t"), int)
    return event if good else None

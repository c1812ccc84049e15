"""Following logs that other processes of the run are still writing."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import StoreDamaged
from harness.model.outcome import Outcome
from harness.store.log import BLOCK_BYTES_MAX, JSON_BLOCK, MAGIC, Block
from harness.store.ops import BLOCK_TYPES, DONE

_DONE_TYPE = next(n for n, dtype in BLOCK_TYPES.items() if dtype == DONE)
_HEAD = struct.Struct("<II")


class Tail:
    """Whole blocks appended to one log since the last look. The log need not be there yet; half a block waits for its rest."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def blocks(self) -> Iterator[Block]:
        """New blocks.

        :raises StoreDamaged: the log is no log, or a whole block's checksum does not match.
        """
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return
        with handle:
            if self._at == 0:
                head = handle.read(len(MAGIC))
                if len(head) < len(MAGIC):
                    return
                if head != MAGIC:
                    raise StoreDamaged("is not a log", where=str(self.path))
                self._at = len(MAGIC)
            handle.seek(self._at)
            while len(head := handle.read(_HEAD.size)) == _HEAD.size:
                length, crc = _HEAD.unpack(head)
                sane = 1 <= length <= BLOCK_BYTES_MAX
                body = handle.read(length) if sane else b""
                if sane and len(body) < length:
                    return
                if not sane or zlib.crc32(body) != crc:
                    raise StoreDamaged("checksum does not match", where=f"{self.path}, octet {self._at}")
                self._at += _HEAD.size + length
                yield Block(body[0], body[1:])

    def events(self) -> Iterator[dict[str, Any]]:
        """New JSON events."""
        for block in self.blocks():
            if block.type == JSON_BLOCK:
                yield from map(json.loads, block.payload.splitlines())


class LoadTail:
    """What the load's own logs say so far, all ``load-<n>.log`` of an arm together."""

    def __init__(self, arm_dir: Path) -> None:
        self._dir = arm_dir
        self._tails: dict[Path, Tail] = {}
        self._accepted: dict[Path, int] = {}
        self._ended: set[Path] = set()
        self._in_flight: dict[Path, int] = {}
        self.peak = 0  #: most mails that were in flight at once in the burst
        self.peak_ns: int | None = None  #: when that was last seen
        self.seen_ns = 0  #: the newest ``load_state``
        self.began_ns: int | None = None  #: first ``load_state`` after the warm-up
        self.acknowledged: set[int] = set()  #: numbers of the mails that were accepted for at least one recipient

    @property
    def accepted(self) -> int:
        """Mails accepted, by the load's own count."""
        return sum(self._accepted.values())

    @property
    def ended(self) -> bool:
        """Every engine that began has ended."""
        return bool(self._tails) and self._ended == set(self._tails)

    def look(self) -> None:
        """Read what is new."""
        for path in self._dir.glob("load-*.log"):
            for block in self._tails.setdefault(path, Tail(path)).blocks():
                if block.type == JSON_BLOCK:
                    for line in block.payload.splitlines():
                        self._event(path, json.loads(line))
                elif block.type == _DONE_TYPE:
                    rows = np.frombuffer(block.payload, DONE)
                    self.acknowledged.update(rows["mail"][rows["outcome"] == Outcome.OK].tolist())

    def _event(self, path: Path, event: dict[str, Any]) -> None:
        if event["kind"] == "load_state":
            self._accepted[path] = int(event["accepted"])
            if event["phase"] != "warmup" and self.began_ns is None:
                self.began_ns = int(event["t"])
            self._peak(path, event)
        elif event["kind"] in ("load_end", "log_closed"):
            self._ended.add(path)


    def _peak(self, path: Path, event: dict[str, Any]) -> None:
        self.seen_ns = max(self.seen_ns, int(event["t"]))
        self._in_flight[path] = int(event.get("in_flight", 0)) if event["phase"] == "burst" else 0
        now = sum(self._in_flight.values())
        if now > self.peak:
            self.peak, self.peak_ns = now, int(event["t"])


class QueueTail:
    """The last depth of each pod's queue, as the observer sampled it."""

    def __init__(self, observe_log: Path) -> None:
        self._tail = Tail(observe_log)
        self.depth: dict[str, int] = {}

    def look(self) -> None:
        """Read what is new."""
        for event in self._tail.events():
            if event["kind"] == "queue":
                self.depth[event["pod"]] = sum(int(event[q] or 0) for q in ("incoming", "active", "deferred"))

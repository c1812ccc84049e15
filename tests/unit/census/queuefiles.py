"""Queue files made record by record, so that each kind of damage can be planted. Real ones: tests/servers/test_census_queue.py."""

from __future__ import annotations

from pathlib import Path

from harness.census.queue_reader import QUEUES


def record(kind: str, data: bytes) -> bytes:
    length, octets = len(data), bytearray()
    while length >= 0x80:
        octets.append(length & 0x7F | 0x80)
        length >>= 7
    return kind.encode() + bytes([*octets, length]) + data


def queue_file(message: bytes, todo=(), done=(), *, end: bool = True) -> bytes:
    head = record("C", b"%15d %15d %15d %15d %15d %15d" % (len(message), 0, 1, 0, 0, 0)) + record("T", b"1700000000 0") + record("S", b"a@example.net")
    rcpts = b"".join(record("R", r.encode()) for r in todo) + b"".join(record("D", r.encode()) for r in done)
    lines = b"".join(record("N", line) for line in message.replace(b"\r\n", b"\n").split(b"\n")[:-1])
    return head + rcpts + record("M", b"") + lines + record("X", b"") + (record("E", b"") if end else b"")


def spool(root: Path) -> Path:
    for name in QUEUES:
        (root / name).mkdir(parents=True)
    return root

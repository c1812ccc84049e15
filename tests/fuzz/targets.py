"""The targets: each takes octets and raises when what reads them breaks a promise."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from harness.census.queue_file import QueueFileDamaged, parse
from harness.mail import imap_box
from harness.mail.wire import Garbage, LineReader, Reply, ReplyReader, ResponseReader
from harness.store.log import MAGIC, Damage, read_events
from harness.store.reader import Directory, Rows, read_log
from tests.fuzz import sessions

MEMORY_MAX = 64 << 20


def smtp_replies(data: bytes) -> None:
    """SMTP replies: however the stream is cut, they are the same; bounds hold."""
    whole, pieces = ReplyReader(), ReplyReader()
    first = _replies(whole.feed(data))
    step = 1 + len(data) % 7
    second = [r for at in range(0, len(data), step) for r in _replies(pieces.feed(data[at : at + step]))]
    assert first == second
    assert (whole.broken is None) == (pieces.broken is None)
    assert all(200 <= code <= 599 and len(lines) <= 256 for code, lines in first)


def _replies(replies: list[Reply]) -> list[tuple[int, tuple[bytes, ...]]]:
    return [(r.code, tuple(r.lines)) for r in replies if isinstance(r.text, str)]


def pop3_lines(data: bytes) -> None:
    """Lines: none is lost or longer than it may be."""
    whole, pieces = LineReader(512), LineReader(512)
    try:
        first = whole.feed(data)
    except Garbage:
        return
    second = [line for at in range(0, len(data), 3) for line in pieces.feed(data[at : at + 3])]
    assert first == second
    assert all(len(line) <= 512 for line in first)


def imap_responses(data: bytes) -> None:
    """IMAP responses with literals, and what FETCH makes of them."""
    whole, pieces = ResponseReader(4096, 65536), ResponseReader(4096, 65536)
    first, second = _responses(whole, data, len(data) or 1), _responses(pieces, data, 1 + len(data) % 5)
    assert first == second
    box = imap_box.Mailbox("INBOX")
    for parts in first[0]:
        try:
            heard = imap_box.fetched(parts)
        except Garbage:
            continue
        if heard is not None:
            assert heard.uid >= 0
            box.flagged(heard.number, heard.items.get("FLAGS"))
            box.expunged(heard.number)
    assert len(box.flags) <= imap_box.TRACKED_MAX


def _responses(reader: ResponseReader, data: bytes, step: int) -> tuple[list[list[bytes]], bool]:
    """The responses up to the first garbage. Fed one octet at a time, what stands before the garbage comes out first; so both feed lines."""
    found: list[list[bytes]] = []
    for line in data.splitlines(keepends=True):
        for at in range(0, len(line), step):
            try:
                found += reader.feed(line[at : at + step])
            except Garbage:
                return found, True
    return found, False


def queue_file(data: bytes) -> None:
    """A Postfix queue file: read whole, or damaged; never more content than the file has octets."""
    try:
        found = parse(data)
    except QueueFileDamaged:
        return
    assert len(found.content) <= 2 * len(data)


def store(data: bytes) -> None:
    """A log: raw octets behind the head when the first one is 0xff, else chunks (cut at RS) that are blocks with a right checksum."""
    raw = MAGIC + (data[1:] if data[:1] == b"\xff" else b"".join(_block(chunk) for chunk in data.split(sessions.RS)))
    path = _scratch()
    path.write_bytes(raw)
    directory, highest = Directory(), [0]

    def sink(kind: int, rows: Rows) -> None:
        if len(rows) and "rcpt" in (rows.dtype.names or ()):
            highest.append(int(rows["rcpt"].max()) + 1)

    content = read_log(path, directory, sink, io.BytesIO())
    assert max(highest) <= len(directory.recipients)
    assert not (content.closed and content.damages)
    for event in read_events(path):
        assert isinstance(event, Damage) or isinstance(event["kind"], str)


def _block(chunk: bytes) -> bytes:
    payload = bytes([chunk[0] % 8 if chunk else 0]) + chunk[1:]
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def _scratch() -> Path:
    root = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    return root / f"mailgale-fuzz-{os.getpid()}.log"


def smtp_client(data: bytes) -> None:
    """The SMTP and LMTP session; the first octet chooses how it sends."""
    sessions.table().run(data[1:], sessions.smtp(data[0] if data else 0))


def imap_client(data: bytes) -> None:
    """The IMAP client."""
    sessions.table().run(data, sessions.imap)


def pop3_client(data: bytes) -> None:
    """The POP3 client."""
    sessions.table().run(data, sessions.pop3)


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f for f in (smtp_replies, pop3_lines, imap_responses, queue_file, store, smtp_client, imap_client, pop3_client)
}


def planted(data: bytes) -> None:
    """No target of its own: proof that the fuzzer finds what lies behind four conditions."""
    if data[:1] == b"+" and data[1:2] == b"O" and data[2:3] == b"K" and len(data) > 7 and data[7] == 0x7F:
        raise AssertionError("the planted fault")

"""Postfix queue files, read by a parser of our own: no ``postcat``, so that volumes of dead pods read as well.

A queue file is records ``<type octet><length, 7 bits an octet, low first><data>``. Envelope records come first, then
``M``, the content as lines (``N``, or ``L`` for a part of a longer one), ``X``, envelope records again, and ``E``. Where a
milter changed the header, ``p`` records hold the offset at which reading goes on. Recipients are ``R`` until they are
delivered, then ``D``. A file is complete once ``E`` was written: cleanup(8) does so, and syncs, before Postfix says 250.
Source: Postfix 3.10 src/global/rec_type.h, src/global/record.c, src/postcat/postcat.c.
Limits: filter and milter *replacement bodies* are read as pointers, as Postfix does; VERP expansion is not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.errors import MailgaleError

_LENGTH_OCTETS_MAX = 5
#: Types that may stand in a queue file (rec_type.h); anything else means that it is damaged.
_KNOWN = frozenset(b"CTcFILSDRO/WAKrPpVMLNwXeEd<inof>m")
_POINTER_DIGITS_MAX = 15


class QueueFileDamaged(MailgaleError):
    """Octets that are no complete Postfix queue file."""


@dataclass
class QueueFile:
    """One mail in a queue.

    :param sender: envelope sender, "" = the null sender.
    :param todo: recipients still to be delivered. :param done: those that were.
    :param content: the message, lines ended by LF.
    """

    sender: str = ""
    todo: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    content: bytes = b""


def parse(raw: bytes) -> QueueFile:
    """The mail in the octets of a queue file.

    :raises QueueFileDamaged: they end before the record ``E``, or are no queue file.
    """
    found, content, in_content, ended = QueueFile(), bytearray(), False, False
    for kind, data in records(raw):
        if in_content and kind in b"NL":
            content += data + (b"\n" if kind == ord("N") else b"")
        elif kind in b"MX":
            in_content = kind == ord("M")
        elif kind == ord("E"):
            ended = True
            break
        else:
            _envelope(found, kind, data)
    if not ended:
        raise QueueFileDamaged("the queue file ends before its end record")
    found.content = bytes(content)
    return found


def _envelope(found: QueueFile, kind: int, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if kind == ord("S"):
        found.sender = text
    elif kind == ord("R"):
        found.todo.append(text)
    elif kind == ord("D"):
        found.done.append(text)


def records(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Records in reading order, pointers followed. No octet is read twice, which bounds time and memory by the file's size.

    :raises QueueFileDamaged: an unknown type, a record that goes beyond the end, or pointers that go in circles.
    """
    at = read = 0
    while at < len(raw):
        kind = raw[at]
        if kind not in _KNOWN:
            raise QueueFileDamaged(f"unknown record type {kind:#04x} at octet {at}")
        length, begin = _length(raw, at + 1)
        data = raw[begin : begin + length]
        if len(data) < length:
            raise QueueFileDamaged(f"the record at octet {at} goes beyond the file's end")
        read += begin + length - at
        if read > len(raw):
            raise QueueFileDamaged("its pointers go in circles")
        at = begin + length
        if kind == ord("p"):
            at = _target(data) or at
        else:
            yield kind, data


def _length(raw: bytes, at: int) -> tuple[int, int]:
    """A record's length that begins at ``at``, and where its data begins."""
    length = 0
    for n in range(_LENGTH_OCTETS_MAX):
        if at + n >= len(raw):
            raise QueueFileDamaged("the file ends within a record's length")
        octet = raw[at + n]
        length |= (octet & 0x7F) << (7 * n)
        if octet < 0x80:
            return length, at + n + 1
    raise QueueFileDamaged(f"impossible record length at octet {at}")


def _target(data: bytes) -> int:
    """Where a pointer record points; 0 = nowhere, reading goes on behind it."""
    text = data.strip()
    if not text.isdigit() or len(text) > _POINTER_DIGITS_MAX:
        raise QueueFileDamaged(f"not a pointer: {data[:20]!r}")
    return int(text)

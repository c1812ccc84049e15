"""Real messages of the generator, re-encoded as mail servers may and damaged as they must not, hashed by the census' own code."""

from __future__ import annotations

import base64
import email
import quopri
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from functools import cache

from harness.census.canonical import examine
from harness.load.messages import Messages
from harness.load.params import Params
from harness.model.outcome import Population

PREFIX = "selftest.1-a."
_COUNT = 64


@dataclass(frozen=True)
class Content:
    """A message as it is sent, with the hash that the generator offers it with."""

    raw: bytes
    sha: bytes
    non_ascii: bool


@cache
def contents() -> tuple[Content, ...]:
    """Messages of every kind that the generator knows; the same each time."""
    messages = Messages(7, Params(size_max_bytes=20_000), ["user1@example.org"], ["a@example.net"], PREFIX)
    messages.senders = ["sender@example.net"]
    made = [messages.make(Population.ELASTIC, n, 0, 0) for n in range(_COUNT)]
    return tuple(Content(messages.render(m), messages.sha(m), m.template.kind.startswith("utf-8")) for m in made)


def found_sha(raw: bytes) -> str:
    """The hash that the census gives a message as it was found, 32 hex digits."""
    return examine(raw, PREFIX).sha


def unix_lines(raw: bytes) -> bytes:
    """LF line ends, as a queue file or a Maildir keeps them."""
    return raw.replace(b"\r\n", b"\n")


def relayed(raw: bytes) -> bytes:
    """Trace headers added on the way."""
    return b"Return-Path: <sender@example.net>\r\nReceived: from a by b with LMTP id x;\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n" + raw


def as_base64(raw: bytes) -> bytes:
    """Every text part in base64 (RFC 2045 section 6.8)."""
    return _texts(raw, lambda octets: base64.encodebytes(octets).decode("ascii"), "base64")


def as_quoted_printable(raw: bytes) -> bytes:
    """Every text part in quoted-printable (RFC 2045 section 6.7), as a server without 8BITMIME must."""
    return _texts(raw, lambda octets: quopri.encodestring(octets).decode("ascii"), "quoted-printable")


def truncated(raw: bytes) -> bytes:
    """Cut off in the middle of its body."""
    head, gap, body = raw.partition(b"\r\n\r\n")
    return head + gap + body[: len(body) // 2]


def mislabelled(raw: bytes) -> bytes:
    """Octets of UTF-8 that are called ISO 8859-1: every umlaut becomes two letters."""
    return raw.replace(b"charset=utf-8", b"charset=iso-8859-1").replace(b'charset="utf-8"', b'charset="iso-8859-1"')


LEGAL: tuple[Callable[[bytes], bytes], ...] = (unix_lines, relayed, as_base64, as_quoted_printable)


def _texts(raw: bytes, encode: Callable[[bytes], str], name: str) -> bytes:
    message = email.message_from_bytes(raw)
    for part in message.walk():
        if part.get_content_maintype() == "text" and not part.is_multipart():
            _recode(part, encode, name)
    return message.as_bytes()


def _recode(part: Message, encode: Callable[[bytes], str], name: str) -> None:
    payload = part.get_payload(decode=True)
    octets = payload if isinstance(payload, bytes) else b""
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = name
    part.set_payload(encode(octets.replace(b"\r\n", b"\n")))

"""What a mail is, read from its octets: its number, the hash of its canonical form, and what it bounces.

The canonical form is DESIGN.md's; this is the census' own implementation, on the standard library's ``email`` package.
Limits: a text part that does not decode by its declared charset is hashed as it stands, so damage shows as another
hash and never as an error. Source: RFC 2045 section 6, RFC 3464 section 2.3.
"""

from __future__ import annotations

import email
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

SHA_BYTES = 16
PARTS_MAX = 1000
_WHITE = b" \t\r\n\x0b\x0c"
#: No octet of UTF-8: what cannot be decoded never hashes as a text that can.
_UNDECODABLE = b"\xff"
_TRACE = "X-Mailgale-Trace"
_FAILED = re.compile(r"^failed\b", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """One mail as it was found.

    :param mail: its number in this arm; None when it carries no trace of this arm (then it is not ours).
    :param sha: canonical form's hash, 32 hex digits.
    :param bounce_of: number of the mail whose failure this DSN reports; None when it is no such DSN.
    :param failed: addresses that the DSN reports as failed.
    """

    mail: int | None
    sha: str
    bounce_of: int | None = None
    failed: tuple[str, ...] = ()


def examine(raw: bytes, prefix: str) -> Seen:
    """What ``raw`` is.

    :param raw: the whole message, any line ends.
    :param prefix: ``<run id>.<arm>.``, what a trace of this arm begins with.
    """
    message = email.message_from_bytes(raw)
    failed = tuple(_failed_recipients(message))
    bounce = _returned_number(message, prefix) if failed else None
    return Seen(number_of(message, prefix), canonical_sha(message), bounce, failed if bounce is not None else ())


def number_of(message: Message, prefix: str) -> int | None:
    """The number in the trace header, or, where that header was lost, in the Message-ID; None when neither is of this arm."""
    trace = _number(str(message.get(_TRACE, "")), prefix)
    if trace is not None:
        return trace
    return _number(str(message.get("Message-ID", "")).strip().lstrip("<").split("@")[0], prefix)


def canonical_sha(message: Message) -> str:
    """The hash of the canonical form of ``message`` in 32 hex digits."""
    digest = hashlib.sha256()
    for part in _leaves(message):
        digest.update(part.get_content_type().encode("ascii", "replace") + b"\n")
        digest.update(_content(part) + b"\0")
    return digest.digest()[:SHA_BYTES].hex()


def _leaves(message: Message) -> Iterator[Message]:
    """Every part without parts of its own, in order, PARTS_MAX at most (a bound against a hostile message)."""
    for count, part in enumerate(message.walk()):
        if count >= PARTS_MAX:
            return
        if not part.is_multipart():
            yield part


def _content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    if part.get_content_maintype() != "text":
        return raw
    return _to_utf8(raw, part).replace(b"\r\n", b"\n").rstrip(_WHITE)


def _to_utf8(raw: bytes, part: Message) -> bytes:
    try:
        return raw.decode(part.get_content_charset() or "us-ascii").encode("utf-8")
    except (LookupError, UnicodeError):
        return _UNDECODABLE + raw


def _number(value: str, prefix: str) -> int | None:
    digits = value.strip().removeprefix(prefix)
    if not value.strip().startswith(prefix) or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        return None
    return int(digits)


def _failed_recipients(message: Message) -> Iterator[str]:
    """Final recipients with ``Action: failed`` of a delivery status notification. Source: RFC 3464 section 2.3.3."""
    for part in message.walk():
        if part.get_content_type() != "message/delivery-status":
            continue
        for block in _blocks(part):
            if _FAILED.match(str(block.get("Action", "")).strip()):
                yield str(block.get("Final-Recipient", "")).partition(";")[2].strip()


def _blocks(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [b for b in payload if isinstance(b, Message)] if isinstance(payload, list) else []


def _returned_number(message: Message, prefix: str) -> int | None:
    """Number of the mail that a DSN returns, whole or by its header alone."""
    for part in message.walk():
        kind = part.get_content_type()
        if kind == "message/rfc822" and _blocks(part):
            returned = _blocks(part)[0]
        elif kind in ("text/rfc822-headers", "message/rfc822-headers"):
            returned = email.message_from_bytes(_content(part))
        else:
            continue
        found = number_of(returned, prefix)
        if found is not None:
            return found
    return None

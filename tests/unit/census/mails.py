"""Mails for the census' tests, in every encoding, with the canonical content they must have."""

from __future__ import annotations

import base64
import hashlib

RUN, ARM = "20260101T000000Z-plan-0a1b", "1-2x"
PREFIX = f"{RUN}.{ARM}."


def sha(*leaves: tuple[str, bytes]) -> str:
    """The canonical form's hash, computed a second time from what the leaves must be."""
    return hashlib.sha256(b"".join(kind.encode() + b"\n" + content + b"\0" for kind, content in leaves)).digest()[:16].hex()


def mail(number: int, mime: str = "Content-Type: text/plain; charset=us-ascii\r\n", body: bytes = b"Hello\r\n") -> bytes:
    trace = f"{PREFIX}{number}"
    head = f"From: <a@example.net>\r\nMessage-ID: <{trace}@mailgale.example.net>\r\nX-Mailgale-Trace: {trace}\r\nMIME-Version: 1.0\r\n{mime}\r\n"
    return head.encode() + body


def text(charset: str, encoding: str) -> str:
    return f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"


WORDS = "Grüße aus Zürich €"
B64 = base64.encodebytes(WORDS.encode()).replace(b"\n", b"\r\n")


def dsn(number: int, action: str = "failed", *, headers_only: bool = False) -> bytes:
    """A delivery status notification for mail ``number``, as Postfix writes it."""
    returned = mail(number).split(b"\r\n\r\n")[0] + b"\r\n" if headers_only else mail(number)
    kind = "text/rfc822-headers" if headers_only else "message/rfc822"
    return (
        "From: MAILER-DAEMON@example.org\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="B"\r\n\r\n'
        "--B\r\nContent-Type: text/plain\r\n\r\nI'm sorry\r\n"
        "--B\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx-0\r\n\r\n"
        f"Final-Recipient: rfc822; user9@example.org\r\nAction: {action}\r\nStatus: 5.1.1\r\n\r\n"
        f"--B\r\nContent-Type: {kind}\r\n\r\n"
    ).encode() + returned + b"\r\n--B--\r\n"

"""The octets of a transaction: MAIL, RCPT and DATA with the parameters a server announces, and the message with its dots stuffed."""

from __future__ import annotations

from collections.abc import Mapping

from harness.mail.options import PLAIN_MAIL, Envelope
from harness.mail.replies import Dialogue


class Transaction(Dialogue):
    """One mail on its way: what was asked, what was answered, when."""

    __slots__ = ("envelope",)

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.started_ns = self.envelope_ns = self.handed_ns = self.ended_ns = 0
        self.mail = self.data = self.early = None
        self.rcpts, self.dots = [], []
        self.handed, self.unsent = False, None


def checked(envelope: Envelope) -> Envelope:
    """``envelope``, if it can be put on the wire.

    :raises ValueError: no recipients; CR, LF or NUL in an address or parameter.
    """
    if envelope.ready:
        return envelope
    if not envelope.recipients:
        raise ValueError("an envelope without recipients")
    words = b"".join((envelope.sender, *envelope.recipients))
    if envelope.options is not PLAIN_MAIL:
        words += f"{envelope.options.ret}{envelope.options.envid}{envelope.options.notify}".encode()
    if b"\r" in words or b"\n" in words or b"\0" in words:
        raise ValueError("CR, LF or NUL in an address or parameter of an envelope")
    return envelope


def needs_utf8(envelope: Envelope) -> bool:
    """The mail can only go to a server with SMTPUTF8."""
    if envelope.options.smtputf8 or not (envelope.ready or envelope.sender.isascii()):
        return True
    return not envelope.ready and not b"".join(envelope.recipients).isascii()


def is_bare(extensions: Mapping[str, str]) -> bool:
    """The server announces nothing that an ordinary mail's MAIL would carry parameters for."""
    return not {"SIZE", "SMTPUTF8"} & extensions.keys()


def block(envelope: Envelope, extensions: Mapping[str, str], bare: bool) -> bytes:
    """MAIL, one RCPT for each recipient, DATA as one group (RFC 2920). ``bare``: what :func:`is_bare` says of ``extensions``."""
    if bare and envelope.options is PLAIN_MAIL and len(envelope.recipients) == 1:
        return b"MAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n" % (envelope.sender, envelope.recipients[0])
    return b"".join(head(envelope, extensions))


def head(envelope: Envelope, extensions: Mapping[str, str]) -> list[bytes]:
    """MAIL, one RCPT for each recipient, DATA."""
    notify = b""
    options = envelope.options
    if options.notify and "DSN" in extensions:
        notify = b" NOTIFY=" + options.notify.encode()
    return [
        b"MAIL FROM:<%b>%b\r\n" % (envelope.sender, _mail_parameters(envelope, extensions)),
        *(b"RCPT TO:<%b>%b\r\n" % (recipient, notify) for recipient in envelope.recipients),
        b"DATA\r\n",
    ]


def _mail_parameters(envelope: Envelope, extensions: Mapping[str, str]) -> bytes:
    options, words = envelope.options, []
    if options is PLAIN_MAIL and is_bare(extensions):
        return b""  # the ordinary case of a sink, kept short; mails that need SMTPUTF8 never come here without it
    size = len(envelope.body) if options.size is None and isinstance(envelope.body, bytes) else options.size
    if size is not None and "SIZE" in extensions:
        words.append(f" SIZE={size}")
    if options is PLAIN_MAIL and not needs_utf8(envelope):
        return "".join(words).encode()
    if options.eight_bit and "8BITMIME" in extensions:
        words.append(" BODY=8BITMIME")
    if needs_utf8(envelope):
        words.append(" SMTPUTF8")
    if "DSN" in extensions:
        words += [f" RET={options.ret}"] if options.ret else []
        words += [f" ENVID={options.envid}"] if options.envid else []
    return "".join(words).encode()


def message(envelope: Envelope) -> bytes:
    """The message's octets as they go over the wire, without the final dot."""
    body = envelope.body if isinstance(envelope.body, bytes) else envelope.body()
    return body if envelope.ready else stuffed(body)


def stuffed(body: bytes) -> bytes:
    """``body`` with leading dots doubled and a line end at its end (RFC 5321 section 4.5.2)."""
    if b"\r\n." in body:
        body = body.replace(b"\r\n.", b"\r\n..")
    if body.startswith(b"."):
        body = b"." + body
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"

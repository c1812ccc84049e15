"""What is sent over SMTP and LMTP, and how: envelopes, session options, what a handler is told."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.mail.replies import RULES, RecipientResult, Rule, Timings

if TYPE_CHECKING:
    from harness.mail.smtp import SmtpSession

Body = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class MailOptions:
    """ESMTP parameters of one mail. Each is left out where the server does not announce its extension, except SMTPUTF8.

    :param eight_bit: BODY=8BITMIME (RFC 6152). :param smtputf8: RFC 6531; also set by a non-ASCII address. Not announced: the mail
        is not sent. :param size: octets for SIZE= (RFC 1870); None = that of the body where it is given as bytes.
    :param ret: ``FULL`` or ``HDRS``. :param envid: xtext. :param notify: e.g. ``SUCCESS,FAILURE`` (RFC 3461).
    """

    eight_bit: bool = False
    smtputf8: bool = False
    size: int | None = None
    ret: str = ""
    envid: str = ""
    notify: str = ""


PLAIN_MAIL = MailOptions()


class Envelope:
    """One transaction to make.

    :param sender: address without brackets; ``b""`` is the empty sender. :param body: the message with CRLF line ends, not
        dot-stuffed; a callable is asked when the server has said 354. :param token: yours.
    :param ready: you vouch for it that there are recipients, that addresses have no CR, LF and NUL and are ASCII unless the options say
        SMTPUTF8, and that the body is dot-stuffed and ends in CRLF (:mod:`harness.mail.commands` has ``stuffed``): nothing of it is looked at again.
    """

    __slots__ = ("body", "options", "ready", "recipients", "sender", "token")

    def __init__(
        self, sender: bytes, recipients: Sequence[bytes], body: Body, token: Any = None, options: MailOptions = PLAIN_MAIL, ready: bool = False
    ) -> None:
        self.sender, self.recipients, self.body = sender, recipients, body
        self.token, self.options, self.ready = token, options, ready


def _at_once(act: Callable[[], None]) -> None:
    act()


@dataclass(frozen=True)
class SessionOptions:
    """How a session behaves.

    :param hello: name for EHLO/LHLO. :param lmtp: speak LMTP.
    :param username: "" = no AUTH. :param mechanism: ``PLAIN``, ``LOGIN``, ``XOAUTH2`` (password = token) or "" = the first of
        PLAIN, LOGIN that the server announces.
    :param connect_s: seconds for TCP and for TLS. :param step_s: for each command, and for each 64 KiB of a message to be taken.
    :param dot_s: from the last octet to the reply (RFC 5321 section 4.5.3.2.6: 10 min).
    :param pipelining: use it where announced (RFC 2920).
    :param after_write: called with what puts a transaction's first byte on the wire, so that a ledger can be written before;
        must call it once, at once or later in the same turn of the loop.
    :param ahead: with pipelining, ask the handler's ``following`` for the envelope to send right behind a dot (RFC 2920 allows it).
    :param on_step: told ``banner``, ``ehlo``, ``tls``, ``auth`` with ns as the session opens.
    :param rules: how 4xx are classed.
    """

    hello: str = "localhost"
    lmtp: bool = False
    username: str = ""
    password: str = ""
    mechanism: str = ""
    tls_context: ssl.SSLContext | None = None
    server_name: str = ""
    connect_s: float = 30.0
    step_s: float = 300.0
    dot_s: float = 600.0
    pipelining: bool = True
    after_write: Callable[[Callable[[], None]], None] = _at_once
    ahead: bool = False
    on_step: Callable[[str, int], None] | None = None
    rules: tuple[Rule, ...] = RULES


class Handler(Protocol):
    """Who owns a session. Each envelope given to ``send`` comes back exactly once: by ``on_result`` or in ``refused``."""

    def on_ready(self, session: SmtpSession) -> None:
        """Opened, greeted, encrypted, authenticated: it may send. Called once."""

    def on_started(self, envelope: Envelope) -> None:
        """Its first byte goes out next."""

    def on_result(self, envelope: Envelope, results: Sequence[RecipientResult], timings: Timings) -> None:
        """How it ended, one result per recipient in order. ``send`` or ``quit`` may be called from here."""

    def following(self) -> Envelope | None:
        """A message is about to be handed over, and no envelope waits behind it: the one to send behind its dot, None = none now.
        Asked only with ``ahead``; ``quit`` may be called from here."""

    def on_closed(self, reason: str, refused: Sequence[Envelope], bad: RecipientResult | None) -> None:
        """The connection is over. ``refused``: given to ``send``, never begun. ``bad``: why it never became ready, else None."""

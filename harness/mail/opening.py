"""The first part of an SMTP or LMTP session: banner, EHLO, STARTTLS, AUTH.

Sources: RFC 5321 sections 3.1, 4.1.1.1; RFC 2033; RFC 3207; RFC 4954; Google's XOAUTH2. A server that does not know EHLO is
greeted with HELO. Octets that follow the 220 to STARTTLS in clear end the session (CVE-2011-0411).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from harness.mail.options import SessionOptions
from harness.mail.replies import RecipientResult, of_loss, of_reply
from harness.mail.wire import Reply
from harness.model.outcome import Stage

if TYPE_CHECKING:
    from harness.mail.smtp import SmtpSession


def deaf(reply: Reply) -> None:
    """Hears nothing any more."""


class Opening:
    """Drives ``session`` until it is ready. :attr:`bad` says why it never will be."""

    __slots__ = ("_clock", "_next", "_session", "_tls_wanted", "bad", "stage")

    def __init__(self, session: SmtpSession, tls_wanted: bool) -> None:
        self._session, self._tls_wanted, self._clock = session, tls_wanted, time.monotonic_ns()
        self._next: Callable[[Reply], None] = self._banner
        self.stage = Stage.BANNER
        self.bad: RecipientResult | None = None

    @property
    def _options(self) -> SessionOptions:
        return self._session.options

    def handle(self, reply: Reply) -> None:
        """The next reply."""
        self._next(reply)

    def over(self) -> None:
        """No reply is for it any more: let go of itself."""
        self._next = deaf

    def why(self, reason: str) -> RecipientResult:
        """The result of every mail that waited for this session."""
        return self.bad or of_loss(self.stage, reason)

    def refused(self, reply: Reply) -> None:
        """The server does not want us at this stage."""
        self.bad = of_reply(self.stage, reply, rules=self._options.rules)
        self._session.end(f"{reply.code} {reply.text}")

    def _banner(self, reply: Reply) -> None:
        if reply.code != 220:
            return self.refused(reply)
        self._took("banner")
        return self._hello()

    def _hello(self) -> None:
        self.stage, self._next = Stage.EHLO, self._greeted
        self._session.ask((b"LHLO " if self._options.lmtp else b"EHLO ") + self._options.hello.encode() + b"\r\n")

    def _greeted(self, reply: Reply) -> None:
        if reply.code in (500, 501, 502, 504) and not self._options.lmtp and not self._tls_wanted:
            self._next = self._greeted_plainly
            return self._session.ask(b"HELO " + self._options.hello.encode() + b"\r\n")
        if reply.code != 250:
            return self.refused(reply)
        self._session.extensions = _extensions(reply)
        self._took("ehlo")
        return self._secure() if self._tls_wanted else self._authenticate()

    def _greeted_plainly(self, reply: Reply) -> None:
        if reply.code != 250:
            return self.refused(reply)
        self._session.extensions = {}
        return self._authenticate()

    def _lack(self, what: str) -> None:
        self.bad = of_loss(self.stage, what)
        self._session.end(what)

    # STARTTLS

    def _secure(self) -> None:
        self.stage = Stage.TLS
        if "STARTTLS" not in self._session.extensions:
            return self._lack("STARTTLS is wanted, but the server does not announce it")
        self._next = self._may_secure
        return self._session.ask(b"STARTTLS\r\n")

    def _may_secure(self, reply: Reply) -> None:
        if reply.code != 220:
            return self.refused(reply)
        context = self._options.tls_context
        if context is None:
            return self._lack("STARTTLS is wanted, but there is no TLS context")
        if self._session.inside_reply:
            return self._lack("octets in clear behind the reply to STARTTLS")
        self._next = self._injected
        self._session.expect_within(self._options.connect_s + 1)
        return self._session.start_tls(context, self._options.server_name, self._options.connect_s, self._secured)

    def _injected(self, reply: Reply) -> None:
        self._lack("octets in clear behind the reply to STARTTLS")

    def _secured(self) -> None:
        self._took("tls")
        self._tls_wanted = False
        self._hello()

    # AUTH

    def _authenticate(self) -> None:
        if not self._options.username:
            return self._session.opened()
        self.stage = Stage.AUTH
        offered = self._session.extensions.get("AUTH", "").split()
        mechanism = self._options.mechanism or next((m for m in ("PLAIN", "LOGIN") if m in offered), "")
        if mechanism not in offered:
            return self._lack(f"the server does not announce AUTH {mechanism or 'PLAIN or LOGIN'}")
        start = {"PLAIN": self._plain, "LOGIN": self._login, "XOAUTH2": self._xoauth2}.get(mechanism)
        return start() if start is not None else self._lack(f"AUTH {mechanism} is not supported here")

    def _plain(self) -> None:
        self._next = self._authenticated
        self._session.ask(b"AUTH PLAIN " + _b64(f"\0{self._options.username}\0{self._options.password}") + b"\r\n")

    def _login(self) -> None:
        self._next = self._login_name
        self._session.ask(b"AUTH LOGIN\r\n")

    def _login_name(self, reply: Reply) -> None:
        if reply.code != 334:
            return self.refused(reply)
        self._next = self._login_password
        return self._session.ask(_b64(self._options.username) + b"\r\n")

    def _login_password(self, reply: Reply) -> None:
        if reply.code != 334:
            return self.refused(reply)
        self._next = self._authenticated
        return self._session.ask(_b64(self._options.password) + b"\r\n")

    def _xoauth2(self) -> None:
        self._next = self._xoauth2_answered
        words = f"user={self._options.username}\x01auth=Bearer {self._options.password}\x01\x01"
        self._session.ask(b"AUTH XOAUTH2 " + _b64(words) + b"\r\n")

    def _xoauth2_answered(self, reply: Reply) -> None:
        self._next = self._authenticated
        if reply.code == 334:  # the error as JSON; an empty answer brings the 535
            return self._session.ask(b"\r\n")
        return self._authenticated(reply)

    def _authenticated(self, reply: Reply) -> None:
        if reply.code != 235:
            return self.refused(reply)
        self._took("auth")
        return self._session.opened()

    def _took(self, step: str) -> None:
        now = time.monotonic_ns()
        if self._options.on_step is not None:
            self._options.on_step(step, now - self._clock)
        self._clock = now


def _extensions(reply: Reply) -> Mapping[str, str]:
    """What EHLO's reply announces, name → value; worked out once for each reply."""
    if reply.announced is None:
        words = (line.decode("ascii", "replace").upper().partition(" ") for line in reply.lines[1:])
        reply.announced = MappingProxyType({name: value for name, _, value in words})
    return cast(Mapping[str, str], reply.announced)


def _b64(text: str) -> bytes:
    return base64.b64encode(text.encode())

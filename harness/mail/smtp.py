"""SMTP and LMTP client: a state machine of callbacks, no task and no future for a mail (only in :func:`connect`, and to resolve names).

Sources: RFC 5321, 2033 (LMTP), 2920 (PIPELINING), 1870, 6152, 6531, 3461. Options and callbacks: :mod:`harness.mail.options`; how
endings are judged: :mod:`harness.mail.replies`.

With PIPELINING MAIL, RCPT and DATA go out in one write; the message follows its 354. An envelope given to :meth:`SmtpSession.send`
while a mail is on its way, or by the handler's ``following``, goes out right behind that mail's dot, or as soon as it can. When
the connection is cut then, both end by what was handed over: the first INFO, the second FAIL, since none of its message was sent.
:meth:`SmtpSession.quit` before the message puts QUIT behind the dot as well.

Limits: no CHUNKING (BDAT), no connection re-use across endpoints. Bare LF in a message goes out as it is.
"""

from __future__ import annotations

import asyncio

from harness.mail.commands import is_bare
from harness.mail.exchange import Exchange
from harness.mail.link import ConnectError, Endpoint, open_link
from harness.mail.opening import Opening, deaf
from harness.mail.options import Envelope, Handler, MailOptions, SessionOptions
from harness.mail.replies import RecipientResult, Timings, of_loss
from harness.mail.sockets import PlainSocket, family_of
from harness.model.outcome import Stage

__all__ = [
    "ConnectError", "Endpoint", "Envelope", "Handler", "MailOptions", "RecipientResult", "SessionOptions", "SmtpSession", "Timings", "connect",
    "start",
]  # fmt: skip


async def connect(loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> SmtpSession:
    """Open a connection; the dialogue then goes on by callbacks of ``handler``, the first of which may come before this returns.

    :raises ConnectError: (an OSError) no TCP connection or no implicit TLS; ``handler`` hears nothing then.
    """
    session = SmtpSession(loop, endpoint, options, handler)
    await open_link(session, endpoint, options.tls_context, options.server_name, options.connect_s)
    session.begin()
    return session


def start(loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> SmtpSession:
    """:func:`connect` without waiting, and much cheaper: raises nothing, and calls ``handler`` after it returned.

    A connection that cannot be made ends in ``on_closed``, with ``bad`` at stage CONNECT or TLS.
    """
    session = SmtpSession(loop, endpoint, options, handler)
    session.start(endpoint)
    return session


class SmtpSession(Exchange):
    """One connection. Made by :func:`connect` and :func:`start` only."""

    __slots__ = ("_implicit",)

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> None:
        super().__init__(loop, endpoint, options, handler)
        self._implicit = endpoint.tls == "implicit"
        self._opening = Opening(self, endpoint.tls == "starttls")
        self._handle = self._opening.handle

    def quit(self) -> None:
        """End well: QUIT after what is on its way, then close."""
        if self.ended or self._quitting:
            return
        self._quitting = True
        if self._opening is not None:
            self.end("quit before the session was ready")
        elif self._tx is None:
            self._say_quit()
        elif self._tx.handed and self._follow is None and self._next is None and self._pipelined:
            self._quit_sent = True
            self.write(b"QUIT\r\n")

    def abort(self) -> None:
        """Cut the connection now. Mails on their way get their results, then ``on_closed``."""
        self.end("cut by this side")

    # the opening

    def start(self, endpoint: Endpoint) -> None:
        """Begin to connect."""
        assert self._opening is not None
        family = family_of(endpoint.host)
        if not family:
            self._task = self.loop.create_task(self._open(endpoint))
            return
        self._opening.stage = Stage.CONNECT
        self.expect_within(self.options.connect_s)
        try:
            self.dial(endpoint, family)
        except OSError as error:
            self.loop.call_soon(self.end, f"{endpoint.host}:{endpoint.port}: {error}")

    async def _open(self, endpoint: Endpoint) -> None:
        try:
            await open_link(self, endpoint, self.options.tls_context, self.options.server_name, self.options.connect_s)
        except ConnectError as error:
            self.ended = True
            if not self._told:
                self._handler.on_closed(str(error), [], of_loss(error.stage, str(error)))
        else:
            self.begin()

    def reached(self) -> None:
        """The server has taken the connection: TLS is next where it is implicit, else the banner."""
        opening, context = self._opening, self.options.tls_context
        if opening is None or opening.stage is not Stage.CONNECT:
            return None
        if not self._implicit:
            return self._await_banner()
        opening.stage = Stage.TLS
        if context is None:
            return self.end("TLS is wanted, but there is no TLS context")
        return self.start_tls(context, self.options.server_name, self.options.connect_s, self._await_banner)

    def _await_banner(self) -> None:
        if self._opening is not None:
            self._opening.stage = Stage.BANNER
            self.expect_within(self.options.step_s)

    def fires(self) -> None:
        """The deadline has passed; when it was that of connecting, the kernel may have connected meanwhile without a word from the server."""
        connecting = self._opening is not None and self._opening.stage is Stage.CONNECT
        if connecting and isinstance(self.transport, PlainSocket) and self.transport.established:
            self.reached()
            if self.options.step_s > self.options.connect_s:
                return self.expect_within(self.options.step_s - self.options.connect_s)
        return self.end(self.overdue())

    def begin(self) -> None:
        """Wait for the banner."""
        if not self.ended and self._opening is not None and self._opening.stage is Stage.BANNER:
            self.expect_within(self.options.step_s)

    @property
    def inside_reply(self) -> bool:
        """Part of a reply has arrived."""
        return self._reader.inside

    def opened(self) -> None:
        """The opening is over."""
        if self._opening is not None:
            self._opening.over()
        self._opening, self._handle = None, self._unasked
        self._pipelined = self.options.pipelining and "PIPELINING" in self.extensions
        self._ahead = self._pipelined and self.options.ahead
        self._bare, self._utf8 = is_bare(self.extensions), "SMTPUTF8" in self.extensions
        self.expect_nothing()
        self._handler.on_ready(self)

    # the connection

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._paused = False
        if self._body and not self.ended:
            self._push()

    def overdue(self) -> str:
        """Which reply did not come."""
        if self._opening is not None:
            if self._opening.stage is Stage.CONNECT:
                return f"no connection within {self.options.connect_s:g} s"
            return f"no answer in stage {self._opening.stage.name} within {self.options.step_s:g} s"
        if self._tx is None:
            return "quit" if self._quit_sent else "out of time"
        stage = self._tx.stage
        return f"no answer in stage {stage.name} within {self.options.dot_s if stage is Stage.DOT else self.options.step_s:g} s"

    def gone(self, reason: str) -> None:
        """The connection is over: results for what was on its way, then the owner hears of the end."""
        self._told = True
        current, follow, waiting = self._tx, self._follow, self._next
        self._tx = self._follow = self._next = None
        self._body = b""
        for tx in (current, follow):
            if tx is not None:
                self._tell(tx, reason)
        bad = self._opening.why(reason) if self._opening is not None else None
        self._handler.on_closed(reason, [waiting] if waiting is not None else [], bad)
        if self._opening is not None:
            self._opening.over()
        self._handle, self._opening, self.transport = deaf, None, None  # no cycle is left for the collector: a connection a mail makes many


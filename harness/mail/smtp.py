"""SMTP and LMTP client: a state machine of callbacks, no task and no future for a mail (only for connecting and for TLS).

Sources: RFC 5321, 2033 (LMTP), 2920 (PIPELINING), 1870, 6152, 6531, 3461. Options and callbacks: :mod:`harness.mail.options`; how
endings are judged: :mod:`harness.mail.replies`.

With PIPELINING MAIL, RCPT and DATA go out in one write; the message follows its 354. An envelope given to :meth:`SmtpSession.send`
while a mail is on its way goes out right behind that mail's dot, or as soon as it can. When the connection is cut then, both
end by what was handed over: the first INFO, the second FAIL, since none of its message was sent. :meth:`SmtpSession.quit` before
the message puts QUIT behind the dot as well.

Limits: no CHUNKING (BDAT), no connection re-use across endpoints. Bare LF in a message goes out as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from harness.errors import MailgaleError
from harness.mail.commands import Transaction, checked, head, needs_utf8, stuffed
from harness.mail.link import ConnectError, Endpoint, Link, open_link
from harness.mail.opening import Opening
from harness.mail.options import Envelope, Handler, MailOptions, SessionOptions, Timings
from harness.mail.replies import RecipientResult, settle
from harness.mail.wire import Reply, ReplyReader
from harness.model.outcome import Stage

__all__ = [
    "ConnectError", "Endpoint", "Envelope", "Handler", "MailOptions", "RecipientResult", "SessionOptions", "SmtpSession", "Timings", "connect",
]  # fmt: skip

CHUNK_OCTETS = 65536
_now = time.monotonic_ns


async def connect(loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> SmtpSession:
    """Open a connection; the dialogue then goes on by callbacks of ``handler``, the first of which may come before this returns.

    :raises ConnectError: (an OSError) no TCP connection or no implicit TLS; ``handler`` hears nothing then.
    """
    session = SmtpSession(loop, endpoint, options, handler)
    await open_link(session, endpoint, options.tls_context, options.server_name, options.connect_s)
    session.begin()
    return session


class SmtpSession(Link):
    """One connection. Made by :func:`connect` only."""

    __slots__ = (
        "_body", "_commands", "_follow", "_handle", "_handler", "_last", "_next", "_opening", "_paused", "_pipelined", "_quit_sent",
        "_quitting", "_reader", "_reset", "_sent", "_tx", "extensions", "options",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> None:
        super().__init__(loop, endpoint)
        self.options, self._handler, self._reader = options, handler, ReplyReader()
        self.extensions: dict[str, str] = {}
        self._opening: Opening | None = Opening(self, endpoint.tls == "starttls")
        self._handle: Callable[[Reply], None] = self._opening.handle
        self._tx: Transaction | None = None  #: its replies come next
        self._follow: Transaction | None = None  #: begun behind the dot of _tx
        self._next: Envelope | None = None  #: waits
        self._commands: list[bytes] = []  #: of _tx, without PIPELINING
        self._body, self._sent = b"", 0  #: message on its way in pieces
        self._last: Reply | None = None  #: the 421 with which the server left
        self._paused = self._pipelined = self._quitting = self._quit_sent = self._reset = False

    # what the owner calls

    @property
    def busy(self) -> bool:
        """A mail is on its way or waits."""
        return self._tx is not None or self._next is not None

    @property
    def can_follow(self) -> bool:
        """:meth:`send` may be called although a mail is on its way."""
        return self._next is None and self._follow is None and not self._quitting and not self.ended and self._opening is None

    def send(self, envelope: Envelope) -> None:
        """Send a mail, now or behind the one on its way.

        :raises MailgaleError: the session is not ready, is ending, or one mail waits already.
        :raises ValueError: a CR, LF or NUL in an address or parameter, or no recipients.
        """
        if not self.can_follow:
            raise MailgaleError("this session cannot take a mail now", todo="send from on_ready and on_result only")
        checked(envelope)
        if self._tx is None:
            self._begin(envelope)
        elif self._pipelined and self._tx.said.handed:
            self._begin_behind(envelope)
        else:
            self._next = envelope

    def quit(self) -> None:
        """End well: QUIT after what is on its way, then close."""
        if self.ended or self._quitting:
            return
        self._quitting = True
        if self._opening is not None:
            self.end("quit before the session was ready")
        elif self._tx is None:
            self._say_quit()
        elif self._tx.said.handed and self._follow is None and self._next is None and self._pipelined:
            self._quit_sent = True
            self.write(b"QUIT\r\n")

    def abort(self) -> None:
        """Cut the connection now. Mails on their way get their results, then ``on_closed``."""
        self.end("cut by this side")

    # the opening

    def begin(self) -> None:
        """Wait for the banner."""
        if not self.ended and self._opening is not None and self._opening.stage is Stage.BANNER:
            self.expect_within(self.options.step_s)

    @property
    def inside_reply(self) -> bool:
        """Part of a reply has arrived."""
        return self._reader.inside

    def ask(self, command: bytes) -> None:
        """Send a command of the opening."""
        if command.count(b"\n") != 1:
            raise ValueError("CR or LF in the argument of a command")
        self.write(command)
        self.expect_within(self.options.step_s)

    def opened(self) -> None:
        """The opening is over."""
        self._opening, self._handle = None, self._unasked
        self._pipelined = self.options.pipelining and "PIPELINING" in self.extensions
        self.expect_nothing()
        self._handler.on_ready(self)

    # replies

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        reader = self._reader
        for reply in reader.feed(data):
            if reply.code == 421:
                self._leave(reply)
            if self.ended:
                return
            self._handle(reply)
        if reader.broken is not None:
            self.end(str(reader.broken))

    def _leave(self, reply: Reply) -> None:
        """421 answers whatever was asked last and ends the session (RFC 5321 section 3.8)."""
        if self._opening is not None:
            return self._opening.refused(reply)
        self._last = reply
        if self._tx is not None and self._tx.said.handed:
            self._tx.said.dots.append(reply)
        return self.end(f"421 {reply.text}")

    def _unasked(self, reply: Reply) -> None:
        self.end(f"a reply that nobody asked for: {reply.code} {reply.text}")

    def _got_reset(self, reply: Reply) -> None:
        if reply.code >= 300:
            return self.end(f"RSET refused: {reply.code} {reply.text}")
        self._reset, self._handle = False, self._got_mail
        return None if self._pipelined else self._go_on()

    def _got_mail(self, reply: Reply) -> None:
        self._tx.said.mail = reply  # type: ignore[union-attr]
        self._handle = self._got_rcpt
        if not self._pipelined:
            if reply.code >= 300:
                return self._settled()
            self._go_on()
        return None

    def _got_rcpt(self, reply: Reply) -> None:
        tx = self._tx
        assert tx is not None
        rcpts = tx.said.rcpts
        rcpts.append(reply)
        last = len(rcpts) == len(tx.envelope.recipients)
        if last:
            self._handle = self._got_data
        if self._pipelined:
            return
        if last and not tx.said.accepted:
            self._reset = True
            self._settled()
        else:
            self._go_on()

    def _got_data(self, reply: Reply) -> None:
        tx = self._tx
        assert tx is not None
        assert tx.said.mail is not None
        tx.said.data, tx.timings.envelope_ns = reply, _now()
        if reply.code != 354:
            self._reset = tx.said.mail.code < 300
            return self._settled()
        if tx.said.mail.code < 300 and tx.said.accepted:
            return self._give()
        if self.options.lmtp:
            return self.end("354 to DATA although every recipient was refused")
        self._handle = self._got_void
        return self.ask(b".\r\n")

    def _got_void(self, reply: Reply) -> None:
        self._settled()

    def _got_early(self, reply: Reply) -> None:
        self._tx.said.early = reply  # type: ignore[union-attr]
        self.end(f"{reply.code} before the end of the message: {reply.text}")

    def _got_dot(self, reply: Reply) -> None:
        said = self._tx.said  # type: ignore[union-attr]
        said.dots.append(reply)
        if not self.options.lmtp or len(said.dots) == said.accepted:
            self._settled()

    def _got_bye(self, reply: Reply) -> None:
        self.end("quit")

    # a transaction

    def _begin(self, envelope: Envelope) -> None:
        self._tx = Transaction(envelope)
        if not self._can_carry(envelope):
            self.loop.call_soon(self._not_sent, self._tx)
            return
        self._handler.on_started(envelope)
        self.options.after_write(self._go)

    def _can_carry(self, envelope: Envelope) -> bool:
        return "SMTPUTF8" in self.extensions or not needs_utf8(envelope)

    def _not_sent(self, tx: Transaction) -> None:
        if self._tx is tx and not self.ended:
            self._settled("the server does not announce SMTPUTF8, so this mail was not sent (RFC 6531)")

    def _go(self) -> None:
        tx = self._tx
        if tx is None or self.ended:
            return
        tx.timings.started_ns = _now()
        commands = head(tx.envelope, self.extensions)
        self._handle = self._got_reset if self._reset else self._got_mail
        if self._reset:
            commands.insert(0, b"RSET\r\n")
        if self._pipelined:
            self.write(b"".join(commands))
            self.expect_within(self.options.step_s)
        else:
            self._commands = commands
            self._go_on()

    def _go_on(self) -> None:
        self.write(self._commands.pop(0))
        self.expect_within(self.options.step_s)

    def _begin_behind(self, envelope: Envelope) -> None:
        """The message before has been handed over: this one's commands follow at once."""
        if not self._can_carry(envelope):
            self._next = envelope
            return
        self._follow = Transaction(envelope)
        self._handler.on_started(envelope)
        self.options.after_write(self._go_behind)

    def _go_behind(self) -> None:
        tx = self._follow or self._tx
        if tx is not None and not tx.timings.started_ns and not self.ended:
            tx.timings.started_ns = _now()
            self.write(b"".join(head(tx.envelope, self.extensions)))

    def _give(self) -> None:
        """Hand the message over. Where a next envelope waits, its start is recorded first, so that both go out in one write."""
        if self._next is not None and self._pipelined and self._can_carry(self._next):
            envelope, self._next = self._next, None
            self._follow = Transaction(envelope)
            self._handler.on_started(envelope)
            self._handle = self._got_early
            self.options.after_write(self._give_now)
        else:
            self._give_now()

    def _give_now(self) -> None:
        tx = self._tx
        if tx is None or self.ended:
            return
        body = stuffed(tx.envelope.body if isinstance(tx.envelope.body, bytes) else tx.envelope.body())
        if len(body) <= CHUNK_OCTETS and not self._paused:
            self._handed(tx, body)
            return
        self._handle, self._body, self._sent = self._got_early, body, 0
        self._push()

    def _push(self) -> None:
        """Hand over as much as the transport takes; the rest when it asks again."""
        view = memoryview(self._body)
        while not self._paused and not self.ended and len(view) - self._sent > CHUNK_OCTETS:
            piece = view[self._sent : self._sent + CHUNK_OCTETS]
            self._sent += len(piece)
            self.write(bytes(piece))
        if self._paused or self.ended:
            self.expect_within(self.options.step_s)
            return
        rest, self._body = bytes(view[self._sent :]), b""
        if self._tx is not None:
            self._handed(self._tx, rest)

    def _handed(self, tx: Transaction, rest: bytes) -> None:
        """The last octets, and behind the dot what may follow it."""
        follow = self._follow
        behind = b""
        if follow is not None:
            follow.timings.started_ns = _now()
            behind = b"".join(head(follow.envelope, self.extensions))
        elif self._quitting and self._next is None and self._pipelined:
            self._quit_sent, behind = True, b"QUIT\r\n"
        tx.said.handed, self._handle = True, self._got_dot
        tx.timings.handed_ns = _now()
        self.write(rest + b".\r\n" + behind)
        self.expect_within(self.options.dot_s)

    def _settled(self, why: str = "") -> None:
        """Every reply of the transaction is there: tell the owner, then go on with what waits."""
        tx, self._tx, self._follow = self._tx, self._follow, None
        assert tx is not None
        if self._tx is not None:
            self._handle = self._got_mail
            self.expect_within(self.options.step_s)
        elif self._quit_sent:
            self._handle = self._got_bye
            self.expect_within(self.options.step_s)
        else:
            self._handle = self._unasked
            self.expect_nothing()
        self._tell(tx, why)
        if self._tx is None and not self.ended and not self._quit_sent:
            if self._next is not None:
                envelope, self._next = self._next, None
                self._begin(envelope)
            elif self._quitting:
                self._say_quit()

    def _tell(self, tx: Transaction, why: str) -> None:
        tx.timings.ended_ns = _now()
        options, envelope = self.options, tx.envelope
        results = settle(tx.said, len(envelope.recipients), lmtp=options.lmtp, why=why, last=self._last, rules=options.rules)
        self._handler.on_result(envelope, results, tx.timings)

    def _say_quit(self) -> None:
        if not self._quit_sent:
            self._quit_sent, self._handle = True, self._got_bye
            self.ask(b"QUIT\r\n")

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
            return f"no answer in stage {self._opening.stage.name} within {self.options.step_s:g} s"
        if self._tx is None:
            return "quit" if self._quit_sent else "out of time"
        stage = self._tx.said.stage
        return f"no answer in stage {stage.name} within {self.options.dot_s if stage is Stage.DOT else self.options.step_s:g} s"

    def gone(self, reason: str) -> None:
        """The connection is over: results for what was on its way, then the owner hears of the end."""
        current, follow, waiting = self._tx, self._follow, self._next
        self._tx = self._follow = self._next = None
        self._body = b""
        for tx in (current, follow):
            if tx is not None:
                self._tell(tx, reason)
        bad = self._opening.why(reason) if self._opening is not None else None
        self._handler.on_closed(reason, [waiting] if waiting is not None else [], bad)


"""The transactions of an SMTP or LMTP session: what is sent for a mail, and what each reply to it leads to.

The half of :class:`harness.mail.smtp.SmtpSession` that runs for every mail; that module says what it does and where its limits are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from harness.errors import MailgaleError
from harness.mail.commands import Transaction, block, checked, head, message, needs_utf8
from harness.mail.link import Endpoint, Link
from harness.mail.opening import Opening
from harness.mail.options import PLAIN_MAIL, Envelope, Handler, SessionOptions
from harness.mail.replies import NO_SMTPUTF8, settle, taken
from harness.mail.wire import Reply, ReplyReader

CHUNK_OCTETS = 65536
_now = time.monotonic_ns


class Exchange(Link):
    """See the module. Abstract: the opening, the end and ``quit`` are :class:`~harness.mail.smtp.SmtpSession`'s."""

    __slots__ = (
        "_ahead", "_bare", "_body", "_commands", "_follow", "_handle", "_handler", "_last", "_next", "_opening", "_paused", "_pipelined",
        "_quit_sent", "_quitting", "_reader", "_reset", "_sent", "_swift", "_told", "_tx", "_utf8", "extensions", "options",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, options: SessionOptions, handler: Handler) -> None:
        super().__init__(loop, endpoint)
        self.options, self._handler, self._reader = options, handler, ReplyReader()
        self.extensions: Mapping[str, str] = {}
        self._opening: Opening | None = None  #: until the session is ready
        self._handle: Callable[[Reply], None] = self._unasked
        self._tx: Transaction | None = None  #: its replies come next
        self._follow: Transaction | None = None  #: begun behind the dot of _tx
        self._next: Envelope | None = None  #: waits
        self._commands: list[bytes] = []  #: of _tx, without PIPELINING
        self._body, self._sent = b"", 0  #: message on its way in pieces
        self._last: Reply | None = None  #: the 421 with which the server left
        self._paused = self._pipelined = self._quitting = self._quit_sent = self._reset = self._told = False
        self._swift = False  #: replies to a dot and to an envelope of one recipient behind it are what comes next
        self._bare = self._utf8 = False  #: what the server announces: nothing for MAIL; SMTPUTF8
        self._ahead = False  #: the handler is asked for what follows

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
        elif self._pipelined and self._tx.handed:
            self._begin_behind(envelope)
        else:
            self._next = envelope

    def ask(self, command: bytes) -> None:
        """Send one command and wait for its reply."""
        if command.count(b"\n") != 1:
            raise ValueError("CR or LF in the argument of a command")
        self.write(command)
        self.expect_within(self.options.step_s)

    # replies

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        reader = self._reader
        replies = reader.feed(data)
        if self._swift and len(replies) == 4:
            self._got_all(*replies)
        else:
            self._got_each(replies)
        if reader.broken is not None:
            self.end(str(reader.broken))

    def _got_all(self, dot: Reply, mail: Reply, rcpt: Reply, data: Reply) -> None:
        """Replies to a dot and to the envelope behind it came together, which is the ordinary case with ``ahead``, kept short."""
        self._swift = False
        if dot.code >= 300 or mail.code >= 300 or rcpt.code >= 300 or data.code != 354:
            return self._got_each((dot, mail, rcpt, data))
        before, tx, now = self._tx, self._follow, _now()
        assert before is not None
        assert tx is not None
        self._tx, self._follow = tx, None
        before.ended_ns = tx.envelope_ns = now
        tx.mail, tx.data = mail, data
        tx.rcpts.append(rcpt)
        self._handle = self._got_early
        self._handler.on_result(before.envelope, taken(dot), before)
        return None if self.ended else self._give()

    def _got_each(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            if reply.code == 421:
                self._leave(reply)
            if self.ended:
                return
            self._handle(reply)

    def _leave(self, reply: Reply) -> None:
        """421 answers whatever was asked last and ends the session (RFC 5321 section 3.8)."""
        if self._opening is not None:
            return self._opening.refused(reply)
        self._last = reply
        if self._tx is not None and self._tx.handed:
            self._tx.dots.append(reply)
        return self.end(f"421 {reply.text}")

    def _unasked(self, reply: Reply) -> None:
        self.end(f"a reply that nobody asked for: {reply.code} {reply.text}")

    def _got_reset(self, reply: Reply) -> None:
        if reply.code >= 300:
            return self.end(f"RSET refused: {reply.code} {reply.text}")
        self._reset, self._handle = False, self._got_mail
        return None if self._pipelined else self._go_on()

    def _got_mail(self, reply: Reply) -> None:
        self._tx.mail = reply  # type: ignore[union-attr]
        self._handle = self._got_rcpt
        if not self._pipelined:
            if reply.code >= 300:
                return self._settled()
            self._go_on()
        return None

    def _got_rcpt(self, reply: Reply) -> None:
        tx = self._tx
        assert tx is not None
        tx.rcpts.append(reply)
        last = len(tx.rcpts) == len(tx.envelope.recipients)
        if last:
            self._handle = self._got_data
        if self._pipelined:
            return
        if last and not tx.accepted:
            self._reset = True
            self._settled()
        else:
            self._go_on()

    def _got_data(self, reply: Reply) -> None:
        tx = self._tx
        assert tx is not None
        assert tx.mail is not None
        tx.data, tx.envelope_ns = reply, _now()
        if reply.code != 354:
            self._reset = tx.mail.code < 300
            return self._settled()
        if tx.mail.code < 300 and (tx.rcpts[0].code < 300 or tx.accepted):
            return self._give()
        if self.options.lmtp:
            return self.end("354 to DATA although every recipient was refused")
        self._handle = self._got_void
        return self.ask(b".\r\n")

    def _got_void(self, reply: Reply) -> None:
        self._settled()

    def _got_early(self, reply: Reply) -> None:
        self._tx.early = reply  # type: ignore[union-attr]
        self.end(f"{reply.code} before the end of the message: {reply.text}")

    def _got_dot(self, reply: Reply) -> None:
        tx = self._tx
        assert tx is not None
        tx.dots.append(reply)
        if not self.options.lmtp or len(tx.dots) == tx.accepted:
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
        return self._utf8 or not needs_utf8(envelope)

    def _not_sent(self, tx: Transaction) -> None:
        if self._tx is tx and not self.ended:
            tx.unsent = NO_SMTPUTF8
            self._settled()

    def _go(self) -> None:
        tx = self._tx
        if tx is None or self.ended:
            return
        tx.started_ns = _now()
        self._handle = self._got_reset if self._reset else self._got_mail
        if self._pipelined:
            self.write((b"RSET\r\n" if self._reset else b"") + block(tx.envelope, self.extensions, self._bare))
            self.expect_within(self.options.step_s)
        else:
            self._commands = [*([b"RSET\r\n"] if self._reset else []), *head(tx.envelope, self.extensions)]
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
        if tx is not None and not tx.started_ns and not self.ended:
            tx.started_ns = _now()
            self.write(block(tx.envelope, self.extensions, self._bare))

    def _give(self) -> None:
        """Hand the message over. Where a next envelope waits, its start is recorded first, so that both go out in one write."""
        envelope = self._next
        if envelope is None and self._ahead and not self._quitting:
            envelope = self._handler.following()
            if envelope is not None and not envelope.ready:
                self._next = checked(envelope)
        if envelope is not None and self._pipelined and ((envelope.ready and envelope.options is PLAIN_MAIL) or self._can_carry(envelope)):
            self._next = None
            self._follow = Transaction(envelope)
            self._handler.on_started(envelope)
            self._handle = self._got_early
            self.options.after_write(self._give_now)
        else:
            self._next = envelope
            self._give_now()

    def _give_now(self) -> None:
        tx = self._tx
        if tx is None or self.ended:
            return
        body = message(tx.envelope)
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
        follow, now = self._follow, _now()
        behind = b""
        if follow is not None:
            self._swift = not self.options.lmtp and len(follow.envelope.recipients) == 1 == len(tx.rcpts)
            follow.started_ns = now
            behind = block(follow.envelope, self.extensions, self._bare)
        elif self._quitting and self._next is None and self._pipelined:
            self._quit_sent, behind = True, b"QUIT\r\n"
        tx.handed, self._handle = True, self._got_dot
        tx.handed_ns = now
        self.write(b"".join((rest, b".\r\n", behind)))
        self.due = now * 1e-9 + self.options.dot_s

    def _settled(self) -> None:
        """Every reply of the transaction is there: tell the owner, then go on with what waits."""
        self._swift = False
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
        self._tell(tx)
        if self._tx is None and not self.ended and not self._quit_sent:
            if self._next is not None:
                envelope, self._next = self._next, None
                self._begin(envelope)
            elif self._quitting:
                self._say_quit()

    def _tell(self, tx: Transaction, why: str = "") -> None:
        tx.ended_ns = _now()
        options, envelope = self.options, tx.envelope
        results = settle(tx, len(envelope.recipients), lmtp=options.lmtp, why=why, last=self._last, rules=options.rules)
        self._handler.on_result(envelope, results, tx)

    def _say_quit(self) -> None:
        if not self._quit_sent:
            self._quit_sent, self._handle = True, self._got_bye
            self.ask(b"QUIT\r\n")

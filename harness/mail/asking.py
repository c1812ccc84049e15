"""Base of the clients with coroutines (IMAP, POP3): one command at a time, an explicit deadline for each, a lost peer seen at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.errors import MailgaleError
from harness.mail.link import Closed, Endpoint, Link, Refused

__all__ = ["Asking", "Closed", "Refused"]
EARLY_OCTETS_MAX = 65_536


class Asking(Link):
    """See the module.

    :param step_s: seconds for each command. ``on_closed`` is called with the reason when the connection is over.
    """

    __slots__ = ("_answer", "_asked", "_early", "_within", "on_closed", "reason", "step_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, step_s: float) -> None:
        super().__init__(loop, endpoint)
        self.step_s = step_s
        self.reason = ""  #: why the connection is over; "" while it lives
        self.on_closed: Callable[[str], None] | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._asked, self._within = "", 0.0
        self._early: bytes | None = b""  #: what came before the greeting was waited for; None once it is

    async def answer(self, asked: str, octets: bytes = b"", seconds: float | None = None) -> Any:
        """Send ``octets`` and wait for what :meth:`resolve` or :meth:`refuse` makes of the peer's answer.

        :param asked: what is asked, for messages. :param seconds: deadline; None = ``step_s``.
        :raises Closed: the connection is over. :raises Refused: the server said no.
        :raises MailgaleError: a command is still on its way.
        """
        if self.ended:
            raise Closed(self.reason or "the connection is over")
        if self._answer is not None:
            raise MailgaleError(f"{asked} while {self._asked} is on its way", todo="await one command before the next")
        waiting = self._answer = self.loop.create_future()
        self._asked, self._within = asked, self.step_s if seconds is None else seconds
        self.expect_within(self._within)
        self.write(octets)
        early, self._early = self._early, None
        if early:
            self.data_received(early)
        try:
            return await waiting
        except asyncio.CancelledError:
            self.end(f"{asked} was given up")
            raise
        finally:
            self._answer = None
            if not self.ended:
                self.expect_nothing()

    def early(self, data: bytes) -> bool:
        """Keep octets of a server that greets before this side's coroutine has run again after connecting; whether that is so."""
        if self._early is None:
            return False
        self._early += data
        if len(self._early) > EARLY_OCTETS_MAX:
            self.end(f"more than {EARLY_OCTETS_MAX} octets before anything was asked")
        return True

    @property
    def asked(self) -> bool:
        """A command is on its way."""
        return self._answer is not None and not self._answer.done()

    def resolve(self, value: Any) -> None:
        """The answer to the command on its way."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(value)

    def refuse(self, error: Exception) -> None:
        """The command on its way failed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def overdue(self) -> str:
        """What did not come."""
        return f"no answer to {self._asked} within {self._within:g} s"

    def gone(self, reason: str) -> None:
        """Whoever waits hears of it now."""
        self.reason = reason
        self.refuse(Closed(reason))
        if self.on_closed is not None:
            self.on_closed(reason)

    def abort(self) -> None:
        """Cut the connection."""
        self.end("cut by this side")

    async def secured(self, context: Any, name: str, deadline_s: float) -> None:
        """Wrap in TLS after STARTTLS/STLS.

        :raises Closed: no TLS, or none wanted by this side.
        """
        if context is None:
            self.end("TLS is wanted, but there is no TLS context")
            raise Closed(self.reason)
        try:
            await self.wrap(context, name, deadline_s)
        except OSError as error:
            self.end(str(error))
            raise Closed(str(error)) from error

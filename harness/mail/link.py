"""One TCP connection: opened with a source address and a PROXY header, wrapped in TLS, with a deadline, ended once.

Two ways to open it: the coroutine :func:`open_link` by the loop's transports, and :meth:`Link.dial` without waiting, by a plain socket.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from harness.mail.deadlines import Deadlines
from harness.mail.proxy import header
from harness.mail.sockets import PlainSocket
from harness.model.outcome import Stage

LATE_S = 0.05  #: how long after a deadline a busy loop still waits for its timer


class ConnectError(OSError):
    """No connection: refused, unreachable, out of time, or no TLS. ``stage`` is CONNECT or TLS."""

    def __init__(self, what: str, stage: Stage) -> None:
        super().__init__(what)
        self.stage = stage


class Closed(OSError):
    """The connection is over: lost, out of time, or the peer sent what no peer may send. What was asked may have happened."""


class Refused(Exception):
    """The server said no (NO, BAD, -ERR); the connection lives. ``word`` is the status, ``text`` the rest."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(f"{word} {text}")
        self.word, self.text = word, text


@dataclass(frozen=True)
class Endpoint:
    """Where to connect to.

    :param host: an IP address (names are resolved by the system's resolver, in a thread). :param tls: ``none``, ``starttls`` or
        ``implicit``. :param proxy_client: when given, a PROXY v2 header names this address as the client.
    :param source: local address to connect from ("" = the system's choice).
    """

    host: str
    port: int
    tls: str = "none"
    proxy_client: str = ""
    source: str = ""


class Link(asyncio.Protocol):
    """Base of all clients. Subclasses define :meth:`arrived`, :meth:`overdue` and :meth:`gone`."""

    __slots__ = ("_deadlines", "_task", "_then", "due", "ended", "live", "loop", "preamble", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
        self.loop, self.preamble = loop, endpoint.proxy_client
        self.transport: asyncio.Transport | PlainSocket | None = None
        self._deadlines: Deadlines | None = None
        self._task: asyncio.Task[None] | None = None
        self._then: Callable[[], None] | None = None  #: when TLS is up
        self.due = 0.0  #: the deadline on the monotonic clock, which is the loop's; 0 = none
        self.ended = False
        self.live = endpoint.tls != "implicit"  #: someone waits for callbacks; until then a failure is an exception of open_link

    # what subclasses say

    def arrived(self, data: bytes) -> None:
        """Octets from the peer."""

    def overdue(self) -> str:
        """The deadline has passed: the reason to end with, e.g. ``no reply to DATA within 10 s``."""
        return "out of time"

    def gone(self, reason: str) -> None:
        """The connection is over; called once, only after it had been made."""

    # deadlines

    def expect_within(self, seconds: float) -> None:
        """End the connection unless another deadline is set, or none, before ``seconds`` have passed."""
        self.due = time.monotonic() + seconds
        if self._deadlines is None and not self.ended:
            self._deadlines = Deadlines.of(self.loop)
            self._deadlines.add(self, self.loop)

    def expect_nothing(self) -> None:
        """No deadline: the peer owes nothing."""
        self.due = 0.0

    def late(self) -> bool:
        """The deadline has passed although nobody looked, since the loop is busy reading a flood; ends the connection."""
        if self.due and not self.ended and time.monotonic() > self.due + LATE_S:
            self.end(self.overdue())
        return self.ended

    def fires(self) -> None:
        """The deadline has passed."""
        self.end(self.overdue())

    # the connection

    def write(self, data: bytes) -> None:
        """Hand octets to the transport; nothing once the connection has ended."""
        if not self.ended and self.transport is not None:
            self.transport.write(data)

    def end(self, reason: str) -> None:
        """Cut the connection; the first reason is the one that counts."""
        if self.ended:
            return
        self.ended = True
        if self._deadlines is not None:
            self._deadlines.discard(self)
        if self.transport is not None:
            self.transport.abort()
        if self.live:
            self.gone(reason)

    def dial(self, endpoint: Endpoint, family: int) -> None:
        """Begin to connect by a plain socket and return; :meth:`reached` or :meth:`connection_lost` follow.

        :param family: of ``endpoint.host``, which must be an IP address. :raises OSError: no connection can be begun.
        """
        self.live = True
        self.transport = PlainSocket(self.loop, self, endpoint.host, endpoint.port, family, endpoint.source, endpoint.tls == "implicit")
        if self.preamble:
            local = self.transport.get_extra_info("sockname")
            self.write(header(self.preamble, local[1], endpoint.host, endpoint.port))

    def reached(self) -> None:
        """The peer has taken a connection begun by :meth:`dial`."""

    def start_tls(self, context: ssl.SSLContext, name: str, deadline_s: float, then: Callable[[], None]) -> None:
        """Wrap the connection in TLS and call ``then``; a failure ends it."""
        if isinstance(self.transport, PlainSocket):
            self._then = then
            self.expect_within(deadline_s)
            return self.transport.secure(context, name)
        self._task = self.loop.create_task(self._wrap(context, name, deadline_s, then))
        return None

    def encrypted(self) -> None:
        """TLS is up on a connection begun by :meth:`dial`."""
        then, self._then = self._then, None
        if then is not None and not self.ended:
            then()

    async def _wrap(self, context: ssl.SSLContext, name: str, deadline_s: float, then: Callable[[], None]) -> None:
        try:
            await self.wrap(context, name, deadline_s)
        except ConnectError as error:
            self.end(str(error))
        else:
            if not self.ended:
                then()

    async def wrap(self, context: ssl.SSLContext, name: str, deadline_s: float) -> None:
        """Wrap the connection in TLS.

        :raises ConnectError: the handshake failed or took longer than ``deadline_s`` seconds.
        """
        plain = self.transport
        if plain is None or isinstance(plain, PlainSocket) or self.ended:
            raise ConnectError("the connection is gone", Stage.TLS)
        try:
            async with asyncio.timeout(deadline_s):
                made = await self.loop.start_tls(
                    plain, self, context, server_hostname=name or None, ssl_handshake_timeout=deadline_s + 1, ssl_shutdown_timeout=1.0
                )
        except TimeoutError:
            plain.abort()
            raise ConnectError(f"no TLS within {deadline_s:g} s", Stage.TLS) from None
        except (OSError, RuntimeError) as error:  # uvloop: RuntimeError when the transport is closing
            plain.abort()
            raise ConnectError(f"no TLS: {error or type(error).__name__}", Stage.TLS) from error
        if made is None:
            raise ConnectError("no TLS: closed by the peer", Stage.TLS)
        self.transport = made
        if self.ended:
            made.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.ended:
            self.transport.abort()
        elif self.preamble:
            local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            self.write(header(self.preamble, local[1], peer[0], peer[1]))

    def data_received(self, data: bytes) -> None:
        self.arrived(data)

    def eof_received(self) -> bool:
        self.end("closed by the peer")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.end(f"connection lost: {error}" if error is not None else "closed by the peer")


async def open_link(link: Link, endpoint: Endpoint, context: ssl.SSLContext | None, name: str, deadline_s: float) -> None:
    """Connect ``link`` to ``endpoint``, with TLS at once where it is implicit.

    :param name: server name to announce in TLS ("" = none). :param deadline_s: seconds for TCP, and again for TLS.
    :raises ConnectError: no connection.
    """
    try:
        async with asyncio.timeout(deadline_s):
            await link.loop.create_connection(
                lambda: link, endpoint.host, endpoint.port, local_addr=(endpoint.source, 0) if endpoint.source else None
            )
    except TimeoutError:
        link.live = False
        raise ConnectError(f"{endpoint.host}:{endpoint.port}: no connection within {deadline_s:g} s", Stage.CONNECT) from None
    except OSError as error:
        link.live = False
        raise ConnectError(f"{endpoint.host}:{endpoint.port}: {error}", Stage.CONNECT) from error
    if endpoint.tls == "implicit":
        if context is None:
            link.end("no TLS context")
            raise ConnectError("TLS is wanted, but there is no TLS context", Stage.TLS)
        await link.wrap(context, name, deadline_s)
        if link.ended:
            raise ConnectError("closed by the peer right after the TLS handshake", Stage.TLS)
        link.live = True

"""A small DNS server on UDP and TCP, in a thread of its own: takes messages, asks an answerer, sends what it says.

Sources: RFC 1035 §4.2, RFC 7766 (several queries on one connection, answers in any order). Bounded in connections and queries in
work; what is above the bound is not answered, and counted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar, cast

from harness.errors import NotReady

T = TypeVar("T")

_PREFIX = struct.Struct("!H")
_CONNECTIONS_MAX = 1000
_WORKING_MAX = 10_000
_IDLE_S = 30.0
_START_S = 10.0
_RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Asked:
    """One message as it came. ``transport`` is ``udp`` or ``tcp``."""

    wire: bytes
    source: str
    port: int
    transport: str


class Nothing(Enum):
    """Endings other than an answer."""

    SILENCE = "silence"  #: no answer at all
    RESET = "reset"  #: the connection ends with a RST


class Answerer(Protocol):
    """What stands behind the sockets."""

    def admits(self, source: str) -> bool:
        """Whether a TCP connection from this address is kept; one that is not is reset before a byte is read."""

    async def answer(self, asked: Asked) -> bytes | Nothing:
        """The answer to one message. Must not raise: what it raises ends the server and is raised where it was started."""


class Server:
    """Serves from sockets that are bound already; lives in one event loop. ``overflow`` counts what was above the bounds."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.overflow = 0

    async def start(self, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> None:
        """Begin to serve."""
        loop = asyncio.get_running_loop()
        for one in udp:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=one)
            self._transports.append(transport)
        for one in tcp:
            self._servers.append(await asyncio.start_server(self._connected, sock=one))

    async def close(self) -> None:
        """Stop at once; what is in work is dropped."""
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.close()
        for writer in list(self._connections):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, asked: Asked, send: Callable[[bytes], None], reset: Callable[[], None]) -> None:
        """Work on one message beside the others."""
        if len(self._tasks) >= _WORKING_MAX:
            self.overflow += 1
            return
        self._spawn(self._work(asked, send, reset))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _work(self, asked: Asked, send: Callable[[bytes], None], reset: Callable[[], None]) -> None:
        reply = await self._answerer.answer(asked)
        if isinstance(reply, bytes):
            send(reply)
        elif reply is Nothing.RESET:
            reset()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source, port = writer.get_extra_info("peername")[:2]
        if len(self._connections) >= _CONNECTIONS_MAX or not self._answerer.admits(source):
            self.overflow += len(self._connections) >= _CONNECTIONS_MAX
            _reset(writer)
            return
        self._connections.add(writer)
        try:
            await self._converse(reader, writer, source, port)
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str, port: int) -> None:
        """Messages until the client ends, is idle for too long, or the connection breaks."""

        def send(reply: bytes) -> None:
            if not writer.is_closing():
                writer.write(_PREFIX.pack(len(reply)) + reply)

        with suppress(asyncio.IncompleteReadError, TimeoutError, OSError):
            while True:
                async with asyncio.timeout(_IDLE_S):
                    (length,) = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
                    wire = await reader.readexactly(length)
                self.take(Asked(wire, source, port, "tcp"), send, lambda: _reset(writer))


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a RST (socket(7), SO_LINGER with no time)."""
    made = writer.get_extra_info("socket")
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()


class _Udp(asyncio.DatagramProtocol):
    """Datagrams in, datagrams out."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transport = self._transport
        assert transport is not None
        self._server.take(Asked(data, addr[0], addr[1], "udp"), lambda reply: _send(transport, reply, addr), lambda: None)


def _send(transport: asyncio.DatagramTransport, reply: bytes, to: tuple[str, int]) -> None:
    if not transport.is_closing():
        transport.sendto(reply, to)


@contextmanager
def serving(answerer: Answerer, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> Iterator[None]:
    """Serve in a thread while the block runs. The sockets are closed at its end.

    :raises NotReady: it does not begin to serve. At the end of the block, whatever the answerer raised is raised.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dns server", daemon=True)
    thread.start()
    try:
        server = _await(loop, _started(answerer, udp, tcp))
        try:
            yield
        finally:
            _await(loop, server.close())
        if server.failed.done():
            server.failed.result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        for one in (*udp, *tcp):
            one.close()


async def _started(answerer: Answerer, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> Server:
    server = Server(answerer)
    await server.start(udp, tcp)
    return server


def _await(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_START_S)
    except TimeoutError as error:
        raise NotReady(f"the DNS server did not follow within {_START_S:.0f} s") from error

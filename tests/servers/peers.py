"""Scripted mail servers over real sockets: polite by default, and as bad at one step as a test wants."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CLOSE, RESET, SILENT, DRIP, ENDLESS, HALF = "close", "reset", "silent", "drip", "endless", "half"
Act = bytes | str
EHLO = b"250-peer.example\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
GOOD: Mapping[str, bytes] = {
    "BANNER": b"220 peer.example ESMTP\r\n", "EHLO": EHLO, "HELO": b"250 peer.example\r\n", "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n", "DATA": b"354 go\r\n", "DOT": b"250 2.0.0 Ok: queued as 4711\r\n", "RSET": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}  # fmt: skip


class Gone(Exception):
    """The script has cut the connection, or the client has."""


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[bytes] = field(default_factory=list)  #: command lines
    messages: list[bytes] = field(default_factory=list)

    async def line(self) -> bytes:
        """The next command line."""
        line = await self.reader.readline()
        if not line:
            raise Gone
        self.heard.append(line)
        return line

    async def message(self) -> bytes:
        """A message up to its dot."""
        text = b""
        while not (text == b".\r\n" or text.endswith(b"\r\n.\r\n")):
            piece = await self.reader.readline()
            if not piece:
                raise Gone
            text += piece
        self.messages.append(text)
        return text

    async def act(self, what: Act, good: bytes = b"") -> None:
        """Answer with octets, or misbehave."""
        if isinstance(what, bytes):
            self.writer.write(what)
            await self.writer.drain()
        else:
            bad = {CLOSE: self.close, RESET: self.reset, SILENT: self.silence, ENDLESS: self.endless, HALF: self.half}
            await bad.get(what, lambda: self.drip(good))()

    async def close(self) -> None:
        self.writer.close()
        raise Gone

    async def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()
        raise Gone

    async def silence(self) -> None:
        await self.reader.read(-1)
        raise Gone

    async def half(self) -> None:
        self.writer.write(b"250-x\r\n25")
        await self.silence()

    async def drip(self, octets: bytes) -> None:
        for index in range(len(octets)):
            self.writer.write(octets[index : index + 1])
            await self.writer.drain()
            await asyncio.sleep(0)

    async def endless(self) -> None:
        for _ in range(200_000):
            self.writer.write(b"250-and another thing\r\n" * 64)
            await self.writer.drain()
        raise Gone


@dataclass
class Server:
    """Where it listens, and every connection it had."""

    port: int
    peers: list[Peer] = field(default_factory=list)


@asynccontextmanager
async def serve(script: Callable[[Peer], Awaitable[None]], host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Run ``script`` for each connection."""
    server = Server(0)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        server.peers.append(peer)
        with suppress(Gone, ConnectionError, asyncio.CancelledError):
            await script(peer)
        writer.close()

    listener = await asyncio.start_server(connected, host, 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def smtp(bad: Mapping[str, Act | list[Act]] | None = None, *, lmtp: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """A polite SMTP server that answers as ``bad`` says at its steps. A list is used up one by one, its last entry again and again."""
    wanted = {k: list(v) if isinstance(v, list) else [v] for k, v in (bad or {}).items()}

    def take(step: str) -> Act:
        choices = wanted.get(step)
        if not choices:
            return GOOD[step]
        return choices.pop(0) if len(choices) > 1 else choices[0]

    async def script(peer: Peer) -> None:
        await peer.act(take("BANNER"), GOOD["BANNER"])
        taken = 0
        while True:
            verb = (await peer.line())[:4].upper().decode()
            step = "EHLO" if verb == "LHLO" else verb
            answer = take(step)
            if step == "MAIL":
                taken = 0
            await peer.act(answer, GOOD[step])
            if step == "RCPT" and isinstance(answer, bytes) and answer.startswith(b"2"):
                taken += 1
            if step == "QUIT":
                return
            if step == "DATA" and (answer == DRIP or (isinstance(answer, bytes) and answer.startswith(b"354"))):
                await peer.message()
                for _ in range(taken if lmtp else 1):
                    await peer.act(take("DOT"), GOOD["DOT"])

    return script

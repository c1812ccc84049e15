"""A real SMTP server on loopback that misbehaves on demand and remembers what it acknowledged. Runs in a thread of its own."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_TRACE = re.compile(rb"^X-Mailgale-Trace: (\S+)\r$", re.M)


@dataclass
class Behaviour:
    """What goes wrong. Each callable gets a running number (from 0) and returns a reply line, or "" to go on well.

    ``at_dot`` may also return ``cut`` (close without a reply after keeping the mail) or ``drop`` (close and forget it).
    """

    at_banner: Callable[[int], str] = lambda n: ""
    at_rcpt: Callable[[int, bytes], str] = lambda n, address: ""
    at_dot: Callable[[int, str], str] = lambda n, trace: ""
    frozen: Callable[[float], bool] = lambda seconds: False
    deliver: Callable[[str, bytes], object] = lambda address, octets: None
    extensions: tuple[str, ...] = ()  #: announced beside PIPELINING, 8BITMIME and SIZE


@dataclass
class Sink:
    """Use as a context manager; ``port`` is bound then."""

    behaviour: Behaviour = field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        self.acknowledged: list[str] = []  #: trace of each mail whose 250 was written
        self.acknowledged_ns: list[int] = []  #: when, for each of them
        self.kept: list[tuple[str, bytes]] = []  #: trace and octets of each mail that was kept, acknowledged or not
        self.recipients: list[tuple[str, str]] = []  #: (trace, address) acknowledged
        self.commands: list[str] = []  #: MAIL and RCPT as they came
        self.clients: list[str] = []  #: address of each connection's other end
        self.connections = self.rcpts = self.dots = 0
        self.begun = time.monotonic()
        self._melting: asyncio.Task[None] | None = None

    def __enter__(self) -> Sink:
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=2048, limit=4 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._dialogue(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        self.clients.append(writer.get_extra_info("peername")[0])
        await self._thaw()
        greeting = self.behaviour.at_banner(number)
        writer.write((greeting or "220 sink ESMTP").encode() + b"\r\n")
        if greeting:
            return
        rcpts: list[bytes] = []
        while line := await reader.readline():
            await self._thaw()
            verb = line[:4].upper()
            if verb in (b"MAIL", b"RCPT"):
                self.commands.append(line.decode().strip())
            if verb in (b"EHLO", b"LHLO"):
                more = b"".join(b"250-%b\r\n" % e.encode() for e in self.behaviour.extensions)
                writer.write(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n%b250 SIZE 0\r\n" % more)
            elif verb == b"RCPT":
                address = line[line.index(b"<") + 1 : line.index(b">")]
                refusal = self.behaviour.at_rcpt(self.rcpts, address)
                self.rcpts += 1
                writer.write((refusal or "250 2.1.5 ok").encode() + b"\r\n")
                if not refusal:
                    rcpts.append(address)
            elif verb == b"DATA" and not rcpts:
                writer.write(b"554 5.5.1 no valid recipients\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                await self._thaw()
                if not self._mail(data, rcpts, writer):
                    return
                rcpts = []
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                if verb in (b"MAIL", b"RSET"):
                    rcpts = []
                writer.write(b"250 2.0.0 ok\r\n")

    def _mail(self, data: bytes, rcpts: list[bytes], writer: asyncio.StreamWriter) -> bool:
        """False: close the connection."""
        found = _TRACE.search(data)
        trace = found[1].decode() if found else "?"
        act = self.behaviour.at_dot(self.dots, trace)
        self.dots += 1
        if act in ("cut", "drop"):
            if act == "cut":
                self.kept.append((trace, data[:-3]))
            return False
        writer.write((act or "250 2.0.0 queued").encode() + b"\r\n")
        if not act:
            self.kept.append((trace, data[:-3]))
            for address in rcpts:
                self.behaviour.deliver(address.decode(), data[:-3].replace(b"\r\n..", b"\r\n."))
            self.acknowledged.append(trace)
            self.acknowledged_ns.append(time.monotonic_ns())
            self.recipients += [(trace, r.decode()) for r in rcpts]
        return True

    async def _thaw(self) -> None:
        """Hold everybody while frozen; one of them looks at the clock for all."""
        if self._melting is None and self.behaviour.frozen(time.monotonic() - self.begun):
            self._melting = self._loop.create_task(self._melt())
        if self._melting is not None:
            await asyncio.shield(self._melting)

    async def _melt(self) -> None:
        while self.behaviour.frozen(time.monotonic() - self.begun):
            await asyncio.sleep(0.002)
        self._melting = None

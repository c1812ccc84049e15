"""A small mail platform on loopback that misbehaves as asked: SMTP in front, IMAP and POP3 behind, mailboxes in memory. Runs in a thread of its own.

It serves the self-test only: enough SMTP for the generator (RFC 5321 with PIPELINING), enough IMAP and POP3 for the load's users and the
census (``platform_boxes.py``). Limits: no TLS, any password, mailboxes INBOX and Junk, nothing survives its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType

from harness.selftest.platform_boxes import INBOX, Boxes, Forgetful

HANG, CUT = "hang", "cut"
#: (address, mailbox, octets) of every copy that is kept.
Copies = list[tuple[str, str, bytes]]
_UP_S = 10.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def _faithful(n: int, address: str, raw: bytes) -> Copies:
    return [(address, INBOX, raw)]


@dataclass(frozen=True)
class Behaviour:
    """What it does wrong; each callable gets a running number from 0.

    :param at_rcpt: the reply to RCPT, "" = 250, HANG = none at all.
    :param at_dot: the reply to the final dot, "" = 250, CUT = the connection ends without one. The mail is kept in either case.
    :param keep: what becomes of one mail for one recipient.
    :param boxes: what the mailboxes forget.
    """

    at_rcpt: Callable[[int], str] = lambda n: ""
    at_dot: Callable[[int], str] = lambda n: ""
    keep: Callable[[int, str, bytes], Copies] = _faithful
    boxes: Forgetful = field(default_factory=Forgetful)


@dataclass
class Platform:
    """Use as a context manager; ``smtp``, ``imap`` and ``pop3`` are its ports then."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    smtp: int = 0
    imap: int = 0
    pop3: int = 0

    def __post_init__(self) -> None:
        self.boxes = Boxes(self.behaviour.boxes)
        self._rcpts = self._dots = self._kept = 0
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Platform:
        self._thread.start()
        if not self._up.wait(_UP_S):
            raise TimeoutError("the platform on loopback did not come up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_UP_S)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        servers = [await asyncio.start_server(self._guarded(talk), "127.0.0.1", 0, backlog=512, limit=4 << 20) for talk in (self._smtp, self.boxes.imap, self.boxes.pop3)]
        self.smtp, self.imap, self.pop3 = (s.sockets[0].getsockname()[1] for s in servers)
        self._up.set()
        await self._end.wait()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _guarded(self, talk: Talk) -> Talk:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return
            finally:
                writer.close()

        return connected

    # -- SMTP -----------------------------------------------------------------------------------------------------
    async def _smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 platform ESMTP\r\n")
        rcpts: list[str] = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-platform\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"RCPT":
                await self._rcpt(line, rcpts, writer)
            elif verb == b"DATA":
                if not await self._data(reader, writer, rcpts):
                    return
                rcpts = []
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                rcpts = [] if verb in (b"MAIL", b"RSET") else rcpts
                writer.write(b"250 2.0.0 ok\r\n")

    async def _rcpt(self, line: bytes, rcpts: list[str], writer: asyncio.StreamWriter) -> None:
        reply, self._rcpts = self.behaviour.at_rcpt(self._rcpts), self._rcpts + 1
        if reply == HANG:
            await self._end.wait()
        if not reply:
            rcpts.append(line[line.index(b"<") + 1 : line.index(b">")].decode("ascii", "replace"))
        writer.write((reply or "250 2.1.5 ok").encode() + b"\r\n")

    async def _data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rcpts: list[str]) -> bool:
        """False: close the connection."""
        if not rcpts:
            writer.write(b"554 5.5.1 no valid recipients\r\n")
            return True
        writer.write(b"354 go on\r\n")
        raw = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
        reply, self._dots = self.behaviour.at_dot(self._dots), self._dots + 1
        for address in rcpts:
            for owner, name, octets in self.behaviour.keep(self._kept, address, raw):
                self.boxes.keep(owner, name, octets)
            self._kept += 1
        if reply != CUT:
            writer.write((reply or "250 2.0.0 queued").encode() + b"\r\n")
        return reply != CUT

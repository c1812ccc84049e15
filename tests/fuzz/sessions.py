"""One client session against a server on loopback that says what an input says: its chunks (cut at RS, 0x1e), one after each thing that the
client writes, then the end of the connection. The loop and the listening socket are kept from input to input.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from harness.mail.imap import ImapClient
from harness.mail.link import Endpoint, Refused
from harness.mail.pop3 import PopClient
from harness.mail.smtp import SessionOptions
from tests.unit.mail.drive import deliver, mail

RS = b"\x1e"
STEP_S = 0.3
#: How long the server waits for the client to say something before it goes on.
HEARD_S = 0.004
LATE_S = 1.0
Session = Callable[[int], Coroutine[Any, Any, None]]


class Table:
    """A loop, a listening socket and what the next connection is answered with."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.broken.append(context))
        self.broken: list[dict[str, Any]] = []
        self.chunks: list[bytes] = []
        self.server = self.loop.run_until_complete(asyncio.start_server(self._play, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            for chunk in self.chunks:
                writer.write(chunk)
                await writer.drain()
                with suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1 << 16), HEARD_S):
                        break
        writer.close()

    def run(self, data: bytes, session: Session) -> None:
        """Play ``data`` to ``session``: it ends in time, and nothing raises in a callback."""
        self.chunks, self.broken = data.split(RS)[:200], []
        begin = time.monotonic()
        with suppress(OSError, Refused):
            self.loop.run_until_complete(asyncio.wait_for(session(self.port), 20))
        took = time.monotonic() - begin
        self.loop.run_until_complete(asyncio.sleep(0))
        assert not self.broken, self.broken
        assert took < 3 * STEP_S + HEARD_S * len(self.chunks) + LATE_S, f"took {took:.1f} s"

    def close(self) -> None:
        """Give everything back."""
        self.server.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


_TABLES: list[Table] = []


def table() -> Table:
    """The one table of this process."""
    if not _TABLES:
        _TABLES.append(Table())
    return _TABLES[0]


async def imap(port: int) -> None:
    """What users and watchers do, in a row."""
    client = await ImapClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), connect_s=STEP_S, step_s=STEP_S)
    try:
        for step in (
            lambda: client.login("user1@example.org", "pass word"), lambda: client.select("INBOX"), lambda: client.search("UID 1:*", uid=True),
            lambda: client.fetch("1:*", "(UID FLAGS BODY.PEEK[])", uid=True), lambda: client.store("1", "+FLAGS", ["\\Seen"], uid=True),
            lambda: client.append("Sent", b"Subject: x\r\n\r\nx\r\n"), client.expunge, lambda: client.idle(0.001), client.logout,
        ):
            with suppress(Refused):
                await step()
    finally:
        client.abort()


async def pop3(port: int) -> None:
    """A poll that deletes."""
    client = await PopClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), connect_s=STEP_S, step_s=STEP_S)
    try:
        for step in (
            lambda: client.login("user1", "pass"), client.stat, client.uidl, client.sizes, lambda: client.retr_all([1, 2]), lambda: client.dele(1),
            client.quit,
        ):
            with suppress(Refused):
                await step()
    finally:
        client.abort()


def smtp(choice: int) -> Session:
    """Two mails on one session, ``choice`` (0 … 255) of ways to send them: every mail ends once, with a result for each recipient or none begun."""

    async def session(port: int) -> None:
        options = SessionOptions(hello="client.example", connect_s=STEP_S, step_s=STEP_S, dot_s=STEP_S, lmtp=bool(choice & 4))
        way = ("start", "pull", "connect", "start")[choice & 3]
        mails = [mail("b@example.org", "c@example.org"), mail("d@example.org")]
        seen = (await deliver(port, mails, options, ahead=bool(choice & 8), way=way)).seen
        ended = [id(envelope) for envelope, _, _ in seen.results] + [id(envelope) for envelope in seen.refused]
        assert len(ended) == len(set(ended)), "a mail ended twice"
        assert all(len(results) == len(envelope.recipients) for envelope, results, _ in seen.results), "a recipient without a result"
        assert len(seen.started) <= len(seen.results), "a mail begun and never ended"

    return session

"""POP3 client: USER/PASS, STLS, STAT, UIDL, LIST, RETR, DELE, QUIT, several commands in one write where the server pipelines.

Sources: RFC 1939, 2449 (CAPA, PIPELINING), 2595 (STLS). Deletions take effect only when QUIT is answered with +OK: until then a
lost connection leaves every message where it was. Raises as :mod:`harness.mail.imap` does.

Limits: no AUTH, APOP or TOP; a line has at most 64 KiB, an answer 16 MiB (pipelined ones together), a list 100,000 lines.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from harness.mail.asking import Asking, Closed, Refused
from harness.mail.link import Endpoint, open_link
from harness.mail.wire import Garbage, LineReader

__all__ = ["Closed", "PopClient", "Refused"]

LINE_OCTETS_MAX = 65536
ANSWER_OCTETS_MAX = 16 << 20
TABLE_LINES_MAX = 100_000
PIPELINED_MAX = 4  #: commands in one write; their answers together count as one


class PopClient(Asking):
    """One connection; made by :meth:`open`."""

    __slots__ = ("_answers", "_left", "_long", "_octets", "_reader", "_status", "_text", "capabilities")

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, step_s: float) -> None:
        super().__init__(loop, endpoint, step_s)
        self._reader = LineReader(LINE_OCTETS_MAX)
        self._answers: list[tuple[bytes, bytes]] = []  #: of the commands on their way: status line, text
        self._text = bytearray()
        self._status: bytes | None = None  #: a multi-line answer is being read
        self._left, self._octets, self._long = 0, 0, False
        self.capabilities: frozenset[str] = frozenset()

    @classmethod
    async def open(
        cls, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, *, tls_context: ssl.SSLContext | None = None,
        connect_s: float = 30.0, step_s: float = 60.0,
    ) -> PopClient:
        """Connect, read the greeting, STLS where the endpoint says so, ask for the capabilities.

        :raises OSError: no connection (ConnectError), or lost since (Closed). :raises Refused: the server greets with -ERR.
        """
        client = cls(loop, endpoint, step_s)
        await open_link(client, endpoint, tls_context, "", connect_s)
        try:
            await client._ask("the greeting", [b""])
            if endpoint.tls == "starttls":
                await client._ask("STLS", [b"STLS\r\n"])
                if client._reader.inside:
                    client.end("octets in clear behind the answer to STLS")
                await client.secured(tls_context, "", connect_s)
            await client._learn()
        except BaseException:
            client.abort()
            raise
        return client

    async def login(self, user: str, password: str) -> None:
        """USER and PASS."""
        await self._one("USER", user)
        await self._one("PASS", password)

    async def stat(self) -> tuple[int, int]:
        """Messages and octets."""
        words = (await self._one("STAT")).split()
        if len(words) < 2 or not all(w.isdigit() and len(w) <= 19 for w in words[:2]):
            self.end(f"not an answer to STAT: {words[:4]!r}")
            raise Closed(self.reason)
        return int(words[0]), int(words[1])

    async def uidl(self) -> dict[int, str]:
        """Message number → unique ID."""
        return {number: word.decode("ascii", "replace") for number, word in await self._table("UIDL")}

    async def sizes(self) -> dict[int, int]:
        """LIST: message number → octets."""
        return {number: int(word) for number, word in await self._table("LIST") if word.isdigit() and len(word) <= 19}

    async def retr(self, number: int) -> bytes:
        """One message, dots unstuffed, lines ending with CRLF."""
        return (await self.retr_all([number]))[0]

    async def retr_all(self, numbers: Sequence[int]) -> list[bytes]:
        """Several messages, pipelined where the server announces it.

        :raises Refused: a message is not there; the others of its write are lost with it.
        """
        answers = await self._many("RETR", numbers, long=True)
        return [text for _, text in answers]

    async def dele(self, *numbers: int) -> None:
        """Mark messages for deletion at QUIT."""
        await self._many("DELE", numbers, long=False)

    async def noop(self) -> None:
        """NOOP."""
        await self._one("NOOP")

    async def quit(self) -> None:
        """QUIT: when this returns, the deletions have taken effect.

        :raises Refused: some messages were not removed. :raises Closed: no +OK: unknown.
        """
        await self._one("QUIT")
        self.end("quit")

    async def _learn(self) -> None:
        """Ask for capabilities; a server without CAPA has none."""
        try:
            _, text = (await self._ask("CAPA", [b"CAPA\r\n"], long=True))[0]
        except Refused:
            return
        self.capabilities = frozenset(line.decode("ascii", "replace").upper() for line in text.splitlines()[:200])

    async def _one(self, verb: str, argument: str = "") -> bytes:
        line = f"{verb} {argument}" if argument else verb
        if "\r" in line or "\n" in line:
            raise ValueError("CR or LF in a POP3 command")
        return (await self._ask(verb, [line.encode() + b"\r\n"]))[0][0]

    async def _table(self, verb: str) -> list[tuple[int, bytes]]:
        _, text = (await self._ask(verb, [verb.encode() + b"\r\n"], long=True))[0]
        if text.count(b"\n") > TABLE_LINES_MAX:
            self.end(f"an answer to {verb} of more than {TABLE_LINES_MAX} lines")
            raise Closed(self.reason)
        pairs = [line.split(None, 1) for line in text.splitlines()]
        return [(int(p[0]), p[1]) for p in pairs if len(p) == 2 and p[0].isdigit() and len(p[0]) <= 10]

    async def _many(self, verb: str, numbers: Sequence[int], long: bool) -> list[tuple[bytes, bytes]]:
        step = PIPELINED_MAX if "PIPELINING" in self.capabilities else 1
        answers: list[tuple[bytes, bytes]] = []
        for start in range(0, len(numbers), step):
            commands = [f"{verb} {number}\r\n".encode() for number in numbers[start : start + step]]
            answers += await self._ask(verb, commands, long=long)
        return answers

    async def _ask(self, asked: str, commands: list[bytes], *, long: bool = False) -> list[tuple[bytes, bytes]]:
        """Send commands at once; their answers.

        :raises Refused: any of them was answered with -ERR.
        """
        self._answers, self._text, self._octets = [], bytearray(), 0
        self._left, self._long, self._status = len(commands), long, None
        try:
            await self.answer(asked, b"".join(commands))
            answers = self._answers
        finally:
            self._answers, self._text = [], bytearray()
        for status, _ in answers:
            if not status.upper().startswith(b"+OK"):
                raise Refused("-ERR", status[5:][:500].decode("utf-8", "backslashreplace"))
        return [(status[4:], text) for status, text in answers]

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        if self.late() or self.early(data):
            return
        try:
            for line in self._reader.feed(data):
                if self.ended:
                    return
                self._line(line)
        except Garbage as garbage:
            self.end(str(garbage))

    def _line(self, line: bytes) -> None:
        if self._status is not None:
            return self._inner(line)
        if not self.asked or not self._left:
            raise Garbage(f"an answer that nobody asked for: {line[:80]!r}")
        good = line[:3].upper() == b"+OK" and line[3:4] in (b"", b" ")
        if not good and not (line[:4].upper() == b"-ERR" and line[4:5] in (b"", b" ")):
            raise Garbage(f"not a POP3 answer: {line[:80]!r}")
        if good and self._long:
            self._status = line
            return None
        return self._answered(line)

    def _inner(self, line: bytes) -> None:
        if line == b".":
            status, self._status = self._status or b"", None
            return self._answered(status)
        self._octets += len(line) + 2
        if self._octets > ANSWER_OCTETS_MAX:
            raise Garbage(f"an answer of more than {ANSWER_OCTETS_MAX} octets")
        self._text += line[1:] if line.startswith(b".") else line
        self._text += b"\r\n"
        return None

    def _answered(self, status: bytes) -> None:
        self._answers.append((status, bytes(self._text)))
        self._text.clear()
        self._left -= 1
        if not self._left:
            self.resolve(None)

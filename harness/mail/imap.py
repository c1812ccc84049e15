"""IMAP4rev1 client: LOGIN, AUTHENTICATE, SELECT, CREATE, FETCH, SEARCH, APPEND, STORE, MOVE, EXPUNGE, IDLE.

Sources: RFC 3501, 2177 (IDLE), 7888 (LITERAL+), 6851 (MOVE), 4315 (UIDPLUS), 4959 (SASL-IR). One command at a time. Every coroutine
raises :class:`Closed` as soon as the connection is over and :class:`Refused` for NO and BAD. What the server pushes, in IDLE or
between, goes to ``on_push`` at once.

Limits: no CONDSTORE, COMPRESS, ENABLE; a response has at most 256 KiB of text and 16 MiB of literals, an answer 24 MiB;
flags are remembered for the first 2,000 messages of the selected mailbox.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Callable, Sequence

from harness.mail.asking import Asking, Closed, Refused
from harness.mail.imap_box import NUMBERED, Appended, Fetched, Mailbox, fetched, usual
from harness.mail.imap_syntax import mailbox, string, words
from harness.mail.link import Endpoint, open_link
from harness.mail.wire import Garbage, ResponseReader

__all__ = ["Appended", "Closed", "Fetched", "ImapClient", "Mailbox", "Refused"]

ANSWER_OCTETS_MAX = 24 << 20
_CODE = re.compile(rb"\[([A-Z0-9-]+)(?: ([^\]]*))?\]", re.IGNORECASE)
Push = Callable[[str, int], None]


class ImapClient(Asking):
    """One connection; see the module. Made by :meth:`open`."""

    __slots__ = ("_code", "_heard", "_lines", "_octets", "_reader", "_tag", "_unsent", "box", "bye", "capabilities", "on_push")

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, step_s: float) -> None:
        super().__init__(loop, endpoint, step_s)
        self._reader = ResponseReader(256 << 10, 16 << 20)
        self._tag, self._octets, self._code = 0, 0, b""
        self._lines: list[list[bytes]] = []  #: untagged responses of the command on its way, but for FETCH
        self._heard: list[Fetched] = []  #: FETCH responses of the command on its way, or of the last one
        self._unsent: list[bytes] = []  #: what waits for "+"
        self.capabilities: frozenset[str] = frozenset()
        self.box: Mailbox | None = None
        self.bye = ""
        self.on_push: Push | None = None
        self.awaits("the greeting")

    @classmethod
    async def open(
        cls, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, *, tls_context: ssl.SSLContext | None = None,
        connect_s: float = 30.0, step_s: float = 60.0,
    ) -> ImapClient:
        """Connect, read the greeting, STARTTLS where the endpoint says so.

        :raises OSError: no connection (ConnectError), or lost since (Closed). :raises Refused: the server greets with BYE.
        """
        client = cls(loop, endpoint, step_s)
        await open_link(client, endpoint, tls_context, "", connect_s)
        try:
            await client._greeting()
            if endpoint.tls == "starttls":
                await client._command(b"STARTTLS")
                if client._reader.inside:
                    client.end("octets in clear behind the answer to STARTTLS")
                await client.secured(tls_context, "", connect_s)
                client.capabilities = frozenset()
            if not client.capabilities:
                await client._command(b"CAPABILITY")
        except BaseException:
            client.abort()
            raise
        return client

    # commands

    async def login(self, user: str, password: str) -> None:
        """LOGIN."""
        await self._command(b"LOGIN", user.encode(), password.encode())
        await self._capable()

    async def authenticate(self, mechanism: str, user: str, secret: str) -> None:
        """AUTHENTICATE PLAIN or XOAUTH2 (``secret`` is then the token).

        :raises ValueError: another mechanism.
        """
        words = {"PLAIN": f"\0{user}\0{secret}", "XOAUTH2": f"user={user}\x01auth=Bearer {secret}\x01\x01"}
        if mechanism not in words:
            raise ValueError(f"AUTHENTICATE {mechanism} is not supported here")
        response, verb = base64.b64encode(words[mechanism].encode()), b"AUTHENTICATE " + mechanism.encode()
        if "SASL-IR" in self.capabilities:
            self._unsent = [b"\r\n"]
            await self._send(verb + b" " + response + b"\r\n")
        else:
            self._unsent = [response + b"\r\n", b"\r\n"]
            await self._send(verb + b"\r\n")
        await self._capable()

    async def select(self, name: str, read_only: bool = False) -> Mailbox:
        """SELECT or EXAMINE."""
        self.box = box = Mailbox(name)
        try:
            await self._command((b"EXAMINE " if read_only else b"SELECT ") + mailbox(name))
        except Refused:
            self.box = None
            raise
        box.read_only = self._code.upper().startswith(b"[READ-ONLY]")
        return box

    async def fetch(self, numbers: str, items: str, *, uid: bool = False, seconds: float | None = None) -> list[Fetched]:
        """FETCH or UID FETCH, e.g. ``fetch("1:*", "(UID BODY.PEEK[])")``."""
        await self._command(_uid(uid) + f"FETCH {numbers} {items}".encode(), seconds=seconds)
        return self._heard

    async def search(self, criteria: str, *, uid: bool = False) -> list[int]:
        """SEARCH or UID SEARCH with criteria in ASCII as in RFC 3501 section 6.4.4."""
        lines = await self._command(_uid(uid) + f"SEARCH {criteria}".encode())
        found = [line[0][9:].split() for line in lines if line[0][:8].upper() == b"* SEARCH"]
        return [int(n) for numbers in found for n in numbers if n.isdigit() and len(n) <= 10]

    async def store(self, numbers: str, change: str, flags: Sequence[str], *, uid: bool = False) -> list[Fetched]:
        """STORE. :param change: ``+FLAGS``, ``-FLAGS``, ``FLAGS``, each also with ``.SILENT``."""
        await self._command(_uid(uid) + f"STORE {numbers} {change} ({' '.join(flags)})".encode())
        return self._heard

    async def move(self, numbers: str, name: str, *, uid: bool = False) -> None:
        """MOVE (RFC 6851).

        :raises Refused: also when the server does not announce it.
        """
        if "MOVE" not in self.capabilities:
            raise Refused("NO", "the server does not announce MOVE")
        await self._command(_uid(uid) + f"MOVE {numbers} ".encode() + mailbox(name))

    async def create(self, name: str) -> None:
        """CREATE. :raises Refused: also when it is there already."""
        await self._command(b"CREATE " + mailbox(name))

    async def expunge(self, uids: str = "") -> list[int]:
        """EXPUNGE: the sequence numbers as the server gave them, one after the other.

        :param uids: only these, where the server announces UIDPLUS (RFC 4315); elsewhere all that is marked goes.
        """
        lines = await self._command(f"UID EXPUNGE {uids}".encode() if uids and "UIDPLUS" in self.capabilities else b"EXPUNGE")
        found = [NUMBERED.match(line[0], 2) for line in lines]
        return [int(m[1]) for m in found if m is not None and m[2] == b"EXPUNGE"]

    async def append(self, name: str, message: bytes, flags: Sequence[str] = (), *, seconds: float | None = None) -> Appended:
        """APPEND, with LITERAL+ where announced."""
        head = b"APPEND " + mailbox(name) + (f" ({' '.join(flags)})".encode() if flags else b"")
        await self._command(head, literal=message, seconds=seconds)
        match = re.match(rb"\[APPENDUID (\d{1,10}) (\d{1,10})\]", self._code, re.IGNORECASE)
        return Appended(int(match[1]), int(match[2])) if match else Appended(0, 0)

    async def noop(self) -> None:
        """NOOP: hear what is new."""
        await self._command(b"NOOP")

    async def idle_start(self, on_push: Push | None = None) -> None:
        """IDLE until :meth:`idle_done`; ``on_push("EXISTS", 3)`` and the like come at once.

        :raises Refused: also when the server does not announce IDLE.
        """
        if "IDLE" not in self.capabilities:
            raise Refused("NO", "the server does not announce IDLE")
        self.on_push = on_push or self.on_push
        self._tag += 1
        self._unsent = []
        await self.answer("IDLE", b"A%d IDLE\r\n" % self._tag)

    async def idle_done(self) -> None:
        """End IDLE."""
        await self.answer("DONE", b"DONE\r\n")
        self._lines, self._octets = [], 0

    async def idle(self, seconds: float, on_push: Push | None = None) -> None:
        """IDLE for ``seconds``. :raises Closed: at once when the connection is lost."""
        await self.idle_start(on_push)
        try:
            await self._quiet(seconds)
        except BaseException:
            self.end("IDLE was given up")
            raise
        await self.idle_done()

    async def logout(self) -> None:
        """LOGOUT, then close. :raises Closed: the server went away without its OK."""
        await self._command(b"LOGOUT")
        self.end("logout")

    # dialogue

    async def _quiet(self, seconds: float) -> None:
        """Wait, but no longer than the connection lives."""
        over = self.loop.create_future()
        timer = self.loop.call_later(seconds, over.set_result, None)
        before, self.on_closed = self.on_closed, lambda reason: None if over.done() else over.set_exception(Closed(reason))
        try:
            if self.ended:
                raise Closed(self.reason)
            await over
        finally:
            timer.cancel()
            self.on_closed = before
            if self.ended and before is not None:
                before(self.reason)

    async def _greeting(self) -> None:
        await self.answer("the greeting")
        self._lines, self._octets = [], 0

    async def _capable(self) -> None:
        """Ask for the capabilities anew, unless the answer to the login named them."""
        if not self._code.upper().startswith(b"[CAPABILITY"):
            await self._command(b"CAPABILITY")

    async def _command(self, verb: bytes, *strings: bytes, literal: bytes | None = None, seconds: float | None = None) -> list[list[bytes]]:
        """Send a command; its untagged responses. Strings that cannot be quoted, and ``literal``, go out as literals."""
        if b"\r" in verb or b"\n" in verb:
            raise ValueError("CR or LF in an IMAP command")
        plus = b"+" if {"LITERAL+", "LITERAL-"} & self.capabilities else b""
        pieces = [verb]
        for value in (*strings, *([literal] if literal is not None else [])):
            quoted = None if value is literal else string(value)
            if quoted is not None:
                pieces[-1] += b" " + quoted
                continue
            short = plus if "LITERAL+" in self.capabilities or len(value) <= 4096 else b""
            pieces[-1] += b" {%d%b}\r\n" % (len(value), short)
            if short:
                pieces[-1] += value
            else:
                pieces.append(value)
        pieces[-1] += b"\r\n"
        self._unsent = pieces[1:]
        return await self._send(pieces[0], seconds)

    async def _send(self, octets: bytes, seconds: float | None = None) -> list[list[bytes]]:
        self._tag += 1
        self._lines, self._heard, self._octets, self._code = [], [], 0, b""
        asked = octets.split(None, 2)
        name = b" ".join(asked[:2]) if asked[0] == b"UID" else asked[0]
        try:
            await self.answer(name.decode("ascii", "replace"), b"A%d " % self._tag + octets, seconds)
            return self._lines
        finally:
            self._lines, self._unsent = [], []

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        if self.late():
            return
        try:
            for parts in self._reader.feed(data):
                if self.ended:
                    return
                self._response(parts)
        except Garbage as garbage:
            self.end(str(garbage))

    def _response(self, parts: list[bytes]) -> None:
        line = parts[0]
        heard = usual(parts)
        if heard is not None:
            self._fetch(heard, parts)
        elif line.startswith(b"* "):
            self._untagged(parts)
        elif line.startswith(b"+"):
            self._go_ahead()
        elif self._tag and line.startswith(b"A%d " % self._tag):
            self._tagged(line[line.index(b" ") + 1 :])
        else:
            self.end(f"not an answer to anything asked: {line[:80]!r}")

    def _go_ahead(self) -> None:
        if not self.asked:
            self.end("a continuation that nobody asked for")
        elif self._unsent:
            self.write(self._unsent.pop(0))
        elif self._asked == "IDLE":
            self.resolve(None)
        else:
            self.end(f"a continuation that {self._asked} does not want")

    def _tagged(self, rest: bytes) -> None:
        word, _, text = rest.partition(b" ")
        if not self.asked:
            return self.end(f"an answer that nobody asked for: {rest[:80]!r}")
        self._heed(text)
        if word.upper() == b"OK":
            self._code = text
            return self.resolve(None)
        return self.refuse(Refused(word[:20].decode("ascii", "replace"), text[:500].decode("utf-8", "backslashreplace")))

    def _fetch(self, heard: Fetched, parts: list[bytes]) -> None:
        if self.box is not None and "FLAGS" in heard.items:
            self.box.flagged(heard.number, heard.items["FLAGS"])
        if self.on_push is not None:
            self.on_push("FETCH", heard.number)
        if self.asked:
            self._account(parts)
            self._heard.append(heard)

    def _untagged(self, parts: list[bytes]) -> None:
        line = parts[0]
        numbered = NUMBERED.match(line, 2)
        if numbered is not None and numbered[2] == b"FETCH":
            heard = fetched(parts)
            return self._fetch(heard, parts) if heard is not None else None
        if numbered is not None:
            self._counted(numbered[2], int(numbered[1]))
        else:
            self._status(line[2:])
        if self.asked:
            self._account(parts)
            self._lines.append(parts)
        return None

    def _account(self, parts: list[bytes]) -> None:
        self._octets += sum(map(len, parts)) + 128
        if self._octets > ANSWER_OCTETS_MAX:
            raise Garbage(f"an answer of more than {ANSWER_OCTETS_MAX} octets")

    def _status(self, line: bytes) -> None:
        word, _, text = line.partition(b" ")
        word = word.upper()
        if word == b"CAPABILITY":
            self.capabilities = words(text)
        elif word in (b"OK", b"PREAUTH", b"BYE", b"NO", b"BAD"):
            self._heed(text)
            if word == b"BYE":
                self.bye = text[:200].decode("utf-8", "backslashreplace")
            if self._asked == "the greeting" and self._tag == 0:
                self._greeted(word, text)

    def _greeted(self, word: bytes, text: bytes) -> None:
        if word in (b"OK", b"PREAUTH"):
            self.resolve(None)
        else:
            self.refuse(Refused(word.decode(), text[:200].decode("utf-8", "backslashreplace")))

    def _heed(self, text: bytes) -> None:
        """A response code in brackets, where it changes what is known."""
        match = _CODE.match(text)
        if match is None:
            return
        name, value = match[1].upper(), match[2] or b""
        if name == b"CAPABILITY":
            self.capabilities = words(value)
        elif self.box is not None and value.isdigit() and len(value) <= 10:
            if name == b"UIDVALIDITY":
                self.box.uidvalidity = int(value)
            elif name == b"UIDNEXT":
                self.box.uidnext = int(value)

    def _counted(self, word: bytes, number: int) -> None:
        if self.box is not None:
            if word == b"EXISTS":
                self.box.exists = number
            elif word == b"RECENT":
                self.box.recent = number
            elif word == b"EXPUNGE":
                self.box.expunged(number)
        if self.on_push is not None:
            self.on_push(word.decode(), number)

    def gone(self, reason: str) -> None:
        """The server's BYE says more than the end of its connection."""
        super().gone(f"{reason} (BYE {self.bye})" if self.bye and reason != "logout" else reason)


def _uid(uid: bool) -> bytes:
    return b"UID " if uid else b""

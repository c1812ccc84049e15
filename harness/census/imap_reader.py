"""Every mailbox of every user, read over IMAP with aioimaplib.

aioimaplib is GPL-3.0-only and is imported in this module alone. Its traps, and what is done about them:
it does not notice a lost connection (every await here has a deadline of its own, and the loss callback cancels the session);
it parses line by line by recursion (UIDs come from one SEARCH line, bodies in small chunks); it sends arguments unquoted (names are
quoted here). Message bodies arrive as ``bytearray``, everything else as ``bytes``.

A message never changes under its UID and UIDVALIDITY (RFC 9051 section 2.3.1.1), so a second round reads what is new and
confirms the rest by UID; what a survey before the load saw is not read at all. Messages are fetched with ``BODY.PEEK``: no flag changes. Nothing is ever expunged.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aioimaplib import aioimaplib

from harness.census.canonical import Seen, examine
from harness.census.found import Copy, Scope
from harness.census.spec import CensusSpec

T = TypeVar("T")
CHUNK = 20
TRIES = 3
_LIST = re.compile(rb'^(?:LIST )?\((?P<flags>[^)]*)\) (?:"(?:[^"\\]|\\.)"|NIL) (?P<name>.+)$')
_NOT_READ = frozenset({b"\\noselect", b"\\nonexistent", b"\\all", b"\\flagged"})
_FETCH = re.compile(rb"^\d+ FETCH \((?:.* )?UID (\d+)")
_UID_BEHIND = re.compile(rb"^ UID (\d+)")
_VALIDITY = re.compile(rb"UIDVALIDITY (\d+)")
_NEXT = re.compile(rb"UIDNEXT (\d+)")
_EXISTS = re.compile(rb"^(\d+) EXISTS")


class ReadFailed(Exception):
    """One session came to nothing; it is tried again, then reported as a scope that was not read."""


@dataclass
class Memory:
    """What earlier rounds read: (mailbox, UIDVALIDITY, UID) → what it was.

    :param before: mailbox → (UIDVALIDITY, UIDNEXT) before the load.
    :param survey: nothing is read; each scope's detail says UIDVALIDITY and UIDNEXT.
    """

    seen: dict[tuple[str, int, int], Seen] = field(default_factory=dict)
    before: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    survey: bool = False


async def read_all(spec: CensusSpec, memory: Memory, on_scope: Callable[[Scope], None]) -> None:
    """Read every mailbox of every user; each ends as one scope, read or not.

    :param memory: kept between rounds.
    :param on_scope: called with each scope as it is done.
    """
    assert spec.imap is not None
    context = tls_context(spec) if spec.imap.encrypted else None
    loop = asyncio.get_running_loop()
    end, gate = loop.time() + spec.deadline_s, asyncio.Semaphore(max(1, spec.connections))

    async def one(address: str) -> None:
        async with gate:
            for scope in await _with_tries(spec, address, context, memory, end):
                on_scope(scope)

    await asyncio.gather(*(one(a) for a in spec.addresses))


def tls_context(spec: CensusSpec) -> ssl.SSLContext:
    """One context for all sessions (making one costs 33 ms). The chain is verified, the name is not (see CensusSpec)."""
    context = ssl.create_default_context(cadata=spec.ca_pem or None)
    context.check_hostname = False
    if not spec.verify:
        context.verify_mode = ssl.CERT_NONE
    return context


async def _with_tries(
    spec: CensusSpec, address: str, context: ssl.SSLContext | None, memory: Memory, end: float
) -> list[Scope]:
    loop, why = asyncio.get_running_loop(), "no time was left"
    for attempt in range(TRIES):
        left = end - loop.time()
        if left <= 0:
            break
        share = left if attempt == TRIES - 1 else max(left / 2, min(left, 15.0))
        try:
            return await asyncio.wait_for(_Session(spec, address, context, memory, share).read(), share)
        except TimeoutError:
            why = f"no end within {share:.0f} s"
        except (ReadFailed, OSError, aioimaplib.AioImapException) as error:
            why = str(error) or type(error).__name__
    return [Scope("mailbox", f"{address}/*").fail(why)]


class _Session:
    """One connection of one user."""

    def __init__(self, spec: CensusSpec, address: str, context: ssl.SSLContext | None, memory: Memory, timeout_s: float) -> None:
        self.spec, self.address, self.memory = spec, address, memory
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert spec.imap is not None
        self.starttls = context if spec.imap.starttls else None
        self.client = aioimaplib.IMAP4(
            spec.imap.host, spec.imap.port, timeout=timeout_s, conn_lost_cb=self._on_lost,
            ssl_context=None if spec.imap.starttls else context,
        )

    def _on_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def _or_lost(self, work: Awaitable[T]) -> T:
        """The result of ``work``, or ReadFailed as soon as the connection is gone."""
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self.lost}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        if task.done() and not task.cancelled():
            return task.result()
        raise ReadFailed("the server closed the connection")

    async def _ok(self, work: Awaitable[Any], what: str) -> list[bytes | bytearray]:
        response = await self._or_lost(work)
        if response.result != "OK":
            last = bytes(response.lines[-1]).decode("utf-8", "replace") if response.lines else ""
            raise ReadFailed(f"{what}: {response.result} {last}")
        return list(response.lines)

    async def read(self) -> list[Scope]:
        try:
            await self._or_lost(self.client.wait_hello_from_server())
            if self.starttls is not None:
                await self._or_lost(self._start_tls(self.starttls))
            await self._ok(self.client.login(self.address, self.spec.passwords[self.address]), "LOGIN")
            scopes = [await self._mailbox(n) for n in names(await self._ok(self.client.list('""', '"*"'), "LIST"))]
            await self._goodbye()
            return scopes
        finally:
            if self.client.protocol.transport is not None:
                self.client.protocol.transport.abort()

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """RFC 9051 section 6.2.1. The library knows the command only: the layer is put below it here."""
        protocol, loop = self.client.protocol, asyncio.get_running_loop()
        response = await protocol.execute(aioimaplib.Command("STARTTLS", protocol.new_tag(), loop=loop))
        if response.result != "OK":
            raise ReadFailed(f"STARTTLS: {response.result}")
        protocol.transport = await loop.start_tls(protocol.transport, protocol, context)

    async def _goodbye(self) -> None:
        try:
            await asyncio.wait_for(self._or_lost(self.client.logout()), 5)
        except (TimeoutError, ReadFailed, aioimaplib.AioImapException):
            return  # everything was read; how the server says goodbye does not matter

    async def _mailbox(self, name: str) -> Scope:
        source = "quarantine" if name in self.spec.quarantine else "mailbox"
        scope = Scope(source, f"{self.address}/{name}")
        lines = await self._ok(self.client.select(_quoted(name)), f"SELECT {name}")
        validity, exists = _first(_VALIDITY, lines), _first(_EXISTS, lines)
        scope.detail = {"uidvalidity": validity}
        if self.memory.survey:
            scope.detail["uidnext"] = _first(_NEXT, lines)
            return scope
        first = self._first_new(scope, validity)
        wanted = f"UID {first}:*" if first else "ALL"
        listed = uids_of(await self._ok(self.client.protocol.search(wanted, by_uid=True, charset=None), "SEARCH"))
        uids = [u for u in listed if u >= first]  # a range up to * always holds the last message
        new = [u for u in uids if (scope.where, validity, u) not in self.memory.seen]
        for at in range(0, len(new), CHUNK):
            await self._fetch(scope, validity, new[at : at + CHUNK])
        flags = await self._flags(uids)
        self._collect(scope, validity, uids, 0 if first else exists, flags)
        return scope

    async def _flags(self, uids: Sequence[int]) -> dict[int, tuple[str, ...]] | None:
        """UID → flags of the spec that it has; asked anew in each round, since flags do change. None when the spec asks for none."""
        if not self.spec.flags:
            return None
        having = {}
        for flag in self.spec.flags:
            lines = await self._ok(self.client.protocol.search(flag.removeprefix("\\").upper(), by_uid=True, charset=None), "SEARCH")
            having[flag] = frozenset(uids_of(lines))
        return {uid: tuple(f for f, has in having.items() if uid in has) for uid in uids}

    def _first_new(self, scope: Scope, validity: int) -> int:
        """The first UID that the survey before the load did not see; 0 when all are new."""
        known_validity, following = self.memory.before.get(scope.where, (0, 0))
        return following if known_validity == validity else 0

    async def _fetch(self, scope: Scope, validity: int, uids: Sequence[int]) -> None:
        wanted = ",".join(map(str, uids))
        limit = self.spec.message_bytes_max
        lines = await self._ok(self.client.uid("fetch", wanted, f"(UID BODY.PEEK[]<0.{limit}>)"), "FETCH")
        for uid, raw in bodies(lines):
            if len(raw) >= limit:
                scope.fail(f"UID {uid} has {limit} octets or more")
            else:
                self.memory.seen[scope.where, validity, uid] = examine(raw, self.spec.prefix)

    def _collect(self, scope: Scope, validity: int, uids: Sequence[int], exists: int, flags: Mapping[int, tuple[str, ...]] | None) -> None:
        missing = []
        for uid in uids:
            seen = self.memory.seen.get((scope.where, validity, uid))
            if seen is None:
                missing.append(uid)
            else:
                has = None if flags is None else flags[uid]
                scope.copies.append(Copy(scope.source, scope.where, self.address, seen, uid=str(uid), flags=has))
        if missing:
            scope.fail(f"{len(missing)} messages were not read, UID {missing[0]} the first")
        if len(uids) < exists:
            scope.fail(f"{exists} messages exist, {len(uids)} were listed")


def names(lines: Iterable[bytes | bytearray]) -> list[str]:
    """Mailbox names in a LIST response. Literals as names are followed.

    Left out: what cannot be selected, and views of other mailboxes' messages (RFC 6154: ``\\All``, ``\\Flagged``), which would count twice.
    """
    found, pending = [], False
    for line in lines:
        if pending:
            found.append(bytes(line).decode("utf-8", "replace"))
            pending = False
        elif match := _LIST.match(bytes(line)):
            pending = match["name"].startswith(b"{")
            if not pending and not _NOT_READ & set(match["flags"].lower().split()):
                found.append(_unquoted(match["name"].decode("utf-8", "replace")))
    return found


def uids_of(lines: Iterable[bytes | bytearray]) -> list[int]:
    """UIDs in a SEARCH response, ascending."""
    words = [w for line in lines for w in bytes(line).removeprefix(b"SEARCH").split()]
    numbers: list[int] = []
    for word in words:
        if not word.isdigit():
            break
        numbers.append(int(word))
    return sorted(numbers)


def bodies(lines: Sequence[bytes | bytearray]) -> list[tuple[int, bytes]]:
    """(UID, message) of a FETCH response, whether the UID stands before or behind the body."""
    found: list[tuple[int, bytes]] = []
    for at, line in enumerate(lines):
        if not isinstance(line, bytearray):
            continue
        before = _FETCH.match(bytes(lines[at - 1])) if at else None
        behind = _UID_BEHIND.match(bytes(lines[at + 1])) if at + 1 < len(lines) else None
        match = before or behind
        if match:
            found.append((int(match[1]), bytes(line)))
    return found


def _first(pattern: re.Pattern[bytes], lines: Iterable[bytes | bytearray]) -> int:
    return next((int(m[1]) for line in lines if (m := pattern.search(bytes(line)))), 0)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(name: str) -> str:
    if name.startswith('"') and name.endswith('"'):
        return name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return name

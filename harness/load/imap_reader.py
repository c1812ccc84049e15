"""IMAP users: one reads now and then; one idles on its inbox and tells when mail of ours is first seen there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from harness.load.imap_changes import Changes
from harness.load.params import MARKS
from harness.load.reader import Reader
from harness.load.sightings import Sightings
from harness.mail.imap import Fetched, ImapClient
from harness.model.outcome import Proto, UserOp

IDLE_RENEW_S = 25 * 60.0  #: RFC 2177: end IDLE at least every 29 minutes
FETCH_AT_ONCE = 20
STEPS_PER_SESSION = 10
TRACE = "(UID BODY.PEEK[HEADER.FIELDS (X-MAILGALE-TRACE)])"


class ImapUser:
    """Logs in, looks for new mail and reads some of it with pauses, logs out; again and again.

    Of what it reads it marks ``flag_share``; a mark that the server said OK to is an event ``flagged`` and has to stay. See
    :mod:`harness.load.imap_changes` for what it deletes, moves and appends.
    """

    def __init__(self, reader: Reader, sightings: Sightings) -> None:
        self._reader, self._sightings, self._next_uid, self._validity = reader, sightings, 1, 0
        self._share, self._changes = reader.params.flag_share, Changes(reader)

    async def run(self) -> None:
        """Until cancelled."""
        await self._reader.forever(Proto.IMAP, self._session)

    async def _session(self) -> None:
        reader = self._reader
        await reader.think()
        client = await opened(reader)
        try:
            for _ in range(STEPS_PER_SESSION):
                await self._look(client)
                await self._changes.append(client)
                await reader.think()
            await reader.op(UserOp.LOGOUT, client.logout())
        finally:
            client.abort()

    async def _look(self, client: ImapClient) -> None:
        reader = self._reader
        box = await reader.op(UserOp.SELECT, client.select("INBOX", read_only=not (self._share or self._changes.wanted)))
        if box.uidvalidity != self._validity:
            self._validity, self._next_uid = box.uidvalidity, 1
            reader.validity(box.uidvalidity)
        if not box.exists:
            return
        fresh = await reader.op(UserOp.SEARCH, client.search(f"UID {self._next_uid}:*", uid=True))
        uids = sorted(u for u in fresh if u >= self._next_uid)[:FETCH_AT_ONCE]
        for uid in uids:
            found = await reader.op(UserOp.FETCH, client.fetch(str(uid), "(UID FLAGS BODY.PEEK[])", uid=True), octets)
            self._next_uid = uid + 1
            ours = self._ours(uid, found) if self._share or self._changes.wanted else None
            if ours is not None and self._share and reader.chance(self._share):
                await self._mark(client, uid, ours)
            if ours is not None:
                await self._changes.read(client, uid, ours)

    def _ours(self, uid: int, found: Sequence[Fetched]) -> int | None:
        """The number of the mail that was read; None when it is none of this load's."""
        numbers = [self._sightings.number_of(v) for mail in found if mail.uid == uid for v in trace_values(mail)]
        return next((n for n in numbers if n is not None), None)

    async def _mark(self, client: ImapClient, uid: int, mail: int) -> None:
        """Mark one mail; only what the server has acknowledged is a promise."""
        await self._reader.op(UserOp.STORE, client.store(str(uid), "+FLAGS.SILENT", MARKS, uid=True))
        self._reader.flagged(mail, uid, self._validity, MARKS)


class Watcher:
    """Idles on the inbox. With ``sightings`` it reads the trace header of each new mail at once; without, it only holds on.

    After a loss it comes back and reads what arrived meanwhile: those mails count as seen only then, as by a real user.
    """

    def __init__(self, reader: Reader, sightings: Sightings | None = None) -> None:
        self._reader, self._sightings = reader, sightings
        self._next_uid = self._validity = 0
        self.idling = False

    @property
    def address(self) -> str:
        """Whose inbox it is."""
        return self._reader.address

    async def run(self) -> None:
        """Until cancelled."""
        await self._reader.forever(Proto.IMAP, self._session)

    async def _session(self) -> None:
        client = await opened(self._reader)
        try:
            box = await self._reader.op(UserOp.SELECT, client.select("INBOX", read_only=True))
            if box.uidvalidity != self._validity or not self._next_uid:
                self._reader.validity(box.uidvalidity)
                self._validity, self._next_uid = box.uidvalidity, max(box.uidnext or 1, 1)
            else:
                await self._look(client)
            await self._watch(client)
        finally:
            self.idling = False
            client.abort()

    async def _watch(self, client: ImapClient) -> None:
        """IDLE until something arrives, look, and again. A mail announced while looking must not wait for the next one's announcement."""
        news = asyncio.Event()
        client.on_push = lambda word, number: news.set() if word == "EXISTS" else None
        client.on_closed = lambda reason: news.set()  # the next command says why
        while True:
            if not news.is_set():
                await self._reader.op(UserOp.IDLE, client.idle_start())
                self.idling = True
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), IDLE_RENEW_S)
                await client.idle_done()
            news.clear()
            await self._look(client)

    async def _look(self, client: ImapClient) -> None:
        """Read the trace headers of what is new."""
        if self._sightings is None:
            return
        found = await self._reader.op(UserOp.FETCH, client.fetch(f"{self._next_uid}:*", TRACE, uid=True), octets)
        for mail in found:
            uid = mail.uid
            if uid >= self._next_uid:
                self._next_uid = uid + 1
                for value in trace_values(mail):
                    self._sightings.trace(value, self._reader.address)


async def opened(reader: Reader) -> ImapClient:
    """Connected and logged in, both recorded."""
    client = await reader.op(UserOp.CONNECT, ImapClient.open(
        reader.host.loop, reader.endpoint("imap"), tls_context=reader.tls_context, connect_s=reader.connect_s, step_s=reader.step_s))
    try:
        await reader.op(UserOp.LOGIN, client.login(reader.address, reader.password))
    except BaseException:
        client.abort()
        raise
    return client


def octets(found: Sequence[Fetched]) -> int:
    """Octets of the bodies in a FETCH's answer."""
    return sum(len(v) for mail in found for v in mail.items.values() if isinstance(v, bytes))


def trace_values(mail: Fetched) -> list[bytes]:
    """Values of trace headers in whatever was fetched of a mail."""
    return [value for k, v in mail.items.items() if k.startswith("BODY[") and isinstance(v, bytes) for value in traces(v)]


def traces(octets: bytes) -> list[bytes]:
    """Values of trace headers in a header block or a whole message."""
    head = octets.partition(b"\r\n\r\n")[0]
    return [line.partition(b":")[2] for line in head.splitlines() if line.lower().startswith(b"x-mailgale-trace:")]

"""IMAP users: one reads now and then; one idles on its inbox and tells when mail of ours is first seen there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from harness.load.reader import Reader
from harness.load.sightings import Sightings
from harness.mail.imap import Fetched, ImapClient
from harness.model.outcome import Proto, UserOp

IDLE_RENEW_S = 25 * 60.0  #: RFC 2177: end IDLE at least every 29 minutes
FETCH_AT_ONCE = 20
STEPS_PER_SESSION = 10
TRACE = "(UID BODY.PEEK[HEADER.FIELDS (X-MAILGALE-TRACE)])"


class ImapUser:
    """Logs in, looks for new mail and reads some of it with pauses, logs out; again and again."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._next_uid, self._validity = reader, 1, 0

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
                await reader.think()
            await reader.op(UserOp.LOGOUT, client.logout())
        finally:
            client.abort()

    async def _look(self, client: ImapClient) -> None:
        reader = self._reader
        box = await reader.op(UserOp.SELECT, client.select("INBOX", read_only=True))
        if box.uidvalidity != self._validity:
            self._validity, self._next_uid = box.uidvalidity, 1
        if not box.exists:
            return
        fresh = await reader.op(UserOp.SEARCH, client.search(f"UID {self._next_uid}:*", uid=True))
        uids = sorted(u for u in fresh if u >= self._next_uid)[:FETCH_AT_ONCE]
        for uid in uids:
            await reader.op(UserOp.FETCH, client.fetch(str(uid), "(FLAGS BODY.PEEK[])", uid=True), octets)
            self._next_uid = uid + 1


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
    """Values of trace headers in whatever header block was fetched."""
    blocks = [v for k, v in mail.items.items() if k.startswith("BODY[") and isinstance(v, bytes)]
    return [line.partition(b":")[2] for block in blocks for line in block.splitlines() if line.lower().startswith(b"x-mailgale-trace:")]

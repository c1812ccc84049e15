"""POP3 users: log in, list, read what is new, delete some of it where the scenario says so, quit.

A deletion takes effect when the server says +OK to QUIT (RFC 1939): ``deleting`` before DELE, ``expunged`` then; in between it is open. The unique ID of each mail of ours that was read is an event ``uidl``: it may never change (RFC 1939).
"""

from __future__ import annotations

from harness.load.imap_reader import traces
from harness.load.reader import Reader
from harness.load.sightings import Sightings
from harness.mail.pop3 import PopClient
from harness.model.outcome import Proto, UserOp

RETR_AT_ONCE = 20


class PopUser:
    """A poll, a pause, the next poll."""

    def __init__(self, reader: Reader, sightings: Sightings) -> None:
        self._reader, self._sightings = reader, sightings
        self._known: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._reader.forever(Proto.POP3, self._session)

    async def _session(self) -> None:
        reader = self._reader
        await reader.think()
        client = await reader.op(UserOp.CONNECT, PopClient.open(
            reader.host.loop, reader.endpoint("pop3"), tls_context=reader.tls_context, connect_s=reader.connect_s, step_s=reader.step_s))
        try:
            await reader.op(UserOp.LOGIN, client.login(reader.address, reader.password))
            listed = await reader.op(UserOp.UIDL, client.uidl())
            fresh = [(n, uid) for n, uid in sorted(listed.items()) if uid not in self._known]
            deleted = [(mail, uid) for n, uid in fresh[:RETR_AT_ONCE] for mail in await self._read(client, n, uid)]
            await reader.op(UserOp.QUIT, client.quit())
            for mail, uid in deleted:
                reader.changes("expunged", mail, f"pop3:{uid}")
        finally:
            client.abort()

    async def _read(self, client: PopClient, number: int, uid: str) -> list[int]:
        """Read one message; its mail's number when it was marked for deletion."""
        reader, share = self._reader, self._reader.params.delete_share
        raw = await reader.op(UserOp.RETR, client.retr(number), len)
        self._known.add(uid)
        ours = [mail for value in traces(raw) if (mail := self._sightings.number_of(value)) is not None][:1]
        for mail in ours:
            reader.uidl(mail, uid)
        if not (ours and share and reader.chance(share)):
            return []
        reader.changes("deleting", ours[0], f"pop3:{uid}")
        await reader.op(UserOp.DELE, client.dele(number))
        return ours

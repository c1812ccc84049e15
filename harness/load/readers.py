"""Reading users: IMAP and POP3 sessions with think times, IDLE watchers on the probe mailboxes, IDLE crowds. Closed loop.

Each operation is one USEROP row. A session that ends unasked is an event ``reader_lost``; the user comes back after a short wait,
and the first login that works again is ``reader_back``. Users read, and mark, delete or move what they have read where the scenario says so:
every change is on record before its first byte and when it ends, so the census knows what it need not find, and where it will.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from harness.load.imap_reader import ImapUser, Watcher
from harness.load.mta import Host
from harness.load.params import Params
from harness.load.pop_reader import PopUser
from harness.load.reader import Reader
from harness.load.sightings import Sightings
from harness.load.spec import LoadSpec

STOP_WAIT_S = 3.0


class Readers:
    """All readers of this engine. Watchers take the first accounts, users the following ones, round and round.

    :param senders: the accounts' numbers as senders, where users put mail of their own into their mailboxes.
    """

    def __init__(
        self, host: Host, spec: LoadSpec, params: Params, accounts: Sequence[tuple[str, str]], sightings: Sightings, senders: Sequence[int] = ()
    ) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._host = host
        self.watchers = [
            Watcher(Reader(host, spec, params, i, *accounts[i], client(i), f"watcher/{i}"), sightings)
            for i in range(min(params.watchers, len(accounts)))  # each engine has its own: it alone knows when its mails were due
        ]
        first = params.watchers
        users = [(i, params.account_of(i, len(accounts))) for i in range(params.imap_users + params.pop_users + params.idle_users)]
        self.users: list[ImapUser | PopUser | Watcher] = []
        for i, n in users:
            if i % spec.engines != spec.engine - 1:
                continue
            reader = Reader(host, spec, params, n, *accounts[n], client(first + i), f"reader/{spec.seed}/{i}", senders[n] if senders else 0)
            self.users.append(
                ImapUser(reader, sightings) if i < params.imap_users
                else PopUser(reader, sightings) if i < params.imap_users + params.pop_users else Watcher(reader)
            )

    @property
    def watched(self) -> frozenset[str]:
        """Addresses whose mailboxes the watchers see."""
        return frozenset(w.address for w in self.watchers)

    @property
    def watching(self) -> bool:
        """Every watcher idles, so that no delivery is missed."""
        return all(w.idling for w in self.watchers)

    def start(self) -> None:
        """Connect them all."""
        self._tasks = [self._host.loop.create_task(r.run()) for r in (*self.watchers, *self.users)]
        for task in self._tasks:
            task.add_done_callback(self._broke)

    async def dismiss(self) -> None:
        """Users go; only the watchers stay."""
        await _cut(self._tasks[len(self.watchers):])

    async def stop(self) -> None:
        """Cut them all off; it is the load that ends, not a loss."""
        await _cut(self._tasks)

    def _broke(self, task: asyncio.Task[None]) -> None:
        """An error of ours in a reader ends the load, it does not vanish."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._host.loop.call_exception_handler({"message": "a reader broke", "exception": error, "task": task})


async def _cut(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_WAIT_S)


def client(i: int) -> str:
    """The client address of the i-th reader: 192.0.2.0/24, then 2001:db8:4::/48."""
    return f"192.0.2.{i + 1}" if i < 254 else f"2001:db8:4::{i + 1:x}"

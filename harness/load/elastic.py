"""The burst: outside MTAs, each with a backlog that it pushes as fast as it is let, and retries as Postfix does (T14, T15)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

from harness.load.backoff import Backoff
from harness.load.mta import Host, Link, Mta, Offering, Policy
from harness.load.params import Params
from harness.load.populations import Identity, own
from harness.load.spec import LoadSpec
from harness.model.outcome import Population, Proto

AT_ONCE = 200  #: mails offered in one turn of the loop


class Elastic:
    """The elastic senders of this engine.

    :param identities: all of the arm's; this engine plays each ``engines``-th.
    """

    def __init__(self, host: Host, spec: LoadSpec, params: Params, identities: tuple[Identity, ...], dial: Callable[[Link], None]) -> None:
        policy = Policy(
            Proto.SMTP, max(params.connections_per_sender, 1), max(params.mails_per_connection, 1) if params.reuse else 1,
            Backoff.of(params, spec.time_scale), ahead=params.ahead,
        )
        self._offering = Offering(host, Population.ELASTIC)
        self._share = _shares(params, len(identities))
        self.mtas = [Mta(host, i.number, i.client, policy, dial, spec.seed) for i in own(identities, spec)]
        self.begun = False

    async def begin(self, due_ns: int) -> None:
        """Put every backlog into the ledger as due at ``due_ns``, then let them all go."""
        for mta in self.mtas:
            first, count = self._share[mta.sender]
            for start in range(first, first + count, AT_ONCE):
                mta.ready += self._offering.make_many(start, min(AT_ONCE, first + count - start), mta.sender, due_ns)
                await asyncio.sleep(0)
        self.begun = True
        for mta in self.mtas:
            mta.pump()

    @property
    def done(self) -> bool:
        """Every mail of every backlog has ended."""
        return self.begun and all(m.idle for m in self.mtas)

    def stop(self) -> None:
        """Begin no further attempt."""
        for mta in self.mtas:
            mta.stop()

    def backlogs(self) -> list[int]:
        """Mails still to be sent, per sender."""
        return [m.backlog for m in self.mtas]


def _shares(params: Params, senders: int) -> list[tuple[int, int]]:
    """(index of the first mail, number of mails) for each sender."""
    if not params.backlog_total:
        return [(i * params.backlog_per_sender, params.backlog_per_sender) for i in range(senders)]
    bounds = [params.backlog_total * i // senders for i in range(senders + 1)] if senders else [0]
    return [(a, b - a) for a, b in pairwise(bounds)]

"""The closed loop: a number of mails over a number of connections, as fast as they are accepted (what ``smtp-source`` does).

A mail is made when a connection is free for it, so that a million of them need no memory; it is due at that moment. There is no
schedule to keep, hence no latency from one: such a load tells how much is accepted and what becomes of it, not how long mail waits.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.load.backoff import Backoff
from harness.load.messages import Mail
from harness.load.mta import Host, Link, Mta, Offering, Policy
from harness.load.params import Params
from harness.load.populations import Identity, own
from harness.load.spec import LoadSpec
from harness.model.outcome import Population, Proto
from harness.support.clock import now_ns


class Closed:
    """The senders of a closed loop; they share its mails.

    :param identities: all of the arm's; this engine plays each ``engines``-th and sends its share of the mails.
    """

    def __init__(self, host: Host, spec: LoadSpec, params: Params, identities: tuple[Identity, ...], dial: Callable[[Link], None]) -> None:
        by_users = params.messages_by == "submission"
        self._offering = Offering(host, Population.SUBMITTER if by_users else Population.ELASTIC)
        self._index, self._step, self._total = spec.engine - 1, spec.engines, params.messages
        senders = (own(identities, spec) or list(identities[:1]))[: max(params.messages_connections // spec.engines, 1)]
        self.mtas = [
            _Drawing(host, sender.number, sender.client, _policy(spec, params, connections), dial, spec.seed, self._make)
            for sender, connections in zip(senders, _split(params.messages_connections // spec.engines, len(senders)), strict=True)
        ]
        self.begun = self._stopped = False

    async def begin(self, due_ns: int) -> None:
        """Open the connections."""
        self.begun = True
        for mta in self.mtas:
            mta.pump()

    @property
    def done(self) -> bool:
        """Every mail has been made and has ended."""
        return self.begun and self._index >= self._total and all(m.idle for m in self.mtas)

    def stop(self) -> None:
        """Make no mail and begin no attempt any more."""
        self._stopped = True
        for mta in self.mtas:
            mta.stop()

    def backlogs(self) -> list[int]:
        """Mails still to be sent: those not made yet, and those of each sender."""
        return [max(self._total - self._index, 0) // self._step, *(m.backlog for m in self.mtas)]

    def _make(self, sender: int) -> Mail | None:
        if self._index >= self._total or self._stopped:
            return None
        mail = self._offering.make(self._index, sender, now_ns())
        self._index += self._step
        return mail


class _Drawing(Mta):
    """An MTA that draws its next mail from a common store when it has none of its own (left from an attempt that failed)."""

    def __init__(
        self, host: Host, sender: int, client: str, policy: Policy, dial: Callable[[Link], None], seed: int,
        make: Callable[[int], Mail | None],
    ) -> None:
        super().__init__(host, sender, client, policy, dial, seed)
        self._make = make

    def pump(self) -> None:
        """Open links as far as the limit allows and there are mails."""
        while self._place() and self._drawn():
            super().pump()

    def next_mail(self) -> Mail | None:
        """The next mail for a link that could take one."""
        return super().next_mail() if self._drawn() else None

    def _drawn(self) -> bool:
        if not self.ready and not self.stopped and (mail := self._make(self.sender)) is not None:
            self.ready.append(mail)
        return bool(self.ready)


def _policy(spec: LoadSpec, params: Params, connections: int) -> Policy:
    by_users = params.messages_by == "submission"
    return Policy(
        Proto.SUBMISSION if by_users else Proto.SMTP, connections, max(params.mails_per_connection, 1) if params.reuse else 1,
        Backoff.of(params, spec.time_scale), retry=not by_users,
    )


def _split(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` of nearly the same size, none below 1."""
    return [max(total * (i + 1) // parts - total * i // parts, 1) for i in range(parts)]

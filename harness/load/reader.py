"""What every reading user does alike: connect, record each operation, think, come back after a loss."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from harness.load.mta import Host
from harness.load.params import Params
from harness.load.spec import LoadSpec
from harness.mail.asking import Refused
from harness.mail.link import Endpoint
from harness.mail.tls import client_context
from harness.model.outcome import Outcome, Proto, UserOp
from harness.support.clock import now_ns

T = TypeVar("T")
RETURN_MIN_S, RETURN_MAX_S = 0.5, 5.0  #: a user agent's wait before it connects again, doubling


class Reader:
    """One user's account and its record.

    :param number: index of its address in the log's recipients.
    :param client: its simulated client address. :param sender: its number among the senders.
    """

    def __init__(
        self, host: Host, spec: LoadSpec, params: Params, number: int, address: str, password: str, client: str, seed: str, sender: int = 0
    ) -> None:
        self.host, self.spec, self.params = host, spec, params
        self.number, self.address, self.password, self.client = number, address, password, client
        self.sender, self._rng = sender, random.Random(seed)
        self._lost_ns = self._failures = 0
        self._proto = Proto.IMAP
        self.connect_s = params.seconds(params.connect_wait_s, spec.time_scale)
        self.step_s = params.seconds(params.step_wait_s, spec.time_scale)

    def endpoint(self, role: str) -> Endpoint:
        """Where this user connects to."""
        access = self.spec.endpoints[role]
        host, proxy = access.host_for(self.client), self.client if access.proxy else ""
        return Endpoint(host, access.port, tls=access.tls, proxy_client=proxy, source=self.spec.source_for(host, self.number))

    @property
    def tls_context(self) -> ssl.SSLContext:
        """The shared TLS context."""
        return client_context(self.spec.ca_file)

    async def forever(self, proto: Proto, session: Callable[[], Awaitable[None]]) -> None:
        """Session after session until cancelled; after a loss with a growing wait."""
        self._proto = proto
        while True:
            try:
                await session()
            except (OSError, Refused) as error:
                self._lost(str(error))
                await asyncio.sleep(min(RETURN_MIN_S * 2 ** min(self._failures, 10), RETURN_MAX_S) * self._rng.uniform(0.8, 1.2))
                self._failures += 1

    def chance(self, share: float) -> bool:
        """Whether a draw falls into ``share`` (0 … 1)."""
        return self.draw() < share

    def draw(self) -> float:
        """A number from 0 to below 1."""
        return self._rng.random()

    def validity(self, uidvalidity: int) -> None:
        """Record the UIDVALIDITY that the INBOX was met with (RFC 9051 section 2.3.1.1)."""
        self.host.ledger.event("uidvalidity", mailbox=f"{self.address}/INBOX", uidvalidity=uidvalidity)

    def flagged(self, mail: int, uid: int, uidvalidity: int, flags: Sequence[str]) -> None:
        """Record flags that the server has acknowledged."""
        self.host.ledger.event("flagged", mail=mail, mailbox=f"{self.address}/INBOX", uid=uid, uidvalidity=uidvalidity, flags=list(flags))

    def uidl(self, mail: int, uidl: str) -> None:
        """Record the unique ID that POP3 gave a mail (RFC 1939, UIDL)."""
        self.host.ledger.event("uidl", mail=mail, mailbox=f"{self.address}/INBOX", uidl=uidl)

    def changes(self, kind: str, mail: int, uid: str, **more: Any) -> None:
        """Record that this user begins to change its mailbox (``deleting``, ``moving``), or that the server has said so (``expunged``, ``moved``).

        It has reached the kernel when this returns, so the first byte of the change may go out.
        :raises OSError: the log takes no more, so nothing must be changed.
        """
        ledger = self.host.ledger
        ledger.event(kind, mail=mail, mailbox=f"{self.address}/INBOX", uid=uid, **more)
        ledger.flush()
        if ledger.failed is not None:
            raise ledger.failed

    async def think(self) -> None:
        """Pause: exponential with the scenario's mean, at most ten times that."""
        if self.params.think_s:
            mean = self.params.think_s
            await asyncio.sleep(min(self._rng.expovariate(1 / mean), 10 * mean))

    async def op(self, op: UserOp, doing: Awaitable[T], octets: Callable[[T], int] = lambda _: 0) -> T:
        """Carry out one operation and record it: OK, FAIL when the server said no, INFO when no answer came.

        :raises Refused: the server said no. :raises OSError: the connection is gone or too slow.
        """
        start = now_ns()
        try:
            result = await doing
        except Refused as error:
            self._record(start, op, 0, Outcome.FAIL, str(error))
            raise
        except OSError as error:
            self._record(start, op, 0, Outcome.FAIL if op is UserOp.CONNECT else Outcome.INFO, str(error))
            raise
        self._record(start, op, octets(result), Outcome.OK, "")
        if op is UserOp.LOGIN:
            self._back()
        return result

    def _record(self, start: int, op: UserOp, octets: int, outcome: Outcome, error: str) -> None:
        self.host.ledger.user_op(start, self.number, octets, self._proto, op, outcome)
        self.host.stats.time(self._proto.name.lower(), op.name.lower(), now_ns() - start, error=error[:80], octets=octets)

    def _lost(self, why: str) -> None:
        if not self._lost_ns:
            self._lost_ns = now_ns()
            self.host.ledger.event("reader_lost", user=self.address, proto=self._proto.name.lower(), why=why[:500])

    def _back(self) -> None:
        self._failures = 0
        if self._lost_ns:
            after, self._lost_ns = now_ns() - self._lost_ns, 0
            self.host.ledger.event("reader_back", user=self.address, proto=self._proto.name.lower(), after_ns=after)

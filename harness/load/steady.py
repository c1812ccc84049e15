"""Open-loop mail: ordinary senders to the probe users, and authenticated users who submit. Latency counts from the due time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.load.arrivals import arrivals
from harness.load.backoff import Backoff
from harness.load.messages import scramble
from harness.load.mta import Host, Link, Mta, Offering, Policy
from harness.load.pacer import Pacer
from harness.load.params import Params
from harness.load.populations import Identity, own
from harness.load.spec import LoadSpec
from harness.model.outcome import Population, Proto


class OpenLoop:
    """Mails at seeded due times, each from a seeded choice of senders.

    :param rate_per_s: of all engines together; each takes its share.
    """

    def __init__(
        self, host: Host, spec: LoadSpec, params: Params, population: Population, mtas: Sequence[Mta], rate_per_s: float
    ) -> None:
        self.mtas, self._seed = mtas, scramble(spec.seed, population, spec.engine)
        self._offering = Offering(host, population)
        self._first = spec.engine << 40 if spec.engines > 1 else 0
        due = arrivals(params.steady_arrivals, rate_per_s / spec.engines, params.arrivals, self._seed)
        self.pacer = Pacer(host.loop, due, self._due, host.stats.late)

    def start(self, at_ns: int) -> None:
        """Begin; due times count from ``at_ns``."""
        self.pacer.start(at_ns)

    def stop(self) -> None:
        """No new mail; retries go on."""
        self.pacer.stop()

    def _due(self, index: int, due_ns: int) -> None:
        mta = self.mtas[scramble(self._seed, index) % len(self.mtas)]
        mta.offer(self._offering.make(self._first + index, mta.sender, due_ns))


def ordinary(host: Host, spec: LoadSpec, params: Params, identities: tuple[Identity, ...], dial: Callable[[Link], None]) -> OpenLoop:
    """Well-behaved outside senders: a connection for each mail, 4xx retried like any MTA."""
    policy = Policy(Proto.SMTP, max(params.steady_connections, 1), 1, Backoff.of(params, spec.time_scale))
    mtas = [Mta(host, i.number, i.client, policy, dial, spec.seed) for i in own(identities, spec) or list(identities[:1])]
    return OpenLoop(host, spec, params, Population.STEADY, mtas, params.steady_rate_per_s)


def submitters(host: Host, spec: LoadSpec, params: Params, identities: tuple[Identity, ...], dial: Callable[[Link], None]) -> OpenLoop:
    """Users who submit mail after logging in. A user agent does not retry: any 4xx is a failure that its user sees."""
    policy = Policy(Proto.SUBMISSION, max(params.submit_connections, 1), 1, Backoff.of(params, spec.time_scale), retry=False)
    mtas = [Mta(host, i.number, i.client, policy, dial, spec.seed) for i in own(identities, spec) or list(identities[:1])]
    return OpenLoop(host, spec, params, Population.SUBMITTER, mtas, params.submit_rate_per_s)

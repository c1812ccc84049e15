"""What every population is to the engine, and who the simulated outside is: sender and client addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.load.messages import scramble
from harness.load.mta import Mta
from harness.load.params import Params
from harness.load.spec import LoadSpec
from harness.model.zipf import Zipf, domain

#: Senders that share the connections of a closed loop.
CLOSED_SENDERS_MAX = 8
#: Keeps the draws of senders' domains apart from those of mails.
_SENDERS = 1 << 16


class Population(Protocol):
    """Started by the engine, stopped by it; :attr:`mtas` are empty for readers."""

    mtas: Sequence[Mta]

    def start(self, at_ns: int) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Identity:
    """A sender: its number in the rows, its envelope address and the client address it comes from."""

    number: int
    address: str
    client: str


@dataclass(frozen=True)
class Outside:
    """Every sender of a load, in the order of their numbers. The same for every engine of an arm.

    Elastic senders come from 198.51.100.0/24 and 2001:db8:1::/48, steady ones from 203.0.113.0/24 and 2001:db8:2::/48, submitting users
    from 192.0.2.0/24 (RFC 5737, RFC 3849). From the 255th on a sender of a kind has an IPv6 address.
    """

    elastic: tuple[Identity, ...]
    steady: tuple[Identity, ...]
    users: tuple[Identity, ...]

    @classmethod
    def of(cls, spec: LoadSpec, params: Params, accounts: Sequence[str]) -> Outside:
        """The senders a spec asks for."""
        domains = spec.internet_domains or ("example.net",)
        share = params.ipv6_share
        steady = params.steady_senders if params.steady_rate_per_s else 0
        by_users = params.submit_rate_per_s or params.append_share or (params.messages and params.messages_by == "submission")
        submitters = len(accounts) if by_users else 0
        first = _outside_mtas(params)
        return cls(
            tuple(Identity(i, f"mta{i + 1}@{domains[0]}", _client(1, i, share)) for i in range(first)),
            tuple(Identity(first + i, f"friend{i + 1}@{d}", _client(2, i, share)) for i, d in enumerate(_sender_domains(spec, params, steady, domains[-1]))),
            tuple(Identity(first + steady + i, accounts[i], _client(3, i, 0)) for i in range(submitters)),
        )

    @property
    def all(self) -> tuple[Identity, ...]:
        return (*self.elastic, *self.steady, *self.users)


def _sender_domains(spec: LoadSpec, params: Params, senders: int, otherwise: str) -> list[str]:
    """The domain of each ordinary sender."""
    if not params.sender_domains:
        return [otherwise] * senders
    drawn = Zipf(params.sender_domains, params.zipf_exponent)
    return [domain(drawn.rank(scramble(spec.seed, _SENDERS, i) / 2**64)) for i in range(senders)]


def _outside_mtas(params: Params) -> int:
    if not params.messages:
        return params.elastic_senders
    return min(CLOSED_SENDERS_MAX, max(params.messages_connections, 1)) if params.messages_by == "mx" else 0


_V4 = {1: "198.51.100", 2: "203.0.113", 3: "192.0.2"}


def _client(kind: int, i: int, ipv6_share: float) -> str:
    """IPv6 for the wanted share, spread evenly."""
    if i >= 254 or int((i + 1) * ipv6_share) > int(i * ipv6_share):
        return f"2001:db8:{kind}::{i + 1:x}"
    return f"{_V4[kind]}.{i + 1}"


def own(identities: Sequence[Identity], spec: LoadSpec) -> list[Identity]:
    """Those that this engine plays."""
    return list(identities[spec.engine - 1 :: spec.engines])

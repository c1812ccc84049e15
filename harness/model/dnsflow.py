"""What passed each pod that was captured: queries that came, queries that went on, and why. Pure: records in, counts out.

A server of names passes a question on, answers it from its cache or its own zone, or asks more than it was asked (retries, qname
minimisation of RFC 9156, health probes). Each query that it sent is put down to the question that was open in the same pod when
it was sent; what cannot be put down to anything is *unexplained*, and the account (:mod:`harness.model.dnsaccount`) shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.model.dns import QUERY, DnsRecord

_LOOPBACK = ("127.", "::1")
#: CoreDNS' forward plugin asks this of every upstream (health_check), unbound of the root (priming, RFC 8109); it asks for nothing that a mail needs.
_PROBE = (".", "NS")
_MINIMISED = frozenset({"A", "NS"})
OTHER = "other"
#: Reasons of what a server sent of itself.
PROBES, PRIMING, RETRIES = "health probes", "priming", "retries"


class Layer(StrEnum):
    """Where a pod stands on the way of a question."""

    APPLICATION = "application"
    CLUSTER = "cluster DNS"
    RESOLVER = "unbound"
    AUTHORITATIVE = "authoritative"


#: From the question to its answer.
CHAIN = (Layer.APPLICATION, Layer.CLUSTER, Layer.RESOLVER, Layer.AUTHORITATIVE)
#: Label ``mailgale.dev/part`` of the lab's DNS pods → layer; every other pod is an application.
PARTS = {"coredns": Layer.CLUSTER, "unbound": Layer.RESOLVER, "nsd": Layer.AUTHORITATIVE}


@dataclass(frozen=True)
class Watched:
    """A pod whose network is captured."""

    pod: str
    component: str
    layer: Layer
    addresses: frozenset[str]


@dataclass
class Passed:
    """Queries that passed one pod within a window.

    :param received: layer of the client (``other``: a pod that is not captured) → queries.
    :param sent: queries that went out. :param local: those that never left the pod (probes of its own, over loopback).
    :param terms: why ``sent`` is not ``received``: name → signed number of queries, as in an account's step.
    :param unexplained: queries sent that no open question accounts for.
    :param last_ns: when the last query passed that was no health probe, nor a question of a client that is not captured (the edge's, which asks for its
        backends all the time; what such a question leads to counts); 0 = none did.
    :param open_at_end: questions to the pod that had no answer when the window closed.
    """

    received: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    local: int = 0
    terms: Counter[str] = field(default_factory=Counter)
    unexplained: int = 0
    last_ns: int = 0
    open_at_end: int = 0


def is_local(record: DnsRecord) -> bool:
    """Whether a message never left its pod."""
    return record.server.address.startswith(_LOOPBACK)


def is_probe(record: DnsRecord) -> bool:
    """Whether a query is CoreDNS' health probe of an upstream."""
    return (record.qname, record.qtype) == _PROBE


def passed(
    pod: Watched, records: Iterable[DnsRecord], *, begin_ns: int, end_ns: int, clients: Mapping[str, str], own_zones: Collection[str] = ()
) -> Passed:
    """What passed ``pod`` from ``begin_ns`` to ``end_ns``, both included.

    :param records: of the pod's capture, in any order. :param clients: address → layer of every captured pod.
    :param own_zones: zones that it answers by itself (absolute names).
    """
    flow = _Flow(pod, begin_ns, end_ns, clients, tuple(z.lower() for z in own_zones))
    for record in sorted(records, key=lambda r: r.t_ns):
        flow.take(record)
    return flow.done()


@dataclass
class _Open:
    """A question to the pod that has no answer yet."""

    record: DnsRecord
    counted: bool
    asked_on: int = 0


class _Flow:
    def __init__(self, pod: Watched, begin_ns: int, end_ns: int, clients: Mapping[str, str], own_zones: Sequence[str]) -> None:
        self._pod, self._begin, self._end, self._clients, self._zones = pod, begin_ns, end_ns, clients, own_zones
        self._open: list[_Open] = []
        self.result = Passed()

    def take(self, record: DnsRecord) -> None:
        inside = self._begin <= record.t_ns <= self._end
        if is_local(record):
            self.result.local += inside and record.direction == QUERY
            return
        if record.direction == QUERY and inside and not is_probe(record) and not self._of_a_stranger(record):
            self.result.last_ns = record.t_ns
        if record.server.address in self._pod.addresses:
            self._question(record, inside) if record.direction == QUERY else self._answered(record)
        elif record.direction == QUERY:
            self._sent(record, inside)

    def _of_a_stranger(self, record: DnsRecord) -> bool:
        return record.server.address in self._pod.addresses and record.client.address not in self._clients

    def _question(self, record: DnsRecord, inside: bool) -> None:
        self._open.append(_Open(record, inside))
        if inside:
            self.result.received[self._clients.get(record.client.address, OTHER)] += 1

    def _answered(self, answer: DnsRecord) -> None:
        found = next((o for o in self._open if _key(o.record) == _key(answer)), None)
        if found is not None and answer.t_ns <= self._end:
            self._open.remove(found)
            self._settle(found, "answered without asking further")

    def _settle(self, question: _Open, why: str) -> None:
        """A question that was not passed on leaves a term."""
        if question.counted and not question.asked_on:
            self.result.terms["of its own zone" if self._own(question.record.qname) else why] -= 1

    def _own(self, name: str) -> bool:
        return any(name.lower() == z or name.lower().endswith("." + z) for z in self._zones)

    def _sent(self, record: DnsRecord, inside: bool) -> None:
        cause = self._cause(record)
        if not inside:
            return
        self.result.sent += 1
        if cause == "unexplained":
            self.result.unexplained += 1
        elif cause:
            self.result.terms[cause] += 1

    def _cause(self, record: DnsRecord) -> str:
        """Why a query was sent; "" for the first one about an open question."""
        if self._pod.layer is Layer.APPLICATION:
            return ""
        if is_probe(record):
            return PROBES if self._pod.layer is Layer.CLUSTER else PRIMING
        same = [o for o in self._open if _question(o.record) == _question(record)]
        for one in same:
            if not one.asked_on:
                one.asked_on = 1
                return ""
        if same:
            return RETRIES
        if record.qtype in _MINIMISED and any(_is_above(record.qname, o.record.qname) for o in self._open):
            return "qname minimisation"
        return "unexplained"

    def done(self) -> Passed:
        for question in self._open:
            self._settle(question, "left without an answer")
        self.result.open_at_end = sum(o.counted for o in self._open)
        return self.result


def _question(record: DnsRecord) -> tuple[str, str]:
    return record.qname.lower(), record.qtype


def _key(record: DnsRecord) -> tuple[object, ...]:
    """Both ends, transport and id; an answer without a question (FORMERR, say) goes by these as well."""
    return record.client, record.server, record.transport, record.id


def _is_above(name: str, of: str) -> bool:
    """Whether ``name`` is ``of`` or stands above it in the tree."""
    upper, lower = name.lower().rstrip("."), of.lower().rstrip(".")
    return upper in ("", lower) or lower.endswith("." + upper)

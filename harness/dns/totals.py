"""Queries of one pod, added up by second, direction, what they are about, type, transport and outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.model.dns import QUERY, DnsRecord
from harness.model.dnsflow import OTHER, Watched, is_local
from harness.model.dnspurpose import Names
from harness.model.dnstree import Attempt, Kind, paired

SECOND = 1_000_000_000
_FIELDS = ("at", "side", "peer", "what", "expanded", "qtype", "transport", "outcome")


def counts(
    pod: Watched, records: Iterable[DnsRecord], names: Names, clients: Mapping[str, str], *, begin_ns: int, end_ns: int
) -> Iterator[dict[str, Any]]:
    """One row for each kind of query in each second, by time; queries that never left the pod are left out.

    A row's ``at`` is the begin of its second on the run's clock; ``side`` is ``sent`` or ``received``, ``peer`` the layer of the client of
    a received query; ``n`` how many.
    """
    ordered = sorted(records, key=lambda r: r.t_ns)
    answers, _ = paired(ordered)
    found: Counter[tuple[Any, ...]] = Counter()
    for record in ordered:
        if record.direction == QUERY and begin_ns <= record.t_ns <= end_ns and not is_local(record):
            found[_kind(pod, record, answers.get(id(record)), names, clients)] += 1
    for key, n in sorted(found.items()):
        yield {**dict(zip(_FIELDS, key, strict=True)), "n": n}


def _kind(pod: Watched, record: DnsRecord, answer: DnsRecord | None, names: Names, clients: Mapping[str, str]) -> tuple[Any, ...]:
    received = record.server.address in pod.addresses
    purpose = names.purpose(record.qname, record.qtype)
    return (
        record.t_ns // SECOND * SECOND, "received" if received else "sent", clients.get(record.client.address, OTHER) if received else "",
        purpose.what, purpose.expanded, record.qtype, record.transport, Attempt(Kind.FIRST, record, answer).outcome,
    )

"""What each DNS server counted by itself while it was captured: for the account, read when the captures begin and before they end.

A reading takes a moment, and a query that passes meanwhile may be on one side only: that stays within the account's tolerance. A server that was
started again, or does not answer, has no numbers, and the event says why. nsd and applications count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from harness.errors import NotReady
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.model.dns import DnsRecord
from harness.model.dnscounters import Counters
from harness.model.dnsflow import PROBES, RETRIES, Watched, passed
from harness.stack.dnsservers import COUNTING, PART, counters_of, instance_of
from harness.support.clock import now_ns

_PARALLEL = 4


@dataclass(frozen=True)
class Reading:
    """What a server had counted at ``t_ns``; ``why`` it is not known, "" where it is."""

    t_ns: int
    instance: str = ""
    counters: Counters = field(default_factory=dict)
    why: str = ""


def read_all(cluster: Cluster, pods: Iterable[Pod], *, inside: Cluster | None = None) -> dict[str, Reading]:
    """Name of the pod → reading, of those that hold a server that counts. What goes wrong stands in the reading.

    :param inside: the cluster by the rights of who may run a command in a pod (default: ``cluster``).
    """
    asked = [p for p in pods if p.labels.get(PART) in COUNTING]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return dict(zip((p.name for p in asked), pool.map(lambda p: _read(cluster, p, inside), asked), strict=True))


def _read(cluster: Cluster, pod: Pod, inside: Cluster | None) -> Reading:
    begin = now_ns()
    try:
        now = cluster.pod(pod.namespace, pod.name)
        begin = now_ns()
        found = counters_of(cluster, pod, inside=inside)
    except (ApiFailed, NotReady, ValueError, KeyError) as error:
        return Reading(begin, why=f"it did not say: {error}")
    return Reading((begin + now_ns()) // 2, instance_of(now) if now else "", found)


def joined(pod: Watched, records: Sequence[DnsRecord], first: Reading, last: Reading, clients: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the pod's event ``dns_counted``: what it counted between two readings, and what was captured of it between them.

    ``captured``: ``received`` (queries over loopback included), ``sent``, and what of it no counter holds: ``health probes``, ``retries`` of CoreDNS.
    ``counted``: ``received``, and ``sent`` where the server counts that.
    """
    why = first.why or last.why or ("" if first.instance == last.instance else "it was started again meanwhile")
    if why:
        return {"begin": first.t_ns, "end": last.t_ns, "why": why}
    flow = passed(pod, records, begin_ns=first.t_ns, end_ns=last.t_ns, clients=clients)
    unheld = flow.terms if "forwarded" in last.counters else {}
    captured = {"received": sum(flow.received.values()) + flow.local, "sent": flow.sent, **{term: unheld.get(term, 0) for term in (PROBES, RETRIES)}}
    grew = {side: round(b - a) for side, a, b in zip(("received", "sent"), _sides(first.counters), _sides(last.counters), strict=True) if a is not None and b is not None}
    return {"begin": first.t_ns, "end": last.t_ns, "why": "", "captured": captured, "counted": grew}


def _sides(counters: Counters) -> tuple[float | None, float | None]:
    """Queries that came, and those that were sent on: CoreDNS counts the latter once they are answered, unbound each."""
    sent = counters.get("sent", counters.get("forwarded"))
    return sum(counters.get("requests", {}).values()), sum(sent.values()) if sent is not None else None

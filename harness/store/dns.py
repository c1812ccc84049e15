"""What the DNS servers of the stack counted in one arm, layer by layer, and what look-ups from inside the pods saw.

Counters are read from ``dns_counters`` events; a server that is started again begins at zero, and what it counted after its last sample is lost
(up to 4 s). The stretch goes from the load's begin to the end of settling, retries included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.model.outcome import Outcome
from harness.store.history import SECOND, ArmHistory, Span
from harness.store.spans import nearest_rank

CLUSTER, NODE, UNBOUND = "coredns", "node-local-dns", "unbound"
#: Asked by the harness or by the servers of themselves (loop's HINFO is "other" in CoreDNS): none of it is mail's.
NOT_MAIL = frozenset({"TXT", "SRV", "NS", "HINFO", "other"})
ALL_ELSE = "."
Counters = Mapping[str, Mapping[str, float]]


@dataclass
class Layer:
    """One kind of DNS server, all its instances together.

    :param samples: how many samples the numbers rest on. :param tcp_slots_max: unbound: most TCP slots in use at a sample.
    """

    part: str
    samples: int = 0
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    tcp_slots_max: float = 0.0

    def total(self, counter: str, wanted: Callable[[str], bool] = lambda key: True) -> float:
        """The sum of a counter over the keys that are ``wanted``."""
        return sum(n for key, n in self.counts.get(counter, {}).items() if wanted(key))

    def requests(self, *, zone: str = "", proto: str = "", types: Callable[[str], bool] = lambda t: True) -> float:
        """Requests to a CoreDNS by zone, transport and type ("" = any)."""

        def wanted(key: str) -> bool:
            p, t, z = key.split("/", 2)
            return (not zone or z == zone) and (not proto or p == proto) and types(t)

        return self.total("requests", wanted)


def stretch(arm: ArmHistory) -> Span | None:
    """From the load's begin to the end of settling; None when either is not on record."""
    load, settle = arm.phase("load"), arm.phase("settle")
    return Span(load[0], settle[1]) if load and settle else None


def layers(arm: ArmHistory) -> dict[str, Layer]:
    """Part of the DNS → what it counted in the arm's stretch; {} when nothing was sampled."""
    span = stretch(arm)
    found: dict[str, Layer] = {}
    if span is None:
        return found
    for (part, _), events in _instances(arm).items():
        inside = [e for e in events if e[0] <= span.end] + [e for e in events if e[0] > span.end][:1]
        before = [e for e in inside if e[0] <= span.begin]
        if not inside or inside[-1][0] <= span.begin:
            continue  # it was gone before the load
        layer = found.setdefault(part, Layer(part))
        layer.samples += len(inside) - len(before)
        _add(layer, inside[-1][1], before[-1][1] if before else {})
        layer.tcp_slots_max = max([layer.tcp_slots_max, *(c.get("tcpusage", {}).get("now", 0.0) for _, c in inside[len(before):])])
    return found


def _instances(arm: ArmHistory) -> dict[tuple[str, str], list[tuple[int, Counters]]]:
    made: dict[tuple[str, str], list[tuple[int, Counters]]] = {}
    for e in arm.events("dns_counters"):
        made.setdefault((str(e["part"]), str(e["instance"])), []).append((int(e["t"]), e["counters"]))
    return made


def _add(layer: Layer, last: Counters, first: Counters) -> None:
    for counter, values in last.items():
        mine = layer.counts.setdefault(counter, {})
        for key, value in values.items():
            mine[key] = mine.get(key, 0.0) + value - first.get(counter, {}).get(key, 0.0)


@dataclass(frozen=True)
class Lookups:
    """Look-ups from inside the pods between two times.

    :param failed: those without an answer that says yes or no (NOERROR, NXDOMAIN). :param outcomes: outcome → number.
    :param recovered_s: from the first failure to the last, 0 without any.
    """

    count: int
    failed: int
    p50_ms: float
    p99_ms: float
    outcomes: Mapping[str, int]
    recovered_s: float = 0.0


def lookups(arm: ArmHistory, span: Span | None = None) -> Lookups | None:
    """The look-ups that began in ``span`` (default: :func:`stretch`); None when there were none. Failed ones count with the time they took."""
    within = span or stretch(arm)
    if within is None:
        return None
    rows = [(float(e["ms"]), str(e["outcome"]), int(e["t"])) for e in arm.events("lookup") if within.begin <= e["t"] - e["ms"] * 1e6 <= within.end]
    if not rows:
        return None
    outcomes: dict[str, int] = {}
    for _, outcome, _ in rows:
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    bad = [t for _, outcome, t in rows if outcome not in ("NOERROR", "NXDOMAIN")]
    times = [ms for ms, _, _ in rows]
    return Lookups(len(rows), len(bad), nearest_rank(times, 0.5), nearest_rank(times, 0.99), dict(sorted(outcomes.items())), (max(bad) - min(bad)) / SECOND if bad else 0.0)


def path_problems(arm: ArmHistory) -> list[str]:
    """Why what pods ask is not what arrives where it is sent, a sentence each, by ``dns_path``; [] when nothing is wrong, or nobody looked."""
    problems = []
    for e in arm.events("dns_path"):
        if e["arrived"] != e["asked"]:
            meaning = "a second DNS cache is in the path" if e["arrived"] < e["asked"] else "somebody else asks the same, or they are asked twice"
            problems.append(f"{e['pod']} asked {e['asked']} times, {e['arrived']:.0f} arrived at {', '.join(e['first']) or 'no server'}: {meaning}")
        if e["host_network"]:
            problems.append(f"on their node's network (hostNetwork), so that their queries are not theirs alone: {', '.join(e['host_network'])}")
        if e.get("chroot"):
            problems.append(f"{e['pod']}: {e['chroot']}")
    return problems


def mails(arm: ArmHistory) -> int:
    """Mails that were acknowledged for one recipient at least."""
    return int(arm.one(f"SELECT count(DISTINCT mail) FROM dones WHERE outcome = {int(Outcome.OK)}"))


def of_mail(kind: str) -> bool:
    """Whether queries of this type come from mail."""
    return kind not in NOT_MAIL

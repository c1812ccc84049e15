"""The query tree of one operation: name tried → type → transport → attempts → answer. Pure: records in, tree out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.model.dns import ANSWER, QUERY, DnsRecord

#: Stub resolvers wait a second or more before they ask again; what goes to another server sooner was sent side by side.
PARALLEL_NS = 200_000_000
_SETTLED = frozenset({"NOERROR", "NXDOMAIN"})


class Kind(StrEnum):
    """Why a query was sent, judged by what was known on the wire when it was."""

    FIRST = "first"
    RETRY = "retry"  #: no answer so far, or one that says "not me, not now" (SERVFAIL, REFUSED, …)
    TCP = "tcp-after-truncation"  #: glibc asks both types over TCP as soon as one answer about the name is truncated
    PARALLEL = "parallel"  #: the same question to another server, not waiting for the first
    AGAIN = "again"  #: it had been answered: another look-up of the same, no retry


@dataclass(frozen=True)
class Attempt:
    """One query on the wire, and the answer to it (None: none came)."""

    kind: Kind
    query: DnsRecord
    answer: DnsRecord | None

    @property
    def outcome(self) -> str:
        """``no answer``, ``truncated``, an rcode, or ``NODATA`` for NOERROR without records."""
        if self.answer is None:
            return "no answer"
        if self.answer.truncated:
            return "truncated"
        return "NODATA" if self.answer.rcode == "NOERROR" and not self.answer.answers else self.answer.rcode


@dataclass(frozen=True)
class TransportUsed:
    """The attempts over one transport, in order."""

    transport: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class TypeAsked:
    """One type asked of one name. Transports in the order of their first use."""

    qtype: str
    transports: tuple[TransportUsed, ...]

    @property
    def attempts(self) -> Iterator[Attempt]:
        return (a for t in self.transports for a in t.attempts)


@dataclass(frozen=True)
class NameTried:
    """One name on the wire, types in the order of their first query."""

    name: str
    types: tuple[TypeAsked, ...]


@dataclass(frozen=True)
class QueryTree:
    """What one operation asked.

    :param name: what the operation was about, as given.
    :param names: names tried, in the order of their first query.
    :param strays: answers that belong to no query, second answers to one query included.
    :param others: queries about other names in the same capture; not in the tree and not counted.
    """

    name: str
    names: tuple[NameTried, ...]
    strays: tuple[DnsRecord, ...] = ()
    others: int = 0

    @property
    def attempts(self) -> Iterator[Attempt]:
        return (a for n in self.names for t in n.types for a in t.attempts)

    @property
    def queries(self) -> int:
        """Queries on the wire, retries included."""
        return sum(1 for _ in self.attempts)

    @property
    def distinct(self) -> int:
        """Different questions: pairs of name and type."""
        return sum(len(n.types) for n in self.names)

    def count(self, kind: Kind) -> int:
        """Queries sent for this reason."""
        return sum(a.kind is kind for a in self.attempts)

    @property
    def unanswered(self) -> int:
        """Queries that nobody answered within the capture."""
        return sum(a.answer is None for a in self.attempts)


def query_tree(records: Iterable[DnsRecord], name: str) -> QueryTree:
    """The tree of the operation about ``name``.

    :param records: everything captured between the beginning and the quiet end of the operation, in any order.
    :param name: the name as it was handed to the resolver; what begins with it belongs to the tree (search domains are appended to it).

    Limits: two operations about one name at the same time cannot be told apart; give each a name of its own (a nonce).
    A CNAME chased by the client asks about another name and stands under ``others``.
    """
    ordered = sorted(records, key=lambda r: r.t_ns)
    answers, strays = paired(ordered)
    wanted = [r for r in ordered if r.direction == QUERY and _about(r.qname, name)]
    others = sum(r.direction == QUERY for r in ordered) - len(wanted)
    names = tuple(
        NameTried(tried, tuple(_type(t, [r for r in mine if r.qtype == t], answers, _cut(mine, answers)) for t in _first_seen(r.qtype for r in mine)))
        for tried in _first_seen(r.qname.lower() for r in wanted)
        for mine in [[r for r in wanted if r.qname.lower() == tried]]
    )
    return QueryTree(name, names, tuple(strays), others)


def _about(qname: str, name: str) -> bool:
    stem = name.lower().rstrip(".") + "."
    return qname.lower() == stem if name.endswith(".") else qname.lower().startswith(stem)


def _first_seen(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _key(record: DnsRecord) -> tuple[object, ...]:
    return (record.client, record.server, record.transport, record.id)


def paired(ordered: Sequence[DnsRecord]) -> tuple[dict[int, DnsRecord], list[DnsRecord]]:
    """Answer of each query (by ``id()`` of the query), and the answers left over. The oldest open query gets the answer.

    :param ordered: records by time.
    """
    waiting: dict[tuple[object, ...], list[DnsRecord]] = {}
    answers: dict[int, DnsRecord] = {}
    strays = []
    for record in ordered:
        queue = waiting.setdefault(_key(record), [])
        if record.direction != ANSWER:
            queue.append(record)
            continue
        match = next((q for q in queue if _same_question(q, record)), None)
        if match is None:
            strays.append(record)
        else:
            queue.remove(match)
            answers[id(match)] = record
    return answers, strays


def _same_question(query: DnsRecord, answer: DnsRecord) -> bool:
    """An answer without a question (FORMERR, say) is matched by its id alone."""
    return not answer.qname or (query.qname.lower(), query.qtype) == (answer.qname.lower(), answer.qtype)


def _cut(queries: Sequence[DnsRecord], answers: dict[int, DnsRecord]) -> int | None:
    """When the first truncated answer to one of ``queries`` was seen."""
    return min((a.t_ns for q in queries if (a := answers.get(id(q))) is not None and a.truncated), default=None)


def _type(qtype: str, queries: Sequence[DnsRecord], answers: dict[int, DnsRecord], cut: int | None) -> TypeAsked:
    attempts: list[Attempt] = []
    for query in queries:
        attempts.append(Attempt(_kind(query, attempts, cut), query, answers.get(id(query))))
    return TypeAsked(qtype, tuple(
        TransportUsed(t, tuple(a for a in attempts if a.query.transport == t)) for t in _first_seen(q.transport for q in queries)
    ))


def _kind(query: DnsRecord, earlier: Sequence[Attempt], cut: int | None) -> Kind:
    if not earlier:
        return Kind.FIRST
    if query.transport == "tcp" and cut is not None and cut <= query.t_ns and all(a.query.transport == "udp" for a in earlier):
        return Kind.TCP
    known = [a.answer for a in earlier if a.answer is not None and a.answer.t_ns <= query.t_ns]
    if any(a.rcode in _SETTLED and not a.truncated for a in known):
        return Kind.AGAIN
    elsewhere = all(a.query.server != query.server for a in earlier)
    if not known and elsewhere and query.t_ns - earlier[0].query.t_ns < PARALLEL_NS:
        return Kind.PARALLEL
    return Kind.RETRY

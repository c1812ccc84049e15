"""Queries per operation, each measured in a real pod of the arm: look-ups by several resolvers, and what mail servers ask of their own.

A stub resolver's row is one look-up of a name that nobody else asks for (a *nonce* name, so no cache knows it) in the network of an mx pod with
its resolv.conf. A mail server's rows are one conversation with it from inside its pod: everything that the pod asks meanwhile, grouped by what it
is about; its pod has no other work then. Nothing is delivered: the conversations end before DATA, or the mail is refused and its bounce
has nobody to go to (null sender, RFC 5321 §4.5.5). Talk: T30. Sources: smtpd_peer.c, smtp_addr.c and dns_lookup.c of Postfix; RFC 1034.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any

from harness.dns.capture import Capture, capturing
from harness.dns.conversation import Line, talk_to
from harness.dns.count import Case, Counted, Place, count, scratch_directory
from harness.dns.decode import decode
from harness.dns.libcs import LIBCS, Program, program, python_of_the_pod
from harness.dns.netns import inside
from harness.dns.pod import place_of
from harness.errors import CommandFailed, NotReady, NotSupported
from harness.model.dns import QUERY, DnsRecord
from harness.model.dnspurpose import REVERSE, Names
from harness.support.checkout import Checkout
from harness.support.clock import now_ns, wait_for

#: What ``dns.look_ups`` of a plan may name.
RESOLVERS = (*LIBCS, "python", "postfix", "dovecot")
_AT = "mx"
_NDOTS = "ndots:"
_QUIET_S, _QUIET_MAX_S = 1.5, 20.0
_TITLES = {"glibc": "glibc getaddrinfo", "musl": "musl getaddrinfo", "go": "Go resolver", "python": "Python getaddrinfo, in the pod"}
#: Addresses of RFC 5737 that the load does not send from; the made-up internet has a name for every one, and none for 198.18.0.0/15 (RFC 2544).
_NAMED_CLIENT, _NAMELESS_CLIENT = "203.0.113.201", "198.18.0.9"


@dataclass(frozen=True)
class Bench:
    """Where measuring is done. ``processes``: component → process of one of its pods."""

    processes: Mapping[str, Path]
    namespace: str
    cluster_domain: str
    mail_domain: str
    names: Names
    nonce: str


def measured(bench: Bench, resolvers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each cell of the table, as it is measured; ``flaws`` says why a cell is none.

    Keys: ``who``, ``version``, ``operation``, ``about``, ``name``, ``ndots``, ``queries``, ``types`` (type → queries), ``unanswered``,
    ``found`` (the look-up had a result), ``flaws``, ``talk`` (the talk's number or None).
    """
    serial = numbers(1)
    for one in resolvers:
        yield from _MAIL[one](bench, serial) if one in _MAIL else _stub(bench, one, serial)


def _row(who: str, operation: str, about: str, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"version": "", "name": "", "ndots": None, "queries": None, "types": {}, "unanswered": 0, "found": None, "flaws": [], "talk": None}
    return {"who": who, "operation": operation, "about": about, **empty, **more}


# -- stub resolvers ---------------------------------------------------------------------------------------------------
def _cases(bench: Bench, serial: Iterator[int]) -> Iterator[tuple[str, str, str]]:
    """(about, name, family) of every look-up."""
    service = f"filter.{bench.namespace}"
    full = f"{service}.svc.{bench.cluster_domain}"

    def nonce(zone: str) -> str:
        return f"{bench.nonce}-{next(serial)}.{zone}.example.net"

    yield "existing name", nonce("nonce"), "any"
    yield "existing name, A only", nonce("nonce"), "ipv4"
    yield "existing name, trailing dot", nonce("nonce") + ".", "any"
    yield "missing name", nonce("gone"), "any"
    yield "missing name, trailing dot", nonce("gone") + ".", "any"
    yield "service, short name", service, "any"
    yield "service, fully qualified", full, "any"
    yield "service, trailing dot", full + ".", "any"


def _stub(bench: Bench, resolver: str, serial: Iterator[int]) -> Iterator[dict[str, Any]]:
    who = _TITLES[resolver]
    try:
        made = python_of_the_pod() if resolver == "python" else program(resolver, Checkout.find())
        place = place_of(_process(bench, _AT), f"a pod of {_AT}")
        ndots = ndots_of(place)
    except (NotSupported, NotReady) as lacking:
        yield _row(who, "look-up", "", flaws=[f"not supported here: {lacking}"])
        return
    with scratch_directory() as scratch:
        for n, (about, name, family) in enumerate(_cases(bench, serial)):
            yield _looked_up(who, made, place, Case(name, resolver, ndots, family), about, scratch / str(n))


def _looked_up(who: str, made: Program, place: Place, case: Case, about: str, scratch: Path) -> dict[str, Any]:
    operation = "look-up, A and AAAA" if case.family == "any" else "look-up, A"
    try:
        found = count(place, made, case, scratch)
    except (CommandFailed, NotReady, NotSupported) as error:
        return _row(who, operation, about, version=made.version, name=case.name, ndots=case.ndots, flaws=[str(error)])
    types = Counter(a.query.qtype for a in found.tree.attempts)
    return _row(
        who, operation, about, version=made.version, name=case.name, ndots=case.ndots, queries=found.tree.queries, types=dict(sorted(types.items())),
        unanswered=found.tree.unanswered, found=bool(found.found), flaws=list(found.flaws), talk=_talk(found, about),
    )


def _talk(found: Counted, about: str) -> int | None:
    return found.talk if about == "existing name" else None


def ndots_of(place: Place) -> int:
    """What the pod's resolv.conf says (resolv.conf(5): 1 where it says nothing)."""
    given = [o.removeprefix(_NDOTS) for o in place.config.options if o.startswith(_NDOTS)]
    return int(given[-1]) if given else 1


def _process(bench: Bench, component: str) -> Path:
    """:raises NotSupported: the plan captures no such component, so none of its pods is known."""
    if component not in bench.processes:
        raise NotSupported(f"'{component}' is not among the captured components")
    return bench.processes[component]


# -- mail servers -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Operation:
    """One conversation. ``client``: said in a PROXY header, "" = none is sent. ``names``: what a query is about → how the table calls it."""

    who: str
    what: str
    component: str
    port: int
    lines: tuple[Line, ...]
    client: str = ""
    names: Callable[[str, str], str] = lambda what, qtype: what


def _postfix(bench: Bench, serial: Iterator[int]) -> Iterator[dict[str, Any]]:
    user = f"user1@{bench.mail_domain}"
    session = (Line("", "220"), Line("EHLO probe.example.net", "250"), Line("MAIL FROM:<>", "250"), Line(f"RCPT TO:<{user}>", "250"), Line("QUIT", "221"))
    for what, client in (("session of a client with a name", _NAMED_CLIENT), ("session of a client without a name", _NAMELESS_CLIENT)):
        yield from _asked(bench, _Operation("Postfix smtpd", what, "mx", 25, session, client, _of_smtpd))
    for what, rcpt in (("delivery by MX", f"reject@{bench.nonce}-{next(serial)}.nonce.example.net"), ("delivery, no such domain", f"x@{bench.nonce}-{next(serial)}.gone.example.net")):
        yield from _asked(bench, _Operation("Postfix smtp", what, "outbound", 25, _mail_to(rcpt), "", _of_smtp))


def _dovecot(bench: Bench, serial: Iterator[int]) -> Iterator[dict[str, Any]]:
    lines = (Line("", "220"), Line("LHLO probe.example.net", "250"), Line("MAIL FROM:<>", "250"), Line(f"RCPT TO:<user1@{bench.mail_domain}>", "250"), Line("QUIT", "221"))
    yield from _asked(bench, _Operation("Dovecot proxy", "LMTP session", "mailbox-proxy", 24, lines))


_MAIL: Mapping[str, Callable[[Bench, Iterator[int]], Iterator[dict[str, Any]]]] = {"postfix": _postfix, "dovecot": _dovecot}


def _mail_to(rcpt: str) -> tuple[Line, ...]:
    return (
        Line("", "220"), Line("EHLO localhost", "250"), Line("MAIL FROM:<>", "250"), Line(f"RCPT TO:<{rcpt}>", "250"), Line("DATA", "354"),
        Line("Subject: a look-up\r\n\r\n.", "250"), Line("QUIT", "221"),
    )


def _of_smtpd(what: str, qtype: str) -> str:
    if what == REVERSE:
        return "client's address to its name"
    return "client's name back to its address" if what.startswith("client-") else f"{what} (milter)" if what == "service filter" else what


def _of_smtp(what: str, qtype: str) -> str:
    return "MX of the domain" if qtype == "MX" else "address of the MX host" if what.startswith("service internet") else f"{qtype} of the domain"


def _asked(bench: Bench, op: _Operation) -> Iterator[dict[str, Any]]:
    """One row for each thing that the pod asked about."""
    try:
        process = _process(bench, op.component)
        ndots = ndots_of(place_of(process, f"a pod of {op.component}"))
        with scratch_directory() as scratch:
            with capturing(process / "ns" / "net", scratch / "operation.pcap") as capture:
                inside(process / "ns" / "net", lambda: _converse(op))
                _until_quiet(capture)
            seen = decode(capture)
    except (NotReady, NotSupported, CommandFailed, OSError) as error:
        yield _row(op.who, op.what, "", flaws=[str(error)])
        return
    flaws = list(seen.quality.flaws)
    for about, queries in _grouped(bench.names, op, seen.queries).items():
        types = Counter(q.qtype for q in queries)
        yield _row(op.who, op.what, about, name=queries[-1].qname, ndots=ndots, queries=len(queries), types=dict(sorted(types.items())), found=True, flaws=flaws)
    if not seen.queries:
        yield _row(op.who, op.what, "nothing", ndots=ndots, queries=0, found=True, flaws=flaws)


def _grouped(names: Names, op: _Operation, queries: Sequence[DnsRecord]) -> dict[str, list[DnsRecord]]:
    found: dict[str, list[DnsRecord]] = {}
    for query in queries:
        assert query.direction == QUERY
        found.setdefault(op.names(names.purpose(query.qname, query.qtype).what, query.qtype), []).append(query)
    return found


def _converse(op: _Operation) -> None:
    with socket.create_connection(("127.0.0.1", op.port), timeout=20) as connection:
        if op.client:
            connection.sendall(f"PROXY TCP4 {op.client} 127.0.0.1 9 {op.port}\r\n".encode())
        talk_to(connection, op.lines)


def _until_quiet(capture: Capture) -> None:
    """:raises NotReady: the pod goes on asking."""
    seen, since = -1, now_ns()

    def still() -> bool:
        nonlocal seen, since
        if capture.taken != seen:
            seen, since = capture.taken, now_ns()
        return now_ns() - since >= _QUIET_S * 1e9

    wait_for(still, deadline_s=_QUIET_MAX_S, what="the pod to ask nothing more", every_s=0.05)

"""What goes wrong with DNS on demand: rules that pick queries by type, zone, source and rate, and the answers they make.

Sources: RFC 1035 §4.1.1 (rcodes, TC), RFC 2308 (negative answers carry a SOA), RFC 8020.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from harness.errors import UsageError

_TTL = 5
_DELAY_MAX_S = 60.0


class Fault(StrEnum):
    """What happens to a query that a rule picks."""

    DELAY = "delay"  #: it is passed on ``delay_s`` later
    DROP = "drop"  #: nobody answers
    SERVFAIL = "servfail"
    NXDOMAIN = "nxdomain"
    TRUNCATE = "truncate"  #: over UDP an empty answer with TC; over TCP it passes
    WRONG = "wrong"  #: the rule's own ``data`` as the answer, a false DNSBL listing for instance
    REFUSE_TCP = "refuse-tcp"  #: the connection is reset; by source before a byte is read, by type or zone when the query is known


@dataclass(frozen=True)
class Rule:
    """One fault and the queries it strikes. Empty selectors mean "any"; of several rules the first that picks a query strikes.

    :param qtypes: e.g. ``MX``, ``TXT``. :param zones: a zone picks itself and all below it.
    :param sources: addresses or networks of clients. :param rate: share of the queries picked (0 < rate ≤ 1), by a seeded draw.
    :param delay_s: for DELAY. :param data: for WRONG: type → data of the false records; other types are not struck.
    :raises UsageError: a selector or value that cannot be.
    """

    fault: Fault
    qtypes: frozenset[str] = frozenset()
    zones: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    rate: float = 1.0
    delay_s: float = 0.0
    data: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise UsageError(f"rate is a share above 0 and up to 1, not {self.rate:g}", where=f"DNS fault {self.fault}")
        if (self.fault is Fault.DELAY) != (self.delay_s > 0) or self.delay_s > _DELAY_MAX_S:
            raise UsageError(f"delay_s belongs to 'delay' and is above 0 and up to {_DELAY_MAX_S:g} s", where=f"DNS fault {self.fault}")
        if (self.fault is Fault.WRONG) != bool(self.data):
            raise UsageError("data belongs to 'wrong', and 'wrong' needs it", where=f"DNS fault {self.fault}")
        try:
            [ipaddress.ip_network(s) for s in self.sources]
            [dns.name.from_text(z) for z in self.zones]
            [dns.rdatatype.from_text(t) for t in (*self.qtypes, *self.data)]
            [dns.rrset.from_text_list(".", _TTL, "IN", t, list(d)) for t, d in self.data.items()]
        except (ValueError, dns.exception.DNSException) as error:
            raise UsageError(f"not a network, zone, type or record data: {error or type(error).__name__}", where=f"DNS fault {self.fault}") from error

    @property
    def before_reading(self) -> bool:
        """Whether a connection can be judged by where it comes from alone."""
        return self.fault is Fault.REFUSE_TCP and not self.qtypes and not self.zones

    def from_source(self, source: str) -> bool:
        """Whether ``source`` is one of the sources."""
        return not self.sources or any(ipaddress.ip_address(source) in ipaddress.ip_network(s) for s in self.sources)

    def picks(self, query: dns.message.Message, source: str, transport: str) -> bool:
        """Whether the rule is about this query; its rate is not looked at."""
        if not query.question or not self.from_source(source):
            return False
        question = query.question[0]
        qtype = dns.rdatatype.to_text(question.rdtype)
        if (self.qtypes and qtype not in self.qtypes) or (self.data and qtype not in self.data):
            return False
        if self.zones and not any(question.name.is_subdomain(dns.name.from_text(z)) for z in self.zones):
            return False
        only = {Fault.TRUNCATE: "udp", Fault.REFUSE_TCP: "tcp"}.get(self.fault, transport)
        return transport == only


def false_answer(rule: Rule, query: dns.message.Message) -> bytes:
    """The answer that a striking SERVFAIL, NXDOMAIN, TRUNCATE or WRONG gives."""
    reply = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    if rule.fault is Fault.SERVFAIL:
        reply.set_rcode(dns.rcode.SERVFAIL)
    elif rule.fault is Fault.TRUNCATE:
        reply.flags |= dns.flags.TC
    elif rule.fault is Fault.NXDOMAIN:
        reply.set_rcode(dns.rcode.NXDOMAIN)
        zone = question.name.parent() if question.name != dns.name.root else question.name
        reply.authority.append(dns.rrset.from_text(zone, _TTL, "IN", "SOA", f"ns.invalid. lab.invalid. 1 3600 600 86400 {_TTL}"))
    else:
        qtype = dns.rdatatype.to_text(question.rdtype)
        reply.answer.append(dns.rrset.from_text_list(question.name, _TTL, "IN", qtype, list(rule.data[qtype])))
    return reply.to_wire()

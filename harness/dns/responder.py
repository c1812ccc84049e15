"""A small authoritative server for the whole tree of names: it holds what it is given, and nothing else exists.

For the laboratory without a cluster: real sockets, real wire format (dnspython), and a count of every query as a second opinion
to the capture. Answers as RFC 1034 §4.3.2 and RFC 2308 ask: NXDOMAIN with the SOA, NODATA for a name that exists or has names below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from harness.dns.serve import Asked, Nothing

_TTL = 60
_SOA = dns.rrset.from_text(".", _TTL, "IN", "SOA", "ns.invalid. lab.invalid. 1 3600 600 86400 60")
_PLAIN_UDP = 512


class Responder:
    """An :class:`harness.dns.serve.Answerer`.

    :param data: name (absolute) → type → data of its records in presentation format.
    :ivar asked: (name in lower case, type, transport) → how often.
    """

    def __init__(self, data: Mapping[str, Mapping[str, Iterable[str]]]) -> None:
        self._sets = {
            dns.name.from_text(name): {dns.rdatatype.from_text(t): dns.rrset.from_text_list(name, _TTL, "IN", t, list(d)) for t, d in types.items()}
            for name, types in data.items()
        }
        self.asked: Counter[tuple[str, str, str]] = Counter()

    def admits(self, source: str) -> bool:
        """Every connection is kept."""
        return True

    async def answer(self, asked: Asked) -> bytes | Nothing:
        """The answer to one query; silence to what is no query."""
        try:
            query = dns.message.from_wire(asked.wire)
        except dns.exception.DNSException:
            return Nothing.SILENCE
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return Nothing.SILENCE
        question = query.question[0]
        self.asked[question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype), asked.transport] += 1
        size = 65535 if asked.transport == "tcp" else max(query.payload or 0, _PLAIN_UDP)
        return self._reply(query, question.name, question.rdtype).to_wire(max_size=size, prefer_truncation=True)

    def _reply(self, query: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        found = self._sets.get(name, {}).get(rdtype)
        if found is not None:
            reply.answer.append(found)
            return reply
        reply.authority.append(_SOA)
        if not any(known.is_subdomain(name) for known in self._sets):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

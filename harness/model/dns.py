"""DNS as it was seen on the wire: one record for each message, and how whole the capture of them is."""

from __future__ import annotations

from dataclasses import dataclass

QUERY, ANSWER = "query", "answer"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a message."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One DNS message on the wire.

    :param t_ns: when it was seen, on the run's clock.
    :param direction: ``query`` or ``answer``, by the QR bit (RFC 1035 §4.1.1).
    :param client: who asks; :param server: who is asked. Both the same for a query and its answer.
    :param transport: ``udp`` or ``tcp``.
    :param qname: as asked, absolute (ends in a dot), case kept; "" where the message holds no question.
    :param rcode: ``NOERROR``, ``NXDOMAIN``, …; "" in a query. Limit: only the four bits of the header, EDNS' extension is not read.
    :param size: bytes of the DNS message, without TCP's length prefix.
    :param truncated: the TC bit.
    :param answers: number of records in the answer section.
    """

    t_ns: int
    direction: str
    client: Party
    server: Party
    transport: str
    id: int
    qname: str
    qtype: str
    rcode: str
    size: int
    truncated: bool = False
    answers: int = 0


@dataclass(frozen=True)
class CaptureQuality:
    """Whether a capture holds every message. A count from one that does not is no count.

    :param packets: packets that passed the filter, as the kernel counts them.
    :param drops: those of them that the kernel could not hand over (packet(7), PACKET_STATISTICS).
    :param cut: packets longer than what is read of one. :param fragments: first fragments of a fragmented datagram.
    :param gaps: TCP streams in which bytes are missing. :param midstream: TCP streams that began before the capture.
    :param undecoded: messages that are no DNS.
    :param broken: why the capture ended early, "" where it did not.
    """

    packets: int = 0
    drops: int = 0
    cut: int = 0
    fragments: int = 0
    gaps: int = 0
    midstream: int = 0
    undecoded: int = 0
    broken: str = ""

    @property
    def flaws(self) -> tuple[str, ...]:
        """A sentence for each reason why a count would not be exact; () = it is."""
        counted = (
            (self.drops, "packets dropped by the kernel"), (self.cut, "packets cut short"), (self.fragments, "datagrams in fragments"),
            (self.gaps, "TCP streams with missing bytes"), (self.midstream, "TCP streams that began before the capture"),
            (self.undecoded, "messages that are no DNS"),
        )
        found = [f"{number} {what}" for number, what in counted if number]
        return (*found, self.broken) if self.broken else tuple(found)

    @property
    def complete(self) -> bool:
        """Whether every message was seen and read."""
        return not self.flaws

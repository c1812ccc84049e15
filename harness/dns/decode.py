"""From a capture file to DNS records: UDP, and TCP put together again; decoded with dnspython."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from harness.dns.capture import Capture
from harness.dns.packets import Datagram, Fragment, Malformed, Segment, parse
from harness.dns.pcap import Captured, read_pcap
from harness.dns.streams import Streams
from harness.model.dns import ANSWER, QUERY, CaptureQuality, DnsRecord, Party


@dataclass(frozen=True)
class Decoded:
    """What a capture holds."""

    records: tuple[DnsRecord, ...]
    quality: CaptureQuality

    @property
    def queries(self) -> tuple[DnsRecord, ...]:
        """The queries among the records."""
        return tuple(r for r in self.records if r.direction == QUERY)


def decode(capture: Capture) -> Decoded:
    """The records of a stopped capture, with the kernel's drop counter in their quality."""
    found = decode_packets(read_pcap(capture.path), port=capture.port, wall_minus_run_ns=capture.wall_minus_run_ns)
    told, seen = capture, found.quality
    return Decoded(found.records, CaptureQuality(
        packets=told.packets, drops=told.drops, cut=told.cut, fragments=seen.fragments, gaps=seen.gaps, midstream=seen.midstream,
        undecoded=seen.undecoded, broken=told.broken,
    ))


def decode_file(path: Path) -> Decoded:
    """The records of any pcap file, tcpdump's for instance; times are those of day. Errors as of :func:`read_pcap`."""
    return decode_packets(read_pcap(path))


def decode_packets(packets: Iterable[Captured], *, port: int = 53, wall_minus_run_ns: int = 0) -> Decoded:
    """The DNS records in ``packets``.

    :param port: what neither comes from nor goes to it is left out.
    :param wall_minus_run_ns: taken off the packets' times.
    """
    reader = _Reader(port)
    for packet in packets:
        reader.take(packet.data, packet.wall_ns - wall_minus_run_ns)
    quality = CaptureQuality(
        packets=reader.packets, fragments=reader.fragments, gaps=reader.streams.gaps(), midstream=reader.streams.midstream, undecoded=reader.undecoded
    )
    return Decoded(tuple(reader.records), quality)


class _Reader:
    """Packets in, records out."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.records: list[DnsRecord] = []
        self.streams = Streams()
        self.packets = self.fragments = self.undecoded = 0

    def take(self, packet: bytes, t_ns: int) -> None:
        try:
            found = parse(packet)
        except Fragment:
            self.fragments += 1
            return
        except Malformed:
            self.undecoded += 1
            return
        if found is None or self._port not in (found.source.port, found.target.port):
            return
        self.packets += 1
        for message in self._messages(found):
            self._decode(message, found.source, found.target, "tcp" if isinstance(found, Segment) else "udp", t_ns)

    def _messages(self, found: Datagram | Segment) -> list[bytes]:
        return self.streams.feed(found) if isinstance(found, Segment) else [found.payload]

    def _decode(self, wire: bytes, source: Party, target: Party, transport: str, t_ns: int) -> None:
        try:
            message = dns.message.from_wire(wire, question_only=True)
        except (dns.exception.DNSException, ValueError):
            self.undecoded += 1
            return
        answer = bool(message.flags & dns.flags.QR)
        asked = message.question[:1]  # a question is an empty RRset, and that is false
        self.records.append(DnsRecord(
            t_ns=t_ns, direction=ANSWER if answer else QUERY, client=target if answer else source, server=source if answer else target,
            transport=transport, id=message.id, qname=asked[0].name.to_text() if asked else "",
            qtype=dns.rdatatype.to_text(asked[0].rdtype) if asked else "", rcode=dns.rcode.to_text(dns.rcode.Rcode(message.flags & 0xF)) if answer else "",
            size=len(wire), truncated=bool(message.flags & dns.flags.TC), answers=int.from_bytes(wire[6:8], "big"),
        ))

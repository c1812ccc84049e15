"""IP packets made by hand, and records as a capture gives them."""

from __future__ import annotations

import socket
import struct

from harness.model.dns import ANSWER, QUERY, DnsRecord, Party

CLIENT, SERVER = Party("192.0.2.1", 40000), Party("192.0.2.53", 53)
CLIENT6, SERVER6 = Party("2001:db8::1", 40000), Party("2001:db8::53", 53)
MS = 1_000_000


def udp(payload: bytes, source: Party, target: Party) -> bytes:
    return struct.pack("!HHHH", source.port, target.port, 8 + len(payload), 0) + payload


def tcp(payload: bytes, source: Party, target: Party, seq: int, flags: int = 0x10) -> bytes:
    return struct.pack("!HHIIBBHHH", source.port, target.port, seq, 0, 5 << 4, flags, 0, 0, 0) + payload


def ipv4(protocol: int, body: bytes, source: Party, target: Party, *, fragment: int = 0, options: bytes = b"", total: int | None = None) -> bytes:
    head = 20 + len(options)
    return struct.pack(
        "!BBHHHBBH4s4s", 0x40 | head // 4, 0, head + len(body) if total is None else total, 0, fragment, 64, protocol, 0,
        socket.inet_aton(source.address), socket.inet_aton(target.address),
    ) + options + body


def ipv6(protocol: int, body: bytes, source: Party, target: Party) -> bytes:
    ends = (socket.inet_pton(socket.AF_INET6, p.address) for p in (source, target))
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + b"".join(ends) + body


def query(
    name: str, qtype: str = "A", *, ms: int = 0, id: int = 1, server: Party = SERVER, client: Party = CLIENT, transport: str = "udp"
) -> DnsRecord:
    return DnsRecord(ms * MS, QUERY, client, server, transport, id, name, qtype, "", 40)


def answer(to: DnsRecord, rcode: str = "NOERROR", *, ms: int = 1, truncated: bool = False, answers: int = 1) -> DnsRecord:
    return DnsRecord(to.t_ns + ms * MS, ANSWER, to.client, to.server, to.transport, to.id, to.qname, to.qtype, rcode, 80, truncated, answers)

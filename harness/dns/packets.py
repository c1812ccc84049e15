"""IP packets taken apart as far as DNS needs it: UDP datagrams and TCP segments, IPv4 and IPv6.

Sources: RFC 791, 768, 9293, 8200 §4 (extension headers). Checksums are not looked at: a capture on the sending side sees them
before the network card has filled them in. Limit: fragments are recognised, not put together.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from harness.model.dns import Party

_TCP, _UDP = 6, 17
_FRAGMENT = 44
#: IPv6 extension headers that are skipped: hop-by-hop, routing, destination options, mobility, HIP, shim6.
_SKIPPED = frozenset({0, 43, 60, 135, 139, 140})
_AUTHENTICATION = 51
_HEADERS_MAX = 16
SYN = 0x02


class Fragment(Exception):
    """A packet that is a part of a datagram."""


class Malformed(Exception):
    """Bytes that are no IP packet, or one that ends too early."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram."""

    source: Party
    target: Party
    payload: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. ``seq`` is that of its first payload byte, or of its SYN."""

    source: Party
    target: Party
    seq: int
    flags: int
    payload: bytes


def parse(packet: bytes) -> Datagram | Segment | None:
    """What ``packet`` (from the network header on) carries; None for neither UDP nor TCP.

    :raises Fragment: a part of a fragmented datagram. :raises Malformed: it ends too early.
    """
    try:
        version = packet[0] >> 4
        if version == 4:
            return _ipv4(packet)
        if version == 6:
            return _ipv6(packet)
    except (struct.error, IndexError, ValueError):
        raise Malformed("a packet that ends too early") from None
    raise Malformed(f"IP version {version}")


def _ipv4(packet: bytes) -> Datagram | Segment | None:
    head = (packet[0] & 0x0F) * 4
    total, flags, protocol = *struct.unpack_from("!H2xH", packet, 2), packet[9]
    if flags & 0x3FFF:  # more fragments, or an offset
        raise Fragment
    source, target = (socket.inet_ntop(socket.AF_INET, packet[i:i + 4]) for i in (12, 16))
    return _transport(protocol, packet[head:total or None], source, target)  # 0: set by segmentation offload, all is there


def _ipv6(packet: bytes) -> Datagram | Segment | None:
    length, following = struct.unpack_from("!HB", packet, 4)
    at, end = 40, 40 + length if length else len(packet)
    for _ in range(_HEADERS_MAX):
        if following == _FRAGMENT:
            raise Fragment
        if following in _SKIPPED:
            following, at = packet[at], at + 8 + packet[at + 1] * 8
        elif following == _AUTHENTICATION:
            following, at = packet[at], at + 8 + packet[at + 1] * 4
        else:
            break
    source, target = (socket.inet_ntop(socket.AF_INET6, packet[i:i + 16]) for i in (8, 24))
    return _transport(following, packet[at:end], source, target)


def _transport(protocol: int, data: bytes, source: str, target: str) -> Datagram | Segment | None:
    if protocol not in (_UDP, _TCP):
        return None
    from_port, to_port = struct.unpack_from("!HH", data)
    ends = Party(source, from_port), Party(target, to_port)
    if protocol == _UDP:
        (length,) = struct.unpack_from("!H", data, 4)
        if length > len(data):
            raise Malformed("a datagram that ends too early")
        return Datagram(*ends, data[8:length or None])
    seq, offset, flags = struct.unpack_from("!I4xBB", data, 4)
    return Segment(*ends, seq, flags, data[(offset >> 4) * 4:])

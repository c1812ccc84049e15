"""PROXY protocol version 2: which client this connection speaks for.

Source: haproxy ``doc/proxy-protocol.txt`` section 2.2. Only command PROXY over TCP is made, without TLVs. Where client and
destination differ in family, IPv4 addresses are mapped into IPv6.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def header(client: str, client_port: int, server: str, server_port: int) -> bytes:
    """The header to send before anything else.

    :param client: the address the server shall see. :param server: the address this connection goes to.
    :raises ValueError: not IP addresses.
    """
    source, target = _address(client), _address(server)
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        family, addresses = 0x11, source.packed + target.packed
    else:
        family, addresses = 0x21, _six(source).packed + _six(target).packed
    body = addresses + struct.pack(">HH", client_port, server_port)
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(body)) + body


@lru_cache(maxsize=65536)
def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text.partition("%")[0])


def _six(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")

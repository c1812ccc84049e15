"""An open loop of DNS queries over UDP, as pods ask their node cache: sent when they are due, whatever became of those before.

Each query has a name of its own, one answer to wait for and one deadline; nothing is asked again (resolv.conf(5) would, and hide
what is counted here). Sockets are made in the network namespace of a node, so that pods are reached without a change to either.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from harness.dns.netns import inside
from harness.errors import NotReady
from harness.model.dnslab import OK, OTHER, PORTS, SERVFAIL, TIMEOUT

_BUFFER = 4 << 20


@dataclass
class Waiting:
    """A query that was sent. Times are those of the event loop, in seconds."""

    message: dns.message.Message
    due: float
    sent: float
    deadline: asyncio.TimerHandle


#: Told of every query that has ended: (due, seconds from due to the end, letter of what became of it).
Ended = Callable[[float, float, str], None]


class Asker(asyncio.DatagramProtocol):
    """One socket to one port of one cache."""

    def __init__(self, ended: Ended, timeout_s: float) -> None:
        self._ended, self._timeout_s = ended, timeout_s
        self._waiting: dict[int, Waiting] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def error_received(self, exc: Exception) -> None:
        """ICMP told of a closed port: the queries run into their deadlines."""

    def ask(self, name: str, due: float) -> None:
        """Ask for the A record of ``name``."""
        assert self._transport is not None
        loop, message = asyncio.get_running_loop(), dns.message.make_query(name, dns.rdatatype.A)
        while message.id in self._waiting:
            message.id = random.getrandbits(16)
        deadline = loop.call_at(max(due, loop.time()) + self._timeout_s, self._late, message.id)
        self._waiting[message.id] = Waiting(message, due, loop.time(), deadline)
        self._transport.sendto(message.to_wire())

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with suppress(dns.exception.DNSException):
            answer = dns.message.from_wire(data, ignore_trailing=True)
            known = self._waiting.get(answer.id)
            if known is not None and known.message.is_response(answer):
                known.deadline.cancel()
                self._end(answer.id, _letter(answer))

    @property
    def in_flight(self) -> int:
        """Queries that wait for their answer."""
        return len(self._waiting)

    def close(self) -> None:
        """Forget what waits and close the socket."""
        for one in self._waiting.values():
            one.deadline.cancel()
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    def _late(self, number: int) -> None:
        self._end(number, TIMEOUT)

    def _end(self, number: int, how: str) -> None:
        one = self._waiting.pop(number)
        self._ended(one.due, asyncio.get_running_loop().time() - one.due, how)


def _letter(answer: dns.message.Message) -> str:
    if answer.rcode() == dns.rcode.NOERROR:
        return OK if answer.answer else OTHER
    return SERVFAIL if answer.rcode() == dns.rcode.SERVFAIL else OTHER


async def open_askers(
    addresses: Sequence[str], network: Path, ended: Ended, timeout_s: float, *, ports: Mapping[str, int] = PORTS
) -> dict[str, list[Asker]]:
    """Transport → an asker for each cache, in the order of ``addresses``.

    :param network: the network namespace in which the sockets are made.
    :raises NotReady: it cannot be entered, or an address cannot be reached.
    """
    loop = asyncio.get_running_loop()
    wanted = [(way, address, port) for way, port in ports.items() for address in addresses]
    try:
        sockets = inside(network, lambda: [_connected(address, port) for _, address, port in wanted])
    except OSError as error:
        raise NotReady(f"the node caches cannot be reached: {error.strerror}", where=str(network)) from error
    found: dict[str, list[Asker]] = {}
    for (way, _, _), made in zip(wanted, sockets, strict=True):
        _, asker = await loop.create_datagram_endpoint(lambda: Asker(ended, timeout_s), sock=made)
        found.setdefault(way, []).append(asker)
    return found


def _connected(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    made.setblocking(False)
    made.connect((address, port))
    return made

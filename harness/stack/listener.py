"""The canary listener of the isolation proof: TCP and UDP at this machine's addresses, remembering what arrived."""

from __future__ import annotations

import ipaddress
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.errors import GuardRefused
from harness.stack.deployed import Stack

_BYTES_MAX = 256
_SEEN_MAX = 1000


class Canary:
    """Listens on TCP and UDP at an address of this host and remembers which tokens arrived. Bounded in size."""

    def __init__(self, address: str) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tcp = socket.create_server((address, 0), family=family, backlog=16)
        self.port = int(self._tcp.getsockname()[1])
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((address, self.port))
        self._seen: dict[str, str] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        for one in (self._tcp, self._udp, self._woken):
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"canary {address}", daemon=True)
        self._thread.start()

    def heard(self, token: str) -> str:
        """Where ``token`` came from; "" when it did not arrive."""
        return self._seen.get(token, "")

    def close(self) -> None:
        """Stop listening."""
        self._wake.send(b"x")
        self._thread.join(5)
        for one in (self._tcp, self._udp, self._wake, self._woken):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                with suppress(OSError):
                    self._accept() if key.fileobj is self._tcp else self._receive()

    def _accept(self) -> None:
        connection, source = self._tcp.accept()
        with connection:
            connection.settimeout(1)
            self._note(connection.recv(_BYTES_MAX), source[0])

    def _receive(self) -> None:
        data, source = self._udp.recvfrom(_BYTES_MAX)
        self._note(data, source[0])

    def _note(self, data: bytes, source: str) -> None:
        if len(self._seen) < _SEEN_MAX:
            self._seen[data.decode(errors="replace").strip()] = source


@contextmanager
def canaries(stack: Stack) -> Iterator[list[Canary]]:
    """Listeners at the addresses under which the nodes see this host, one a family.

    :raises GuardRefused: this host has no address on the nodes' network.
    """
    made: list[Canary] = []
    try:
        for address in _host_addresses(stack):
            made.append(Canary(address))
        if not made:
            raise GuardRefused("this host has no address on the nodes' network, so nothing can be proven", where=stack.target.name)
        yield made
    finally:
        for one in made:
            one.close()


def _host_addresses(stack: Stack) -> list[str]:
    """The kernel's choice of source address towards the edge node, for each family; no packet is sent."""
    found = []
    for edge in stack.edges:
        with socket.socket(socket.AF_INET6 if ":" in edge else socket.AF_INET, socket.SOCK_DGRAM) as asked, suppress(OSError):
            asked.connect((edge, 9))
            address = str(asked.getsockname()[0])
            if not ipaddress.ip_address(address).is_loopback:
                found.append(address)
    return found

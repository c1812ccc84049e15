"""Sidecar of the edge in the variants ``edge-lag-*``: the lab's DNS as it was some time ago, so that the pool follows pods late (T03).

HAProxy finds its pool by name. Every name and type that it asks for is looked up five times a second, and a change of its addresses is
passed on ``LAG_S / TIME_SCALE`` seconds after it was seen. What a name had first is passed on at once, as a balancer that starts
reads its whole pool. With ``LOSE_REMOVALS=yes`` a change that only takes addresses away never arrives; the next other one brings the whole truth again.
While the lab's DNS does not answer, nothing changes, and it is asked from another port every two seconds: a flow that began before the DNS's Service
had a pod may be remembered by the node's connection tracking as one that leads nowhere. Source: RFC 1035, 4.1. Known limits: UDP only; 64 names.
"""

import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

A, AAAA = 1, 28
EVERY_S, RENEW_S, NAMES_MAX, DATAGRAM_MAX = 0.2, 2.0, 64, 4096


def skip_name(message: bytes, at: int) -> int:
    """The octet after the name at ``at``. Raises IndexError when it is cut off."""
    while (length := message[at]) != 0:
        if length & 0xC0:
            return at + 2
        at += 1 + length
    return at + 1


def question(message: bytes) -> bytes:
    """Name, type and class that are asked for. Raises IndexError or struct.error when it is none."""
    end = skip_name(message, 12) + 4
    if struct.unpack_from("!H", message, 4)[0] != 1 or len(message) < end:
        raise IndexError("not one question")
    return message[12:end]


def addresses(message: bytes) -> frozenset[str]:
    """Every address in the answer section."""
    count, at, found = struct.unpack_from("!H", message, 6)[0], skip_name(message, 12) + 4, set()
    for _ in range(count):
        at = skip_name(message, at)
        kind, _, _, length = struct.unpack_from("!HHIH", message, at)
        data, at = message[at + 10 : at + 10 + length], at + 10 + length
        if kind in (A, AAAA):
            found.add(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, data))
    return frozenset(found)


@dataclass
class Name:
    """One question, what is passed on as its answer, and the changes that are still under way."""

    query: bytes
    lag_s: float
    lose_removals: bool = False
    say: Callable[[str], None] = lambda text: None
    shown: bytes = b""
    seen: frozenset[str] = frozenset()
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def hear(self, answer: bytes, now: float) -> None:
        """An answer of the lab's DNS."""
        found = addresses(answer)
        if not self.shown or not (self.seen or addresses(self.shown)):
            self.shown, self.seen = answer, found
        elif found != self.seen:
            lost, self.seen = self.lose_removals and found < self.seen, found
            if lost:
                self.say(f"lost: {told(found)}")
            else:
                self.waiting.append((now + self.lag_s, answer))

    def answer(self, query: bytes, now: float) -> bytes:
        """The answer to ``query`` by now; empty while there is none."""
        while self.waiting and self.waiting[0][0] <= now:
            self.shown = self.waiting.popleft()[1]
            self.say(f"passed on after {self.lag_s:.1f} s: {told(addresses(self.shown))}")
        return query[:2] + self.shown[2:] if self.shown else b""


def told(found: frozenset[str]) -> str:
    return " ".join(sorted(found)) or "nobody"


def wire_name(asked: bytes) -> str:
    labels, at = [], 0
    while asked[at]:
        labels.append(asked[at + 1 : at + 1 + asked[at]].decode(errors="replace"))
        at += 1 + asked[at]
    return ".".join(labels)


class Relay:
    """Answers on ``own`` what it hears from the lab's DNS; ``connect`` makes a socket that leads there."""

    def __init__(self, own: socket.socket, connect: Callable[[], socket.socket], lag_s: float, lose_removals: bool) -> None:
        self.own, self.connect, self.lag_s, self.lose_removals = own, connect, lag_s, lose_removals
        own.setblocking(False)
        self._renew()
        self.names: dict[bytes, Name] = {}
        self.looked = 0.0

    def turn(self) -> None:
        """Wait a little for datagrams, and look names up when it is time."""
        for one in select.select([self.own, self.upstream], [], [], EVERY_S / 2)[0]:
            try:
                self._asked(*one.recvfrom(DATAGRAM_MAX)) if one is self.own else self._heard(one.recv(DATAGRAM_MAX))
            except (OSError, IndexError, struct.error):
                continue  # a datagram that is no DNS message, or nobody listens there now
        if time.monotonic() - self.heard >= RENEW_S:
            self.upstream.close()
            self._renew()
        if time.monotonic() - self.looked >= EVERY_S:
            self.looked = time.monotonic()
            for name in self.names.values():
                self._look_up(name)

    def _renew(self) -> None:
        self.upstream, self.heard = self.connect(), time.monotonic()
        # A socket may be called readable for a datagram whose checksum then turns out wrong (select(2), BUGS).
        self.upstream.setblocking(False)

    def _asked(self, query: bytes, who: tuple[str, int]) -> None:
        key, now = question(query), time.monotonic()
        if key not in self.names and len(self.names) < NAMES_MAX:
            said = f"{wire_name(key)} type {struct.unpack('!H', key[-4:-2])[0]}"
            self.names[key] = Name(query, self.lag_s, self.lose_removals, lambda text: print(f"pool: {said} {text}", flush=True))
            self._look_up(self.names[key])
        if key in self.names and (found := self.names[key].answer(query, now)):
            self.own.sendto(found, who)

    def _look_up(self, name: Name) -> None:
        try:
            self.upstream.send(name.query)
        except OSError:
            return  # refused or unreachable: asked again next time

    def _heard(self, answer: bytes) -> None:
        found, self.heard = self.names.get(question(answer)), time.monotonic()
        if found and answer[3] & 0x0F in (0, 3) and not answer[2] & 0x02:  # NOERROR or NXDOMAIN, and not cut off
            found.hear(answer, time.monotonic())


def main() -> None:
    host, _, port = os.environ["POOL_DNS"].rpartition(":")
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind((host, int(port)))
    address = os.environ["DNS_ADDRESS"]

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.connect((address, 53))
        return made

    lag_s = float(os.environ["LAG_S"]) / float(os.environ["TIME_SCALE"])
    print(f"pool: follows {lag_s:.1f} s late", flush=True)
    relay = Relay(own, connect, lag_s, os.environ.get("LOSE_REMOVALS") == "yes")
    while True:
        relay.turn()


if __name__ == "__main__":
    sys.exit(main())

"""The DNS fault proxy: between a resolver and its upstream, over UDP and TCP; without rules it only passes on.

What passes is passed byte for byte, over the transport it came by, so a proxy without rules is the control arm of every
fault. Each rule counts what it picked and what it struck: evidence that the fault took place. Limits: a TCP query gets an upstream
connection of its own, so connection reuse upstream is not that of the client; datagrams leave from a fresh port each.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import dns.exception
import dns.message

from harness.dns.faults import Fault, Rule, false_answer
from harness.dns.serve import Asked, Nothing, serving

_PREFIX = struct.Struct("!H")
#: Longer than any resolver waits for one answer.
_UPSTREAM_S = 15.0


@dataclass
class Struck:
    """What became of one rule: queries (or connections) it ``picked``, and those it ``struck``; the rate explains the difference."""

    rule: Rule
    picked: int = 0
    struck: int = 0


class FaultProxy:
    """An :class:`harness.dns.serve.Answerer` before the resolver at ``upstream``.

    :param upstream: address and port of the real resolver.
    :param seed: of the draws for rates below 1.
    :ivar seen: messages that came. :ivar passed: those passed on as they are, delayed ones included.
    :ivar unanswered: those of them that upstream did not answer. :ivar struck: per rule.
    """

    def __init__(self, upstream: tuple[str, int], rules: Sequence[Rule] = (), *, seed: int = 0) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self.struck = [Struck(rule) for rule in rules]
        self.seen = self.passed = self.unanswered = 0

    @property
    def listens_to_tcp(self) -> bool:
        """False where a rule refuses TCP to everybody: then there is no listener, and the kernel refuses (ECONNREFUSED), uncounted."""
        return not any(s.rule.before_reading and not s.rule.sources and s.rule.rate == 1.0 for s in self.struck)

    def admits(self, source: str) -> bool:
        """Whether no rule refuses connections from ``source``."""
        return not any(self._strikes(s) for s in self.struck if s.rule.before_reading and s.rule.from_source(source))

    async def answer(self, asked: Asked) -> bytes | Nothing:
        """Let the first rule that picks the message strike, else pass it on."""
        self.seen += 1
        struck = self._rule_for(asked)
        if struck is None:
            return await self._pass(asked)
        rule, query = struck
        if rule.fault is Fault.DELAY:
            await asyncio.sleep(rule.delay_s)
            return await self._pass(asked)
        if rule.fault is Fault.DROP:
            return Nothing.SILENCE
        return Nothing.RESET if rule.fault is Fault.REFUSE_TCP else false_answer(rule, query)

    def _rule_for(self, asked: Asked) -> tuple[Rule, dns.message.Message] | None:
        try:
            query = dns.message.from_wire(asked.wire)
        except dns.exception.DNSException:
            return None  # no DNS: upstream shall say what it says
        for one in self.struck:
            if not one.rule.before_reading and one.rule.picks(query, asked.source, asked.transport):
                return (one.rule, query) if self._strikes(one) else None
        return None

    def _strikes(self, one: Struck) -> bool:
        one.picked += 1
        hit = one.rule.rate >= 1.0 or self._random.random() < one.rule.rate
        one.struck += hit
        return hit

    async def _pass(self, asked: Asked) -> bytes | Nothing:
        self.passed += 1
        ask = _by_tcp if asked.transport == "tcp" else _by_udp
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_UPSTREAM_S):
                return await ask(self._upstream, asked.wire)
        self.unanswered += 1
        return Nothing.RESET if asked.transport == "tcp" else Nothing.SILENCE


async def _by_tcp(upstream: tuple[str, int], wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        writer.write(_PREFIX.pack(len(wire)) + wire)
        (length,) = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
        return await reader.readexactly(length)
    finally:
        writer.close()


class _Reply(asyncio.DatagramProtocol):
    """Waits for the answer with the query's id."""

    def __init__(self, wire: bytes) -> None:
        self._id = wire[:2]
        self.got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[:2] == self._id and not self.got.done():
            self.got.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.got.done():
            self.got.set_exception(exc)


async def _by_udp(upstream: tuple[str, int], wire: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, reply = await loop.create_datagram_endpoint(lambda: _Reply(wire), remote_addr=upstream)
    try:
        transport.sendto(wire)
        return await reply.got
    finally:
        transport.close()


@contextmanager
def fault_proxy(proxy: FaultProxy, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> Iterator[FaultProxy]:
    """Run ``proxy`` on bound sockets while the block runs; TCP sockets are closed at once where it refuses all TCP.

    Errors as of :func:`harness.dns.serve.serving`. Its upstream is reached from the network namespace of this process.
    """
    if not proxy.listens_to_tcp:
        for one in tcp:
            one.close()
    with serving(proxy, udp, tcp if proxy.listens_to_tcp else ()):
        yield proxy

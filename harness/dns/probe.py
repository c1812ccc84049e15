"""What the lab's DNS answers, asked over TCP through any connected socket (a port-forward, as a rule).

The lab must resolve its made-up internet and its own services, answer the foreign search domains with NXDOMAIN, and know nothing
of the real world: a mail can only leave if a name leads out. Talk: T09, T30. Source of the wire format: RFC 1035 §4.2.2 (TCP length prefix).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from harness.errors import NotReady


class Channel(Protocol):
    """What is needed of a connected stream socket."""

    def settimeout(self, value: float | None, /) -> None: ...

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


#: Opens a connection to the DNS; a socket is its own context manager.
Connect = Callable[[], AbstractContextManager[Channel]]
_HEAD = struct.Struct("!H")


@dataclass(frozen=True)
class Answer:
    """One answer: response code (``NOERROR``, ``NXDOMAIN``, …) and the data of the records of the asked type, sorted."""

    name: str
    type: str
    code: str
    data: tuple[str, ...]


@dataclass(frozen=True)
class Expectation:
    """What a name must answer: ``code``, and at least one record where ``some`` is true."""

    name: str
    type: str
    code: str = "NOERROR"
    some: bool = True
    why: str = ""


def ask(connect: Connect, name: str, rdtype: str, *, timeout_s: float = 5.0) -> Answer:
    """Ask one question over a TCP connection of its own.

    :param connect: opens the connection; it is closed here.
    :raises NotReady: no connection, no answer within ``timeout_s``, or bytes that are no answer to the question.
    """
    query = dns.message.make_query(name, rdtype)
    try:
        with connect() as channel:
            channel.settimeout(timeout_s)
            wire = query.to_wire()
            channel.sendall(_HEAD.pack(len(wire)) + wire)
            (length,) = _HEAD.unpack(_exactly(channel, _HEAD.size))
            reply = dns.message.from_wire(_exactly(channel, length))
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise NotReady(f"no answer about {name} {rdtype}: {error or type(error).__name__}", where="lab DNS") from error
    if not query.is_response(reply):
        raise NotReady(f"an answer to another question than {name} {rdtype}", where="lab DNS")
    return Answer(name, rdtype, dns.rcode.to_text(reply.rcode()), tuple(sorted(_data(reply, rdtype))))


def _exactly(channel: Channel, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = channel.recv(size - len(got))
        if not part:
            raise EOFError("connection closed")
        got += part
    return got


def _data(reply: dns.message.Message, rdtype: str) -> Iterable[str]:
    wanted = dns.rdatatype.from_text(rdtype)
    for rrset in reply.answer:
        if rrset.rdtype == wanted:
            yield from (record.to_text() for record in rrset)


def expectations(namespace: str, *, cluster_domain: str = "cluster.local", service: str = "mailbox-proxy") -> tuple[Expectation, ...]:
    """What the lab's DNS must answer for the stack in ``namespace``.

    :param service: one that the stack has.
    """
    inside = f"{namespace}.svc.{cluster_domain}."
    return (
        Expectation(f"{service}.{inside}", "A", why="services of the stack, by name (T09)"),
        Expectation("example.net.", "MX", why="the made-up internet"),
        Expectation("example.com.", "MX", why="the made-up internet"),
        Expectation(f"omgi.iij.ad.jp.default.svc.{cluster_domain}.", "A", "NXDOMAIN", False, "search domains end in NXDOMAIN (T30)"),
        Expectation("omgi.iij.ad.jp.test.example.com.", "A", "NXDOMAIN", False, "foreign search domains end in NXDOMAIN (T30)"),
        Expectation("www.debian.org.", "A", "NXDOMAIN", False, "the real world is not known here"),
    )


def differences(connect: Connect, wanted: Iterable[Expectation]) -> list[str]:
    """A sentence for every expectation that does not hold; [] = the lab's DNS is as it should be.

    :raises NotReady: the DNS does not answer at all.
    """
    found = []
    for one in wanted:
        answer = ask(connect, one.name, one.type)
        if answer.code != one.code or (one.some and not answer.data):
            found.append(f"{one.name} {one.type}: {answer.code} {' '.join(answer.data) or 'without data'}, wanted {one.code} ({one.why})")
    return found

"""The DNS probe against a real TCP socket that answers rightly, wrongly, or not at all."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.message
import dns.rcode
import dns.rrset
import pytest

from harness.dns.probe import Expectation, ask, differences, expectations
from harness.errors import NotReady

Reply = Callable[[dns.message.Message], bytes]


@contextmanager
def server(reply: Reply) -> Iterator[Callable[[], socket.socket]]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!H", self.request.recv(2))
            self.request.sendall(reply(dns.message.from_wire(self.request.recv(length))))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        yield lambda: socket.create_connection(listening.server_address, timeout=5)
        listening.shutdown()


def framed(message: dns.message.Message) -> bytes:
    wire = message.to_wire()
    return struct.pack("!H", len(wire)) + wire


def answering(zone: dict[tuple[str, str], str]) -> Reply:
    def reply(query: dns.message.Message) -> bytes:
        question = query.question[0]
        response = dns.message.make_response(query)
        data = zone.get((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        if data is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", dns.rdatatype.to_text(question.rdtype), data))
        return framed(response)

    return reply


LAB = {
    ("mailbox-proxy.mg.svc.cluster.local.", "A"): "10.96.1.1",
    ("example.net.", "MX"): "10 mx.example.net.",
    ("example.com.", "MX"): "10 mx.example.com.",
}


def test_a_right_lab_has_no_differences():
    with server(answering(LAB)) as connect:
        assert differences(connect, expectations("mg")) == []


def test_a_lab_that_knows_the_real_world_is_named():
    with server(answering({**LAB, ("www.debian.org.", "A"): "192.0.2.1"})) as connect:
        found = differences(connect, expectations("mg"))
    assert len(found) == 1
    assert "www.debian.org" in found[0]


def test_a_search_domain_that_answers_is_named():
    with server(answering({**LAB, ("omgi.iij.ad.jp.test.example.com.", "A"): "192.0.2.1"})) as connect:
        assert len(differences(connect, expectations("mg"))) == 1


def test_a_missing_service_is_named():
    with server(answering({})) as connect:
        assert any("mailbox-proxy" in f for f in differences(connect, expectations("mg")))


def test_the_records_come_back_sorted():
    with server(answering(LAB)) as connect:
        assert ask(connect, "example.net.", "MX").data == ("10 mx.example.net.",)


@pytest.mark.parametrize("reply", [lambda q: b"", lambda q: b"\x00\x05abc", lambda q: b"\x00\x03abc",
                                   lambda q: framed(dns.message.make_response(dns.message.make_query("other.", "A")))])
def test_what_is_no_answer_is_refused(reply: Reply):
    with server(reply) as connect, pytest.raises(NotReady):
        ask(connect, "example.net.", "MX", timeout_s=2)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    with pytest.raises(NotReady, match="no answer"):
        differences(lambda: socket.create_connection(address, timeout=1), [Expectation("example.net.", "MX")])

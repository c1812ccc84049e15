"""What passed a pod: every query that it sent is put down to a question that was open, and what cannot be stays unexplained."""

from __future__ import annotations

import pytest

from harness.model.dns import ANSWER, QUERY, DnsRecord, Party
from harness.model.dnsflow import Layer, Watched, passed
from harness.model.dnspurpose import PROBE, REVERSE, Names, Purpose

APP, DNS, UP = "10.0.0.1", "10.0.0.53", "10.96.0.9"
CLIENTS = {APP: "application", DNS: "cluster DNS"}
COREDNS = Watched("coredns-x", "dns", Layer.CLUSTER, frozenset({DNS}))


class Wire:
    """Messages as a capture in the server's pod sees them; each one a millisecond after the one before."""

    def __init__(self) -> None:
        self.t, self.port, self.records = 0, 1000, list[DnsRecord]()

    def add(self, direction: str, client: str, server: str, port: int, name: str, qtype: str, rcode: str = "") -> None:
        self.t += 1_000_000
        self.records.append(DnsRecord(self.t, direction, Party(client, port), Party(server, 53), "udp", port % 65536, name, qtype, rcode, 50, False, 1))

    def asked(self, name: str, qtype: str = "A", client: str = APP) -> int:
        self.port += 1
        self.add(QUERY, client, DNS, self.port, name, qtype)
        return self.port

    def answered(self, port: int, name: str, qtype: str = "A", client: str = APP) -> None:
        self.add(ANSWER, client, DNS, port, name, qtype, "NOERROR")

    def sent(self, name: str, qtype: str = "A", *, answer: bool = True) -> None:
        self.port += 1
        self.add(QUERY, DNS, UP, self.port, name, qtype)
        if answer:
            self.add(ANSWER, DNS, UP, self.port, name, qtype, "NOERROR")

    def passed(self, pod: Watched = COREDNS, begin: int = 0, end: int = 10**12):
        return passed(pod, self.records[::-1], begin_ns=begin, end_ns=end, clients=CLIENTS, own_zones=("cluster.local.",))


def exchange(wire: Wire, name: str, *upstream: tuple[str, str], qtype: str = "A") -> None:
    port = wire.asked(name, qtype)
    for asked in upstream:
        wire.sent(*asked)
    wire.answered(port, name, qtype)


def expected(found) -> int:
    return sum(found.received.values()) + sum(found.terms.values())


def test_each_query_has_its_reason():
    wire = Wire()
    exchange(wire, "a.example.net.", ("a.example.net.", "A"))
    exchange(wire, "a.example.net.")  # from the cache
    exchange(wire, "filter.ns.svc.cluster.local.")
    exchange(wire, "b.example.net.", ("B.example.net.", "A"), ("b.example.net.", "A"))  # asked again
    exchange(wire, "x.y.example.net.", ("net.", "A"), ("example.net.", "A"), ("x.y.example.net.", "AAAA"), qtype="AAAA")
    wire.sent(".", "NS")
    found = wire.passed()
    assert dict(found.received) == {"application": 5}
    assert dict(found.terms) == {"answered without asking further": -1, "of its own zone": -1, "retries": 1, "qname minimisation": 2, "health probes": 1}
    assert (found.sent, found.unexplained, expected(found)) == (7, 0, 7)


def test_a_query_without_a_question_is_unexplained():
    wire = Wire()
    exchange(wire, "a.example.net.", ("a.example.net.", "A"))
    wire.sent("a.example.net.")  # after the answer
    wire.sent("stranger.example.com.")
    found = wire.passed()
    assert (found.sent, found.unexplained, found.sent - expected(found)) == (3, 2, 2)


def test_two_at_the_same_time_are_two():
    wire = Wire()
    ports = [wire.asked("a.example.net."), wire.asked("a.example.net.")]
    wire.sent("a.example.net.")
    wire.sent("a.example.net.")
    for port in ports:
        wire.answered(port, "a.example.net.")
    found = wire.passed()
    assert (found.sent, dict(found.terms), expected(found)) == (2, {}, 2)


def test_a_question_that_is_never_answered_is_a_term_and_open():
    wire = Wire()
    wire.asked("a.example.net.")
    found = wire.passed()
    assert (dict(found.terms), found.open_at_end, expected(found)) == ({"left without an answer": -1}, 1, 0)


def test_other_clients_and_loopback_are_told_apart():
    wire = Wire()
    wire.answered(wire.asked("a.cluster.local.", client="10.9.9.9"), "a.cluster.local.", client="10.9.9.9")
    wire.add(QUERY, "127.0.0.1", "127.0.0.1", 7, "version.bind.", "TXT")
    found = wire.passed()
    assert (dict(found.received), found.local, found.sent) == ({"other": 1}, 1, 0)


def test_a_client_that_is_not_captured_does_not_disturb_the_quiet():
    """The edge asks for its backends all the time, and CoreDNS answers that by itself; what it leads to elsewhere counts."""
    wire = Wire()
    exchange(wire, "a.example.net.", ("a.example.net.", "A"))
    last = wire.t
    port = wire.asked("mx.ns.svc.cluster.local.", client="10.9.9.9")
    wire.answered(port, "mx.ns.svc.cluster.local.", client="10.9.9.9")
    assert wire.passed().last_ns <= last
    wire.asked("b.example.net.", client="10.9.9.9")
    wire.sent("b.example.net.")
    assert wire.passed().last_ns > last


def test_a_resolver_that_asks_for_the_root_is_priming():
    wire = Wire()
    exchange(wire, "a.example.net.", (".", "NS"), ("a.example.net.", "A"))
    assert dict(wire.passed(Watched("unbound-0", "dns", Layer.RESOLVER, frozenset({DNS}))).terms) == {"priming": 1}


def test_the_window_counts_queries_not_answers():
    wire = Wire()
    port = wire.asked("a.example.net.")
    begin = wire.t + 1
    wire.answered(port, "a.example.net.")
    exchange(wire, "b.example.net.", ("b.example.net.", "A"))
    found = wire.passed(begin=begin)
    assert (dict(found.received), found.sent, dict(found.terms)) == ({"application": 1}, 1, {})
    assert found.last_ns > begin


def test_an_application_only_sends():
    wire = Wire()
    wire.sent("a.example.net.")
    found = wire.passed(Watched("mx-0", "mx", Layer.APPLICATION, frozenset({DNS})))
    assert (found.sent, found.unexplained, dict(found.received)) == (1, 0, {})


NAMES = Names("mailgale-x", "cluster.local", ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "test.example.com", "example.com"))


@pytest.mark.parametrize(("name", "qtype", "wanted"), [
    ("filter.mailgale-x.svc.cluster.local.", "A", Purpose("service filter")),
    ("filter.mailgale-x.svc.cluster.local.test.example.com.", "A", Purpose("service filter", True)),
    ("mailbox-1.mailbox.mailgale-x.svc.cluster.local.", "AAAA", Purpose("service mailbox-N.mailbox")),
    ("7.100.51.198.in-addr.arpa.", "PTR", Purpose(REVERSE)),
    ("client-198-51-100-7.example.net.", "A", Purpose("client-N-N-N-N.example.net")),
    ("client-198-51-100-7.example.net.svc.cluster.local.", "A", Purpose("client-N-N-N-N.example.net", True)),
    ("Example.Com.", "MX", Purpose("example.com")),
    ("mail.example.com.", "A", Purpose("mail.example.com")),
    (".", "NS", Purpose(PROBE)), (".", "DNSKEY", Purpose(".")),
])
def test_what_a_name_is_about(name: str, qtype: str, wanted: Purpose):
    assert NAMES.purpose(name, qtype) == wanted

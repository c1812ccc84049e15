"""What passed a real unbound, captured beside tcpdump: the same queries to the query, and each of its own has its reason."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

import dns.message
import dns.query

from harness.dns.capture import capturing
from harness.dns.decode import decode, decode_file
from harness.dns.joined import Reading, joined
from harness.dns.netns import Lab, inside
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.model.dnscounters import parse_unbound
from harness.model.dnsflow import Layer, Watched, passed
from tests.servers.dnslab import network, tcpdump, unbound

NAMES = [f"n{i}.example.net." for i in range(20)]


def upstream(net: Lab) -> tuple[list[socket.socket], list[socket.socket]]:
    """Port 53 of the client's address, where unbound asks on."""
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for one in (udp, tcp):
        one.bind((net.client4, 53))
        one.setblocking(False)
    tcp.listen(16)
    return [udp], [tcp]


def ask(net: Lab) -> int:
    for name in [*NAMES, *NAMES]:  # the second time they are in the cache
        dns.query.udp(dns.message.make_query(name, "A"), net.server4, timeout=5)
    return 2 * len(NAMES)


def test_an_account_of_a_real_unbound_closes_and_agrees_with_tcpdump(tmp_path: Path):
    responder = Responder({n: {"A": ["198.51.100.1"]} for n in NAMES})
    with network() as net, serving(responder, *inside(net.client, lambda: upstream(net))):
        with unbound(tmp_path, 53, namespace=net.server, address=net.server4, port=53, upstream=net.client4) as (_, control):
            with tcpdump(net, tmp_path / "theirs.pcap"), capturing(net.server, tmp_path / "ours.pcap") as capture:
                first = Reading(0, "x", parse_unbound(control("stats_noreset")))
                asked = inside(net.client, lambda: ask(net))
                last = Reading(1 << 62, "x", parse_unbound(control("stats_noreset")))
    ours, theirs = decode(capture), decode_file(tmp_path / "theirs.pcap")
    assert ours.quality.flaws == ()
    assert Counter((r.client, r.qname, r.id) for r in ours.queries) == Counter((r.client, r.qname, r.id) for r in theirs.queries)
    pod = Watched("unbound-0", "dns", Layer.RESOLVER, frozenset({net.server4}))
    found = passed(pod, ours.records, begin_ns=0, end_ns=1 << 62, clients={net.client4: "cluster DNS"})
    assert dict(found.received) == {"cluster DNS": asked}
    assert found.sent == responder.asked.total()
    assert (found.unexplained, found.terms["answered without asking further"]) == (0, -len(NAMES))
    assert sum(found.received.values()) + sum(found.terms.values()) == found.sent
    by_itself = joined(pod, ours.records, first, last, {net.client4: "cluster DNS"})
    assert by_itself["counted"] == {side: by_itself["captured"][side] for side in ("received", "sent")}
    assert by_itself["counted"]["received"] == asked

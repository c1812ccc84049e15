"""The capture counts as tcpdump does, to the query, on the same wire; and says so when it did not see everything."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from harness.dns.capture import capturing
from harness.dns.decode import Decoded, decode, decode_file
from harness.dns.netns import Lab, inside
from harness.dns.packets import parse
from harness.dns.pcap import read_pcap
from harness.dns.responder import Responder
from harness.dns.serve import serving
from tests.servers.dnslab import needs, network, tcpdump

NAMES = [f"n{i}.example.net." for i in range(40)]
BIG = "big.example.net."
DATA = {**{n: {"A": ["198.51.100.1"], "AAAA": ["2001:db8::9"], "MX": ["10 mx.example.net."]} for n in NAMES[::2]}, BIG: {"TXT": [f'"{"x" * 250}"' for _ in range(60)]}}


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with network() as made:
        yield made


@pytest.fixture
def responder(net: Lab) -> Iterator[Responder]:
    answerer = Responder(DATA)
    with serving(answerer, *net.listen()):
        yield answerer


def ask_everything(net: Lab) -> int:
    """Queries over UDP and TCP, IPv4 and IPv6, several on one connection, with repeats, and other traffic beside; how many queries."""
    asked = 0
    for server in (net.server4, net.server6):
        for name in NAMES:
            for qtype in ("A", "AAAA", "MX"):
                query = dns.message.make_query(name, qtype)
                dns.query.udp(query, server, timeout=5)
                asked += 1
        same = dns.message.make_query(NAMES[0], "A")
        for _ in range(3):
            dns.query.udp(same, server, timeout=5)
            asked += 1
        asked += converse(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for port in (25, 5353, 54):
            other.sendto(b"no DNS", (net.server4, port))
    return asked


def converse(server: str) -> int:
    """Twenty questions on one TCP connection before an answer is read, large answers among them, byte by byte at first."""
    queries = [dns.message.make_query(BIG if i % 3 == 0 else NAMES[i], "TXT" if i % 3 == 0 else "A") for i in range(20)]
    stream = b"".join(len(w).to_bytes(2, "big") + w for w in (q.to_wire() for q in queries))
    with socket.create_connection((server, 53), timeout=5) as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(40):
            tcp.sendall(stream[i:i + 1])
        tcp.sendall(stream[40:])
        wanted, left = {q.id for q in queries}, Counter(q.id for q in queries)
        while left.total():
            reply, _ = dns.query.receive_tcp(tcp)
            assert reply.id in wanted
            left -= Counter([reply.id])
    return len(queries)


def dns_packets(path: Path) -> list[bytes]:
    """Those with a payload. tcpdump is stopped after our capture, so it may see a last FIN more; and our filter lets IPv6 extension headers pass."""
    return [p.data for p in read_pcap(path) if (found := parse(p.data)) is not None and found.payload]


def counted(decoded: Decoded) -> Counter[tuple[str, str, str, int]]:
    return Counter((r.qname, r.qtype, r.transport, r.id) for r in decoded.queries)


def test_the_same_queries_as_tcpdump_to_the_query(net: Lab, responder: Responder, tmp_path: Path):
    with tcpdump(net, tmp_path / "theirs.pcap"), capturing(net.client, tmp_path / "ours.pcap") as capture:
        asked = inside(net.client, lambda: ask_everything(net))
    ours, theirs = decode(capture), decode_file(tmp_path / "theirs.pcap")
    assert ours.quality.flaws == theirs.quality.flaws == ()
    assert len(ours.queries) == len(theirs.queries) == asked == responder.asked.total()
    assert counted(ours) == counted(theirs)
    assert dns_packets(capture.path) == dns_packets(tmp_path / "theirs.pcap")
    assert Counter((n.lower(), t, proto) for n, t, proto, _ in counted(ours).elements()) == responder.asked
    assert sum(r.direction == "answer" for r in ours.records) == asked


def test_tcpdump_reads_our_file_and_counts_the_same(net: Lab, responder: Responder, tmp_path: Path):
    needs("tcpdump")
    with capturing(net.client, tmp_path / "ours.pcap") as capture:
        inside(net.client, lambda: [dns.query.udp(dns.message.make_query(n, "A"), s, timeout=5) for n in NAMES for s in (net.server4, net.server6)])
    text = subprocess.run(["tcpdump", "-nn", "-r", str(capture.path), "udp dst port 53"], capture_output=True, text=True, check=True).stdout
    theirs = Counter(re.findall(r" A\? (\S+)", text))
    assert theirs == Counter(r.qname for r in decode(capture).queries) == Counter(NAMES * 2)


def test_on_loopback_each_packet_counts_once(net: Lab, tmp_path: Path):
    def local() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 53))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for _ in range(5):
                    client.sendto(dns.message.make_query("a.example", "A").to_wire(), ("127.0.0.1", 53))
                for _ in range(5):
                    server.recv(512)

    with capturing(net.client, tmp_path / "x.pcap") as capture:
        inside(net.client, local)
    assert len(decode(capture).queries) == 5


def test_a_capture_that_loses_packets_says_so(net: Lab, tmp_path: Path):
    """Planted: a buffer of a few packets and a reader that is held up."""
    held = threading.Event()
    wire = dns.message.make_query("a.example", "A").to_wire()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(2000):
                client.sendto(wire, (net.server4, 53))

    with capturing(net.client, tmp_path / "x.pcap", buffer=2048) as capture:
        write = capture._writer.write
        capture._writer.write = lambda packet: (held.wait(10), write(packet))  # type: ignore[method-assign,assignment,func-returns-value]
        inside(net.client, flood)
        held.set()
    decoded = decode(capture)
    assert decoded.quality.drops > 0
    assert not decoded.quality.complete
    assert "packets dropped by the kernel" in decoded.quality.flaws[0]
    # Neighbour discovery of the two new interfaces may be among the packets that are lost: the kernel counts those too.
    assert 2000 <= decoded.quality.packets <= 2020
    kept = decoded.quality.packets - decoded.quality.drops
    assert kept - 20 <= len(decoded.queries) <= kept


def test_a_capture_on_an_interface_that_goes_away_says_so(net: Lab, tmp_path: Path):
    def ip(*words: str) -> None:
        subprocess.run(["ip", "-n", net.client.name, *words], check=True)

    ip("link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
    ip("link", "set", "gone0", "up")
    with capturing(net.client, tmp_path / "x.pcap", interface="gone0") as capture:
        ip("link", "del", "gone0")
        capture._thread.join(5)
    assert "broke" in decode(capture).quality.flaws[0]

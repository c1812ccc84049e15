"""What is counted of a pod's DNS is what tcpdump sees in that pod, to the query, over UDP and TCP; tcpdump itself reads what it captured.

Counted as a run does: by the process ``harness.dns``, in the network of a real mx pod of the session's stack, while look-ups of every kind go on there.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from harness.cluster.engine import answering
from harness.dns.conversation import Line, talk_to
from harness.dns.count import Case, Place, count
from harness.dns.decode import decode_file
from harness.dns.libcs import program
from harness.dns.netns import inside
from harness.dns.pcap import PcapWriter, read_pcap
from harness.dns.pod import pod_place
from harness.dns.spec import CountSpec
from harness.rehearse.children import Child
from harness.store.log import Damage, read_events
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from tests.cluster.conftest_stack import StackUnderTest
from tests.servers.dnslab import needs, tcpdump_in

pytestmark = pytest.mark.cluster
#: Transport, type, name; of a count: transport, type.
Query = tuple[str, ...]
NAMES = [f"tcpdump-{i}.nonce.example.net." for i in range(25)]
#: Time, both ends, what tcpdump makes of it: "4660+ [1au] A? a.example.net. (31)".
LINE = re.compile(r"^(\d+)\.(\d{6}) IP6? \S+ > \S+\.53:(.*?) \d+\S*(?: \[[^\]]*\])* (\w+)\? (\S+) \(\d+\)$")


@dataclass(frozen=True)
class Both:
    """What was recorded and what tcpdump saw within the record's window."""

    folder: Path
    pod: str
    window: tuple[int, int]  #: time of day, ns
    events: list[dict[str, Any]]
    seen: Counter[Query]
    asked: Counter[Query]  #: by this test, at least

    def counted(self) -> Counter[Query]:
        """By ``dns.log``: what the pod sent."""
        found: Counter[Query] = Counter()
        for e in self.events:
            if e["kind"] == "dns_count" and e["pod"] == self.pod and e["side"] == "sent":
                found[e["transport"], e["qtype"]] += e["n"]
        return found

    def captured(self, file: Path) -> Counter[Query]:
        """By a capture of the record, read as the record is."""
        begin, end = self.window
        return Counter((r.transport, r.qtype, r.qname) for r in decode_file(file).queries if begin <= r.t_ns <= end)

    @property
    def file(self) -> Path:
        return self.folder / "dns" / f"{self.pod}.pcap"


def differences(recorded: Counter[Query], seen: Counter[Query]) -> dict[Query, int]:
    """Query → how many more (or fewer) are on record than tcpdump saw; {} = they agree to the query."""
    return {q: recorded[q] - seen[q] for q in sorted({*recorded, *seen}) if recorded[q] != seen[q]}


def by_kind(seen: Counter[Query]) -> Counter[Query]:
    found: Counter[Query] = Counter()
    for (transport, qtype, _), n in seen.items():
        found[transport, qtype] += n
    return found


def read_by_tcpdump(path: Path, begin: int, end: int) -> Counter[Query]:
    """The queries in a capture within a window, by tcpdump's own dissector."""
    text = subprocess.run(["tcpdump", "-nn", "-tt", "-r", str(path), "dst port 53"], capture_output=True, text=True, check=True).stdout
    found: Counter[Query] = Counter()
    for line in text.splitlines():
        assert "(invalid)" not in line, line
        if (m := LINE.match(line)) and begin <= int(m[1]) * 1_000_000_000 + int(m[2]) * 1000 <= end:
            found["tcp" if "Flags" in m[3] else "udp", m[4], m[5]] += 1
    return found


@pytest.fixture(scope="module")
def both(stack: StackUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    needs("tcpdump")
    engine = answering()
    assert engine is not None
    folder, pod = tmp_path_factory.mktemp("counted"), stack.cluster.pods(stack.namespace, component="mx")[0].name
    place = pod_place(stack.cluster, engine, stack.namespace, pod)
    ready, spec = folder / "ready", folder / "spec.json"
    CountSpec(
        kubeconfig=stack.target.kubeconfig, context=stack.target.context, namespace=stack.namespace, cluster_domain=stack.cluster_domain,
        mail_domain=stack.mail_domain, capture=("mx",), look_ups=(), arm_dir=str(folder), ready=str(ready), nonce="tcpdump", baseline_s=0.5,
    ).write(spec)
    clock = time.time_ns() - time.monotonic_ns()
    with tcpdump_in(place.namespace, "eth0", folder / "theirs.pcap"), Child("harness.dns", [spec], folder / "out") as child:
        wait_for(lambda: ready.exists() or not child.alive, deadline_s=30, what="the capture", every_s=0.1)
        asked = ask(place, folder / "scratch")
        assert child.stop(grace_s=60), (folder / "out").read_text()
    events = [e for e in read_events(folder / "dns.log") if not isinstance(e, Damage)]
    (window,) = [e for e in events if e["kind"] == "dns_window"]
    begin, end = int(window["begin"]) + clock, int(window["end"]) + clock
    return Both(folder, pod, (begin, end), events, read_by_tcpdump(folder / "theirs.pcap", begin, end), asked)


def ask(place: Place, scratch: Path) -> Counter[Query]:
    """Look-ups of three kinds in the pod's network; what they must have cost, where this test knows it."""
    server = place.config.nameservers[0]
    asked: Counter[Query] = Counter()
    for transport, names in (("udp", NAMES), ("tcp", NAMES[:10])):
        inside(place.namespace, partial(_each, transport, names, server))
        asked.update((transport, "MX", n) for n in names)
    inside(place.namespace, lambda: _on_one_connection(NAMES[10:], server))
    asked.update(("tcp", "TXT", n) for n in NAMES[10:])
    found = count(place, program("glibc", Checkout.find()), Case("tcpdump-search.nonce.example.net", "glibc", 5, "any"), scratch)
    asked.update(("udp", a.query.qtype, n.name) for n in found.tree.names for t in n.types for a in t.attempts)
    inside(place.namespace, _as_a_client_of_postfix)
    return asked


def _each(transport: str, names: Sequence[str], server: str) -> None:
    for name in names:
        way = dns.query.tcp if transport == "tcp" else dns.query.udp
        way(dns.message.make_query(name, "MX"), server, timeout=5)


def _on_one_connection(names: Sequence[str], server: str) -> None:
    with socket.create_connection((server, 53), timeout=5) as connection:
        for name in names:
            dns.query.send_tcp(connection, dns.message.make_query(name, "TXT"))
            dns.query.receive_tcp(connection)


def _as_a_client_of_postfix() -> None:
    """smtpd looks for the client's name, and for the address of that name."""
    with socket.create_connection(("127.0.0.1", 25), timeout=20) as connection:
        connection.sendall(b"PROXY TCP4 203.0.113.202 127.0.0.1 9 25\r\n")
        talk_to(connection, [Line("", "220"), Line("EHLO probe.example.net", "250"), Line("QUIT", "221")])


def test_the_counts_agree_with_tcpdump_to_the_query(both: Both) -> None:
    assert differences(both.counted(), by_kind(both.seen)) == {}
    assert {transport for transport, _ in both.counted()} == {"udp", "tcp"}


def test_the_record_holds_the_queries_that_tcpdump_saw_by_name(both: Both) -> None:
    assert differences(both.captured(both.file), both.seen) == {}
    assert not both.asked - both.seen
    assert both.seen["udp", "PTR", "202.113.0.203.in-addr.arpa."] >= 1
    (capture,) = [e for e in both.events if e["kind"] == "dns_capture" and e["pod"] == both.pod]
    assert [capture[k] for k in ("drops", "gaps", "undecoded", "broken")] == [0, 0, 0, ""]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_query_that_is_dropped_from_the_record_is_seen(both: Both, transport: str, tmp_path: Path) -> None:
    """The planted defect."""
    name = NAMES[3]
    spoilt = tmp_path / "spoilt.pcap"
    dropped = without(both.file, spoilt, transport, name)
    assert dropped == 1
    assert differences(both.captured(spoilt), both.seen) == {(transport, "MX", name): -1}
    row = next(e for e in both.events if e["kind"] == "dns_count" and e["side"] == "sent" and (e["transport"], e["qtype"]) == (transport, "MX"))
    fewer = both.counted() - Counter({(row["transport"], row["qtype"]): 1})
    assert differences(fewer, by_kind(both.seen)) == {(transport, "MX"): -1}


def without(source: Path, target: Path, transport: str, name: str) -> int:
    """Copy a capture but for the packet that asks for ``name`` over ``transport``; how many were left out."""
    wire = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    writer, dropped = PcapWriter(target), 0
    for packet in read_pcap(source):
        asks = packet.data[9] == {"udp": 17, "tcp": 6}[transport] and packet.data[22:24] == (53).to_bytes(2, "big")
        if asks and wire + b"\x00\x0f\x00\x01" in packet.data:
            dropped += 1
        else:
            writer.write(packet)
    writer.close()
    return dropped


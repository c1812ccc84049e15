"""The edge's own HAProxy configuration behind its late DNS: who stops before the pool has followed breaks sessions, who waits does not (T03)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset
import pytest

EDGE = Path(__file__).resolve().parents[2] / "deploy" / "components" / "edge"
LAB, FIRST, SECOND = "127.0.0.77", "127.0.0.11", "127.0.0.12"
LAG_S = 1.5
#: What following by name takes by itself: a look-up a second, held for a second.
OWN_S = 2.5
pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None or os.geteuid() != 0, reason="needs HAProxy, and root for port 53 of loopback")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Member:
    """One pod: greets whoever connects, until it stops."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_server((address, port))
        self.count = 0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            with one:
                one.sendall(b"220 here\r\n")
                one.recv(64)  # the PROXY header

    def stop(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


class Lab:
    """The lab's DNS: the pool is whoever is in ``pool``."""

    def __init__(self) -> None:
        self.pool = [FIRST, SECOND]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind((LAB, 53))
        except OSError as error:
            pytest.skip(f"port 53 of {LAB} is not to be had: {error}")
        self.socket.settimeout(0.1)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self.socket.close()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                data, who = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            query = dns.message.from_wire(data)
            made = dns.message.make_response(query)
            if query.question[0].rdtype == dns.rdatatype.A and self.pool:
                made.answer.append(dns.rrset.from_text(query.question[0].name, 1, "IN", "A", *self.pool))
            self.socket.sendto(made.to_wire(), who)


def configuration(folder: Path, relay: int, members: int, front: int) -> Path:
    """The edge's file as the variants ``edge-lag-*`` render it, with the SMTP pool alone and on ports of this test."""
    text = (EDGE / "haproxy.cfg").read_text()
    head, pool = text[: text.index("listen stats")], re.search(r"^backend smtp\n.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert pool is not None
    text = f"{head}frontend smtp\n    bind 127.0.0.1:{front}\n    default_backend smtp\n\n{pool[0]}"
    filled = {"DOMAIN": "ns.svc.cluster.local", "POOL_DNS": f"127.0.0.1:{relay}", "REDISPATCH": "no option redispatch", "RETRIES": "0"}
    for name, value in filled.items():
        text = text.replace(f"${{{name}}}", value)
    text = text.replace("ns.svc.cluster.local:25", f"ns.svc.cluster.local:{members}").replace("/run/haproxy.sock", str(folder / "s"))
    assert "${" not in text
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


class Edge:
    """HAProxy and the relay as processes of their own."""

    def __init__(self, folder: Path, members: int) -> None:
        self.front, relay = free_port(), free_port()
        told = {"POOL_DNS": f"127.0.0.1:{relay}", "DNS_ADDRESS": LAB, "LAG_S": str(LAG_S * 10), "TIME_SCALE": "10"}
        config = configuration(folder, relay, members, self.front)
        self.processes = [
            subprocess.Popen([sys.executable, "-I", "-u", EDGE / "pool_lag.py"], env={**os.environ, **told}, stdout=subprocess.DEVNULL),
            subprocess.Popen(["haproxy", "-db", "-f", config], stdout=subprocess.DEVNULL),
        ]

    def session(self) -> bool:
        """Whether a session gets its greeting."""
        try:
            with socket.create_connection(("127.0.0.1", self.front), 5) as one:
                one.settimeout(5)
                return one.recv(64).startswith(b"220")
        except OSError:
            return False

    def failures(self, seconds: float) -> list[float]:
        """When sessions failed, begun again and again for so long."""
        begun, found = time.monotonic(), []
        while (now := time.monotonic() - begun) < seconds:
            if not self.session():
                found.append(now)
            time.sleep(0.01)  # a hundred sessions a second are enough
        return found

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Edge, Lab, Member, Member]]:
    lab, port = Lab(), free_port()
    first, second = Member(FIRST, port), Member(SECOND, port)
    edge = Edge(tmp_path, port)
    try:
        end = time.monotonic() + 30
        while not (first.count and second.count):
            edge.session()
            assert time.monotonic() < end, "the pool never held both members"
        yield edge, lab, first, second
    finally:
        edge.close()
        for one in (first, second):
            one.socket.close()
        lab.close()


def test_a_member_that_stops_before_it_was_forgotten_breaks_sessions_for_as_long(place: tuple[Edge, Lab, Member, Member]) -> None:
    edge, lab, _, second = place
    lab.pool = [FIRST]
    second.stop()
    found = edge.failures(LAG_S + OWN_S + 2)
    assert len(found) > 10
    assert LAG_S * 0.8 <= max(found) <= LAG_S + OWN_S


def test_a_member_that_waits_for_the_lag_breaks_none(place: tuple[Edge, Lab, Member, Member]) -> None:
    edge, lab, first, second = place
    lab.pool = [FIRST]
    assert edge.failures(LAG_S + OWN_S) == []
    before = second.count
    second.stop()
    assert edge.failures(0.5) == []
    assert second.count == before
    assert first.count > before

"""The edge's late DNS: what it passes on when, and over real sockets before a real DNS server whose answers change."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from harness.stack.render import kustomize
from harness.support.checkout import Checkout
from tests.unit.deploy.rules import faults, pod

ROOT = Path(__file__).resolve().parents[3]
NAME = "mx.ns.svc.cluster.local."


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pool_lag", ROOT / "deploy" / "components" / "edge" / "pool_lag.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["pool_lag"] = made
    spec.loader.exec_module(made)
    return made


def answer(query: dns.message.Message, *addresses: str) -> bytes:
    made = dns.message.make_response(query)
    if addresses:
        made.answer.append(dns.rrset.from_text(NAME, 1, "IN", "A", *addresses))
    return made.to_wire()


QUERY = dns.message.make_query(NAME, "A")


def shown(module: ModuleType, name: object, now: float) -> set[str]:
    return set(module.addresses(name.answer(QUERY.to_wire(), now)))


def test_the_first_pool_comes_at_once_and_changes_come_late(module: ModuleType) -> None:
    name = module.Name(QUERY.to_wire(), 6.0)
    assert name.answer(QUERY.to_wire(), 0) == b""
    name.hear(answer(QUERY), 0)
    name.hear(answer(QUERY, "10.0.0.1"), 1)
    assert shown(module, name, 1) == {"10.0.0.1"}
    name.hear(answer(QUERY, "10.0.0.2"), 10)
    name.hear(answer(QUERY, "10.0.0.2", "10.0.0.3"), 12)
    assert shown(module, name, 15.9) == {"10.0.0.1"}
    assert shown(module, name, 16) == {"10.0.0.2"}
    assert shown(module, name, 18) == {"10.0.0.2", "10.0.0.3"}


def test_another_order_is_no_change(module: ModuleType) -> None:
    name = module.Name(QUERY.to_wire(), 6.0)
    for addresses in (("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1")):
        name.hear(answer(QUERY, *addresses), 0)
    assert not name.waiting


def test_that_a_pod_went_is_lost_and_that_one_came_is_not(module: ModuleType) -> None:
    name = module.Name(QUERY.to_wire(), 0.0, True)
    name.hear(answer(QUERY, "10.0.0.1"), 0)
    name.hear(answer(QUERY, "10.0.0.1", "10.0.0.2"), 1)
    name.hear(answer(QUERY, "10.0.0.1"), 2)
    assert shown(module, name, 100) == {"10.0.0.1", "10.0.0.2"}
    name.hear(answer(QUERY, "10.0.0.1", "10.0.0.3"), 101)
    assert shown(module, name, 101) == {"10.0.0.1", "10.0.0.3"}


def test_the_answer_carries_the_number_of_the_question(module: ModuleType) -> None:
    name = module.Name(QUERY.to_wire(), 0.0)
    name.hear(answer(QUERY, "10.0.0.1"), 0)
    other = dns.message.make_query(NAME, "A")
    assert dns.message.from_wire(name.answer(other.to_wire(), 0)).id == other.id


class Lab:
    """A DNS server on loopback whose answer is ``addresses`` at the time."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ("10.0.0.1",)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                data, who = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.socket.sendto(answer(dns.message.from_wire(data), *self.addresses), who)

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self.socket.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def udp(bind: tuple[str, int] | None = None, connect: tuple[str, int] | None = None) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if bind:
        made.bind(bind)
    if connect:
        made.connect(connect)
    return made


class Asking:
    """A client of a relay, which is turned by hand."""

    def __init__(self, module: ModuleType, own: socket.socket, connect: Callable[[], socket.socket], lag_s: float) -> None:
        self.module, self.relay = module, module.Relay(own, connect, lag_s, False)
        self.client = udp(connect=own.getsockname())
        self.client.setblocking(False)

    def until(self, wanted: str, seconds: float = 8) -> float:
        """Seconds until an answer holds ``wanted``."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            self.client.send(QUERY.to_wire())
            self.client.send(b"rubbish")
            self.relay.turn()
            try:
                got = self.module.addresses(self.client.recv(4096))
            except BlockingIOError:
                continue
            if wanted in got:
                return time.monotonic() - begun
        raise AssertionError(f"{wanted} did not come")

    def close(self) -> None:
        self.client.close()
        self.relay.upstream.close()


def test_over_real_sockets_a_change_arrives_as_late_as_was_told(module: ModuleType, lab: Lab) -> None:
    with udp(bind=("127.0.0.1", 0)) as own:
        asking = Asking(module, own, lambda: udp(connect=lab.socket.getsockname()), 1.0)
        assert asking.until("10.0.0.1") < 1
        lab.addresses = ("10.0.0.2",)
        assert 1.0 <= asking.until("10.0.0.2") < 2.5
        asking.close()


def test_a_flow_that_leads_nowhere_is_given_up(module: ModuleType, lab: Lab) -> None:
    """Planted: the first socket leads to nobody, as a flow that began before the DNS's Service had a pod."""
    with udp(bind=("127.0.0.1", 0)) as own, udp(bind=("127.0.0.1", 0)) as nobody:
        places = iter([nobody.getsockname()])
        asking = Asking(module, own, lambda: udp(connect=next(places, lab.socket.getsockname())), 0.0)
        assert 1.9 <= asking.until("10.0.0.1") < 5
        asking.close()


def test_a_datagram_that_vanishes_after_it_was_announced_stops_nothing(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does with a datagram whose checksum is wrong: select says that it is there, and recv finds nothing."""
    monkeypatch.setattr(module.select, "select", lambda read, *_: (read, [], []))
    with udp(("127.0.0.1", 0)) as own, udp(("127.0.0.1", 0)) as nobody:
        nobody.connect(own.getsockname())
        relay = module.Relay(own, lambda: nobody, 0.0, False)
        turn = threading.Thread(target=relay.turn, daemon=True)
        turn.start()
        turn.join(5)
        assert not turn.is_alive()


def test_every_lag_is_the_plain_edge_with_one_switch_turned() -> None:
    told = {}
    for variant in ("edge-lag-0", "edge-lag-60", "edge-lag-180", "edge-lag-lost"):
        manifests = kustomize(Checkout(ROOT), profile="minimal", variants=(variant,), namespace="mailgale-x")
        assert faults(manifests) == []
        edge = next(m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == "edge")
        haproxy, lag = pod(edge)["containers"]
        assert {e["name"]: e.get("value") for e in haproxy["env"]}.items() >= {"RESELECT": "no", "POOL_DNS": "127.0.0.1:10053"}.items()
        told[variant] = tuple(e["value"] for e in lag["env"])[:2]
    assert told == {
        "edge-lag-0": ("0", "no"), "edge-lag-60": ("60", "no"), "edge-lag-180": ("180", "no"), "edge-lag-lost": ("0", "yes"),
    }  # fmt: skip

"""A DNS fault from its trigger to undone, against two real fault proxies: what it strikes, what it says of it, and what it calls no fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
from chaoslib.exceptions import ActivityFailed

from harness.chaos import world as world_module
from harness.chaos.dnsfault import dns_fault
from harness.chaos.lease import held
from harness.chaos.spec import ChaosSpec
from harness.chaos.undo import UndoLog, pending
from harness.chaos.world import FaultLog, Hands, World
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.kube.client import Cluster, Executed
from harness.kube.guards import Owner
from harness.kube.objects import COMPONENT
from harness.store.log import LogWriter, read_events
from tests.servers.dnslab import bound, free_port, until
from tests.servers.fake_api import fake_api

CHECKOUT, RUN = "0a1b2c3d", "run"
NAMESPACE = f"mailgale-{CHECKOUT}-x"
PODS = ("dns-proxy-0", "dns-proxy-1")
DATA = {"d1.zipf.example.net.": {"MX": ["10 mx.example.net."]}, "mx.example.net.": {"A": ["198.51.100.1"]}}
COMMAND = [sys.executable, "-m", "harness.dns.faultserver"]


@dataclass
class Proxies:
    """The proxies of two pods, as processes of this host; ``exec`` runs what would run in the pod."""

    ports: dict[str, int]
    env: dict[str, dict[str, str]]

    def exec(self, cluster: Cluster, namespace: str, pod: str, container: str, argv: list[str], **_: Any) -> Executed:
        assert (namespace, container, argv[:3]) == (NAMESPACE, "dns-proxy", ["python3", "-m", "harness.dns.faultserver"])
        done = subprocess.run([*COMMAND, *argv[3:]], env=self.env[pod], capture_output=True, timeout=20, check=False)
        return Executed(done.returncode, done.stdout, done.stderr)

    def asked(self, pod: str, name: str, kind: str) -> str:
        try:
            reply = dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", port=self.ports[pod], timeout=2)
        except dns.exception.Timeout:
            return "timeout"
        return dns.rcode.to_text(reply.rcode()) + "".join(f" {r}" for a in reply.answer for r in a)

    def counters(self, pod: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(subprocess.run([*COMMAND, "counters"], env=self.env[pod], capture_output=True, timeout=20, check=True).stdout)
        return found


@contextmanager
def proxies() -> Iterator[Proxies]:
    upstream, udp, tcp = bound()
    made = Proxies({}, {})
    with serving(Responder(DATA), udp, tcp), ExitStack() as running:
        for pod in PODS:
            made.ports[pod], control = free_port(), free_port()
            made.env[pod] = {**os.environ, "UPSTREAM": f"127.0.0.1:{upstream}", "PORT": str(made.ports[pod]), "CONTROL": str(control)}
            process = subprocess.Popen(COMMAND, env=made.env[pod])
            running.callback(process.wait, 10)
            running.callback(process.send_signal, signal.SIGTERM)
        for pod in PODS:
            until(lambda p=pod: made.asked(p, "mx.example.net.", "A").startswith("NOERROR"), pod, 20)
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Proxies, Path]]:
    """Two proxies, an API that knows their pods, and a world of a run in it whose load has begun."""
    with proxies() as made, fake_api() as api, held(tmp_path / "lease", run_id=RUN, namespace=NAMESPACE) as lease:
        monkeypatch.setattr(Cluster, "exec", lambda cluster, *args, **named: made.exec(cluster, *args, **named))
        owned = Owner(CHECKOUT, RUN).labels
        api.namespace(NAMESPACE, **owned)
        for pod in PODS:
            api.put(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}", {"metadata": {"name": pod, "namespace": NAMESPACE, "labels": {COMPONENT: "dns-proxy", **owned}},
                                                                   "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.7"}]}})  # fmt: skip
        spec = ChaosSpec(RUN, "1-a", str(tmp_path), CHECKOUT, NAMESPACE, asdict(api.target(tmp_path)), {"dns-proxy": ("StatefulSet/dns-proxy",)})
        log = FaultLog(tmp_path / "faults.log")
        hands = Hands.of(spec, log.mutation)
        world = World(spec, hands.cluster, hands.gateway, hands.nodes, lease)
        world.log, world.undo_log = log, UndoLog(tmp_path / "undo.log", world.undo)
        monkeypatch.setattr(world_module, "_current", world)
        with LogWriter(tmp_path / "load-1.log", "load") as load:
            load.event("load_state", phase="burst", accepted=1)
            load.flush()
            yield made, tmp_path
        world.close()


def strike(kind: str, **given: Any) -> None:
    dns_fault("dns-proxy", kind, for_s=2.0, victims=list(PODS), fault="away", when={"at_s": 0}, deadline_s=60, **given)


def meanwhile(made: Proxies, name: str, kind: str, kinds: str, **given: Any) -> list[str]:
    """What both pods answer while the fault lasts."""
    answers: list[str] = []
    over = threading.Event()

    def ask() -> None:
        until(lambda: over.is_set() or all(made.counters(p)["rules"] for p in PODS), "rules in both pods", 30)
        answers.extend(made.asked(p, name, kind) for p in PODS)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        strike(kinds, **given)
    finally:
        over.set()
        asking.join()
    return answers


def edges(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(e["edge"], e["detail"]) for e in read_events(path / "faults.log") if isinstance(e, dict) and e["kind"] == "fault"]


@pytest.mark.parametrize(
    ("given", "name", "qtype", "answer"),
    [
        ({"kinds": "servfail"}, "d1.zipf.example.net.", "MX", "SERVFAIL"),
        ({"kinds": "nxdomain", "qtypes": ["MX"], "zones": ["zipf.example.net"]}, "d1.zipf.example.net.", "MX", "NXDOMAIN"),
        ({"kinds": "wrong", "zones": ["dnsbl.example.net"], "data": {"A": ["127.0.0.2"]}}, "9.100.51.198.dnsbl.example.net.", "A", "NOERROR 127.0.0.2"),
    ],
)
def test_a_dns_fault_lives_through_every_edge(place: tuple[Proxies, Path], given: dict[str, Any], name: str, qtype: str, answer: str) -> None:
    made, path = place
    assert meanwhile(made, name, qtype, **given) == [answer, answer]
    assert [e for e, _ in edges(path)] == ["armed", "triggered", "begin", "evidence", "evidence", "end", "undone"]
    assert [d["rules"][0]["struck"] for e, d in edges(path) if e == "evidence"] == [1, 1]
    assert [made.counters(p)["rules"] for p in PODS] == [[], []]
    assert made.asked(PODS[0], "mx.example.net.", "A") == "NOERROR 198.51.100.1"
    assert pending(path) == []


def test_a_fault_that_strikes_nothing_is_none(place: tuple[Proxies, Path]) -> None:
    made, path = place
    with pytest.raises(ActivityFailed, match="struck no query"):
        meanwhile(made, "mx.example.net.", "A", "servfail", zones=["zipf.example.net"])
    assert edges(path)[-1][0] == "failed"
    assert [made.counters(p)["rules"] for p in PODS] == [[], []]


def test_a_rule_that_cannot_be_is_refused_and_nothing_stays(place: tuple[Proxies, Path]) -> None:
    made, path = place
    with pytest.raises(ActivityFailed, match="the DNS proxy refused"):
        strike("wrong")
    assert edges(path)[-1][0] == "failed"
    assert [made.counters(p)["rules"] for p in PODS] == [[], []]

"""The laboratory's processes over real sockets: the load against servers that behave and misbehave, the sensors against a real unbound."""

from __future__ import annotations

import asyncio
import http.server
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from harness.dns.labspec import LabSpec
from harness.dns.netns import Lab, inside
from harness.dns.sensors import Resolver, cache_counters
from harness.dns.serve import Asked, Nothing, serving
from harness.errors import Interrupted, NotReady
from harness.model.target import Target
from harness.rehearse import dnslab
from harness.rehearse.arm import ArmRun
from harness.rehearse.budget import Allowance
from harness.rehearse.stops import Stops
from harness.selftest.friday import friday_plan
from harness.store.asking import ask_to_end
from harness.store.log import Damage, read_events
from harness.store.run import RunDir
from harness.store.sessions import finished
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from tests.servers.dnslab import needs, network, until

CONF = Checkout.find().root / "deploy" / "components" / "dns-lab" / "unbound.conf"
PAGE = """\
# TYPE coredns_dns_requests_total counter
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."} 3
coredns_dns_requests_total{family="1",proto="udp",server="dns://:5353",type="A",view="",zone="."} 4
coredns_proxy_conn_cache_hits_total{proto="tcp",proxy_name="forward",to="10.0.0.1:53"} 2
coredns_proxy_conn_cache_misses_total{proto="tcp",proxy_name="forward",to="10.0.0.1:53"} 1
coredns_proxy_conn_cache_misses_total{proto="udp",proxy_name="forward",to="10.0.0.1:53"} 5
coredns_forward_healthcheck_broken_total 0
"""


class Authority:
    """Answers every name; above ``limit`` queries in work it says ``beyond`` (a code, or nothing at all)."""

    def __init__(self, delay_s: float = 0.0, limit: int = 10_000, beyond: int | None = None) -> None:
        self.delay_s, self.limit, self.beyond, self.working, self.names = delay_s, limit, beyond, 0, []

    def admits(self, source: str) -> bool:
        return True

    async def answer(self, asked: Asked) -> bytes | Nothing:
        query = dns.message.from_wire(asked.wire)
        self.names.append(query.question[0].name.to_text())
        full = self.working >= self.limit
        self.working += 1
        await asyncio.sleep(self.delay_s)
        self.working -= 1
        reply = dns.message.make_response(query)
        if full and self.beyond is None:
            return Nothing.SILENCE
        if full and self.beyond is not None:
            reply.set_rcode(dns.rcode.Rcode(self.beyond))
        else:
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", "192.0.2.99"))
        return reply.to_wire()


def spec(made: Lab, arm: Path, resolver: str = "", **params: Any) -> Path:
    cell = {"name": "a", "caches": 1, "transport": "udp", "delay_ms": 5, **params.pop("cell", {})}
    load = {"cells": [cell], "start_per_s": 50, "max_per_s": 100, "step_s": 1, "warm_s": 0.2, "rest_s": 0, "refine": 1, "timeout_s": 0.5, "queries_min": 1}
    arm.mkdir(exist_ok=True)
    caches = {"lab-cache-a": made.server4}
    return LabSpec(str(arm), "run-abcd", "x", "1-x", "1", {**load, **params}, str(made.client), resolver, caches).write(arm / "spec.json")


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    found = list(read_events(path))
    assert not [e for e in found if isinstance(e, Damage)]
    return [e for e in found if not isinstance(e, Damage) and e["kind"] == kind]


def run(module: str, *words: str | Path, timeout: float = 40) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *map(str, words)], capture_output=True, text=True, check=False, timeout=timeout)


@contextmanager
def answering(made: Lab, authority: Authority, port: int = 5353) -> Iterator[Authority]:
    with serving(authority, *made.listen(port)):
        yield authority


def steps(arm: Path) -> list[tuple[float, bool]]:
    return [(e["per_s"], e["failed"] / e["sent"] > 0.01) for e in events(arm / "load-1.log", "dns_step") if e["edge"] == "end"]


def test_a_path_that_bears_every_rate(tmp_path: Path):
    with network() as made, answering(made, Authority(0.005)) as authority:
        done = run("harness.dns.labload", spec(made, tmp_path / "arm"))
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(tmp_path / "arm") == [(50, False), (100, False)]
    (end,) = events(tmp_path / "arm" / "load-1.log", "load_end")
    assert (end["reason"], end["offered"], end["accepted"]) == ("done", len(authority.names), len(authority.names))
    assert len(set(authority.names)) == len(authority.names)  # nothing can come from a cache
    assert all(n.endswith(".d5.delay.example.") for n in authority.names)


@pytest.mark.parametrize(("beyond", "counter"), [(None, "undetermined"), (int(dns.rcode.SERVFAIL), "deferred"), (int(dns.rcode.REFUSED), "rejected")])
def test_a_server_with_three_slots_is_found_out(tmp_path: Path, beyond: int | None, counter: str):
    """Each query takes 40 ms of one of three slots: about 75 a second at the very most."""
    with network() as made, answering(made, Authority(0.04, 3, beyond)):
        assert run("harness.dns.labload", spec(made, tmp_path / "arm", start_per_s=8, step_s=2)).returncode == 0
    tried = steps(tmp_path / "arm")
    assert tried[0] == (8, False)
    assert max(tried)[1]
    (end,) = events(tmp_path / "arm" / "load-1.log", "load_end")
    assert end[counter] > 0
    assert end["offered"] == sum(end[k] for k in ("accepted", "deferred", "rejected", "undetermined"))


def test_names_that_shall_be_hits_are_asked_before_and_again(tmp_path: Path):
    with network() as made, answering(made, Authority()) as authority:
        assert run("harness.dns.labload", spec(made, tmp_path / "arm", cell={"cached_share": 1.0}, max_per_s=50)).returncode == 0
    assert len(set(authority.names)) == 10
    primed = [e for e in events(tmp_path / "arm" / "load-1.log", "dns_queries") if e["step"] == 0]
    assert sum(len(e["how"]) for e in primed) == 10


def test_between_two_cells_the_sensors_can_look_once(tmp_path: Path):
    """Their counters say by which way queries came; without a quiet moment those of one cell counted for its neighbour."""
    cells = [{"name": n, "caches": 1, "transport": "udp", "delay_ms": 5} for n in ("a", "b")]
    with network() as made, answering(made, Authority()):
        assert run("harness.dns.labload", spec(made, tmp_path / "arm", cells=cells, max_per_s=50)).returncode == 0
    edges = [(e["edge"], e["t"]) for e in events(tmp_path / "arm" / "load-1.log", "dns_cell")]
    assert [edge for edge, _ in edges] == ["begin", "end", "begin", "end"]
    sent = [e["t"] for e in events(tmp_path / "arm" / "load-1.log", "dns_queries")]
    assert edges[2][1] - edges[1][1] >= 2e9
    assert not [t for t in sent if edges[1][1] < t < edges[2][1]]


def test_the_load_stops_when_it_is_told_to(tmp_path: Path):
    with network() as made, answering(made, Authority()) as authority:
        path = spec(made, tmp_path / "arm", step_s=60)
        process = subprocess.Popen([sys.executable, "-m", "harness.dns.labload", str(path)])
        until(lambda: len(authority.names) > 10, "the first queries")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    (end,) = events(tmp_path / "arm" / "load-1.log", "load_end")
    assert end["reason"] == "stopped"
    assert events(tmp_path / "arm" / "load-1.log", "log_closed")


def test_an_aborted_run_stops_its_load_of_queries(tmp_path: Path):
    plan = friday_plan()
    directory = RunDir.create(tmp_path / "runs", plan, {}, plan_bytes=b"# a plan\n")
    block, name = directory.planned_arms[0]
    target = Target("kind", "t", "/nowhere", "c", "u", (), (), (), ())
    arm = ArmRun(
        plan, plan.arm(name), block, directory.run_id, directory.arm(block, name), target, Checkout.find(), tmp_path, False, SilentProgress(), {},
        stops=Stops(directory, Allowance(plan, 1), plan.stop_when),
    )
    with network() as made, answering(made, Authority()) as authority:
        path = spec(made, arm.directory.path, step_s=60)
        asking = threading.Thread(target=lambda: (until(lambda: len(authority.names) > 10, "the first queries"), ask_to_end(directory, "enough")))
        asking.start()
        dnslab._load(arm, path)
        asking.join()
    arm.log.close()
    assert isinstance(arm.stopped, Interrupted)
    assert "enough" in str(arm.stopped)
    assert not finished(arm.directory)
    (end,) = events(arm.directory.load_log(), "load_end")
    assert end["reason"] == "stopped"
    assert arm.offered >= 10
    assert len(events(arm.directory.conductor_log, "stopped")) == 1


def test_a_network_that_is_not_there_is_said(tmp_path: Path):
    arm = tmp_path / "arm"
    arm.mkdir()
    cell = {"name": "a", "caches": 1, "transport": "udp", "delay_ms": 5}
    path = LabSpec(str(arm), "run-abcd", "x", "1-x", "1", {"cells": [cell]}, "/run/netns/mailgale-none", "", {"a": "192.0.2.53"}).write(arm / "s.json")
    done = run("harness.dns.labload", path)
    assert done.returncode == 8
    assert "no such network namespace" in done.stderr


def test_a_page_of_coredns_is_read():
    assert cache_counters(PAGE) == {"requests": 7, "reused_tcp": 2, "opened_tcp": 1, "opened_udp": 5}


class _Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def unbound(made: Lab, directory: Path, slots: int = 10) -> Iterator[int]:
    """The component's own configuration in the server's namespace; the authority is on the client's side."""
    needs("unbound")
    text = CONF.read_text()
    for name, value in (("UNBOUND_THREADS", "1"), ("INCOMING_NUM_TCP", str(slots)), ("LAB_ZONE", "delay.example"), ("LAB_AUTHORITY_SERVICE_HOST", made.client4)):
        text = text.replace(f"${{{name}}}", value)
    conf = directory / "unbound.conf"
    conf.write_text(text.replace('directory: "/run"', f'directory: "{directory}"'))
    process = subprocess.Popen(["nsenter", f"--net={made.server}", "unbound", "-d", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def test_the_sensors_see_what_unbound_does(tmp_path: Path):
    arm = tmp_path / "arm"
    with network() as made, unbound(made, tmp_path) as pid:
        udp, tcp = inside(made.client, lambda: _sockets(made.client4))
        with serving(Authority(), [udp], [tcp]):
            path = spec(made, arm, f"/proc/{pid}", max_per_s=50)
            until(lambda: _answers(pid), "unbound")
            lacking = run("harness.dns.sensors", path, "none.log", "once")
            assert lacking.returncode == 8, lacking.stderr  # without the caches there is no account
            server = inside(made.server, lambda: http.server.ThreadingHTTPServer((made.server4, 9153), _Metrics))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert run("harness.dns.sensors", path, "account.log", "once").returncode == 0
            _questions(made, 20)
            assert run("harness.dns.sensors", path, "census.log", "once").returncode == 0
            process = subprocess.Popen([sys.executable, "-m", "harness.dns.sensors", str(path), "sensors.log"])
            until(lambda: (arm / "sensors.log").exists() and len(_seen(arm / "sensors.log")) > 1, "two samples")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            server.shutdown()
            server.server_close()
    before, after = (next(e for e in events(arm / name, "dns_account") if e["where"] == "resolver") for name in ("account.log", "census.log"))
    assert (after["queries"] - before["queries"], after["queries_tcp"] - before["queries_tcp"]) == (20, 20)
    (settings,) = events(arm / "sensors.log", "dns_settings")
    assert (settings["threads"], settings["incoming_num_tcp"], settings["caches"]) == (1, 10, 1)
    assert settings["version"]
    sample = events(arm / "sensors.log", "dns_resolver")[0]
    assert {"slots", "slots_by_thread", "recv_q", "listen_overflows", "servfail"} <= set(sample)
    assert events(arm / "sensors.log", "dns_cache")[0]["opened_tcp"] == 1


def test_slots_that_are_held_are_counted(tmp_path: Path):
    """Eleven connections that say nothing against ten slots: ten are taken, one waits in the listener's queue."""
    with network() as made, unbound(made, tmp_path) as pid:
        until(lambda: _answers(pid), "unbound")
        held = inside(made.client, lambda: [_connect(made.server4) for _ in range(11)])
        resolver = Resolver(Path(f"/proc/{pid}"))
        try:
            until(lambda: resolver.sample()["slots"] == 10, "ten slots in use")
            until(lambda: resolver.sample()["recv_q"] == 1, "the eleventh to wait")
        finally:
            for one in held:
                one.close()


def _answers(pid: int) -> bool:
    try:
        return bool(Resolver(Path(f"/proc/{pid}")).control("status"))
    except NotReady:
        return False


def _seen(path: Path) -> list[dict[str, Any]]:
    return [e for e in read_events(path) if not isinstance(e, Damage) and e["kind"] == "dns_resolver"]


def _sockets(address: str) -> tuple[socket.socket, socket.socket]:
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for one in (udp, tcp):
        one.bind((address, 53))
        one.setblocking(False)
    tcp.listen(16)
    return udp, tcp


def _connect(address: str) -> socket.socket:
    return socket.create_connection((address, 53), 5)


def _questions(made: Lab, count: int) -> None:
    with inside(made.client, lambda: _connect(made.server4)) as channel:
        for n in range(count):
            query = dns.message.make_query(f"q{n}.d5.delay.example.", "A")
            dns.query.send_tcp(channel, query)
            assert dns.query.receive_tcp(channel)[0].answer

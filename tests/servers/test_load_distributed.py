"""A distributed load over real processes: what a killed worker leaves, and how its record comes to the conductor's side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.kube.api import ApiFailed
from harness.load import collect
from harness.load.collect import Collector
from harness.load.keeper import CHUNK_BYTES, Keeper
from harness.store.log import LogWriter
from harness.support.clock import wait_for
from tests.servers.load_runs import Ledger, make_spec
from tests.servers.load_sink import Sink
from tests.servers.test_load_locust import SMALL, _free_port, finish, locust, rows


@contextmanager
def keeper(folder: Path, port: int = 0) -> Iterator[Keeper]:
    with Keeper(folder, port, "127.0.0.1") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def asking(ports: dict[str, int]) -> collect.Ask:
    """As the API server's proxy would: an ApiFailed where nobody answers."""

    def ask(name: str, path: str, timeout_s: float) -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}{path}", timeout=timeout_s) as answer:
                return bytes(answer.read())
        except OSError as error:
            raise ApiFailed(str(error), status=getattr(error, "code", 0) or 0) from error

    return ask


def engine_of(worker: subprocess.Popen[str]) -> int:
    """The engine is the only child of a Locust worker."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    return int(wait_for(lambda: children.read_text().split(), deadline_s=20, what="the engine", every_s=0.05)[0])


@pytest.mark.slow
def test_a_worker_killed_in_mid_load_leaves_no_accepted_mail_unknown(tmp_path: Path):
    """SIGKILL of worker and engine, as when a pod is killed; the other goes on, and the master says that the load failed."""
    arm, outs = tmp_path / "arm", [tmp_path / f"volume-{n}" for n in range(3)]
    for folder in (arm, *outs):
        folder.mkdir()
    port = str(_free_port())
    load = {"steady_rate_per_s": 150, "burst_max_s": 8, "tail_s": 0, "drain_s": 2}
    with Sink() as sink, keeper(outs[1]) as first, keeper(outs[2]) as second:
        collector = Collector(["one", "two"], asking({"one": first.server_address[1], "two": second.server_address[1]}), arm)
        master = locust("mx", outs[0], sink.port, load, "--master", "--master-bind-port", port, "--expect-workers", "2", "--headless", "--only-summary")
        workers = [locust("mx", outs[n], sink.port, load, "--worker", "--master-port", port, **told(outs[n], sink.port, load, n)) for n in (1, 2)]
        collector.start()
        wait_for(lambda: len(sink.acknowledged) > 200, deadline_s=60, what="mails", every_s=0.02)
        engine = engine_of(workers[1])
        for pid in (workers[1].pid, engine):
            os.kill(pid, signal.SIGKILL)
        finish(workers[1])
        output = finish(master, 90)
        finish(workers[0])
        assert collector.finish(20) == []
    assert master.returncode == 3, output
    assert "is lost" in output
    one, two = Ledger.read(arm / "load-1.log"), Ledger.read(arm / "load-2.log")
    assert one.end["reason"] == "done"
    assert two.kinds("load_end") == []
    known = {i["mail"] for ledger in (one, two) for i in ledger.invokes}
    assert sink_mails(sink) <= known, "a mail reached the server that no record knows"
    assert [(arm / f"load-{n}.log").read_bytes() == (outs[n] / f"load-{n}.log").read_bytes() for n in (1, 2)] == [True, True]


@pytest.mark.slow
def test_a_worker_told_to_stop_by_somebody_else_fails_the_load(tmp_path: Path):
    """As when its pod is deleted: its log is whole, but what it had still to send is not sent."""
    port = str(_free_port())
    load = {"steady_rate_per_s": 40, "burst_max_s": 8, "tail_s": 0, "drain_s": 2}
    with Sink() as sink:
        master = locust("mx", tmp_path, sink.port, load, "--master", "--master-bind-port", port, "--expect-workers", "2", "--headless", "--only-summary")
        workers = [locust("mx", tmp_path, sink.port, load, "--worker", "--master-port", port) for _ in range(2)]
        wait_for(lambda: len(sink.acknowledged) > 40, deadline_s=60, what="mails", every_s=0.02)
        workers[1].send_signal(signal.SIGTERM)
        finish(workers[1])
        output = finish(master, 90)
        finish(workers[0])
    assert master.returncode == 3, output
    assert sorted(Ledger.read(tmp_path / f"load-{n}.log").end["reason"] for n in (1, 2)) == ["done", "stopped"]


def told(out: Path, port: int, load: dict[str, float], n: int) -> dict[str, str]:
    """The environment of a placed worker: without it the master's own options reach the workers, its directory with them."""
    (out / "given.json").write_text(make_spec(out, port, load, scenario="mx").to_json())
    return {"MAILGALE_LOAD_SPEC": str(out / "given.json"), "MAILGALE_LOAD_WORKER": f"{n}/2"}


def sink_mails(sink: Sink) -> set[int]:
    """Numbers of the mails that the sink took."""
    return {int(trace.rpartition(".")[2]) for trace in sink.acknowledged}


@pytest.mark.slow
def test_masters_reports_count_what_every_worker_did(tmp_path: Path):
    port, page = str(_free_port()), tmp_path / "report.html"
    with Sink() as sink:
        words = ("--expect-workers", "2", "--headless", "--only-summary", "--html", str(page))
        master = locust("friday", tmp_path, sink.port, SMALL, "--master", "--master-bind-port", port, *words)
        workers = [locust("friday", tmp_path, sink.port, SMALL, "--worker", "--master-port", port) for _ in range(2)]
        output = finish(master, 90)
        for worker in workers:
            finish(worker)
    assert master.returncode == 0, output
    sent = sum(len({(i["mail"], i["attempt"]) for i in Ledger.read(tmp_path / f"load-{n}.log").invokes}) for n in (1, 2))
    assert int(rows(tmp_path)["smtp", "mail"]["Request Count"]) == sent
    assert "smtp" in page.read_text()


def test_a_collector_goes_on_after_a_keeper_was_begun_anew(tmp_path: Path):
    volume, arm = tmp_path / "volume", tmp_path / "arm"
    volume.mkdir()
    arm.mkdir()
    ports: dict[str, int] = {}
    with LogWriter(volume / "load-1.log", "load") as log:
        with keeper(volume) as server:
            ports["k"] = server.server_address[1]
            collector = Collector(["k"], asking(ports), arm)
            collector.start()
            log.event("one")
            log.flush()
            wait_for(lambda: (arm / "load-1.log").exists() and b'"one"' in (arm / "load-1.log").read_bytes(), deadline_s=20, what="the first event", every_s=0.05)
        log.event("two", text="x" * (CHUNK_BYTES + 17))
        log.flush()
        wait_for(lambda: collector.misses > 0, deadline_s=20, what="a look in vain", every_s=0.05)
    (volume / "locust_stats.csv").write_text("Type,Name\n")
    (volume / ".hidden").write_text("x")
    revived = []
    with keeper(volume) as server:

        def revive(name: str) -> None:
            revived.append(name)
            ports["k"] = server.server_address[1]

        assert collector.finish(20, revive) == []
    assert revived[:1] == ["k"]
    assert (arm / "load-1.log").read_bytes() == (volume / "load-1.log").read_bytes()
    assert sorted(p.name for p in arm.iterdir()) == ["load-1.log", "locust_stats.csv"]


def test_what_cannot_be_taken_over_is_said(tmp_path: Path):
    found = Collector(["k"], asking({"k": _free_port()}), tmp_path).finish(1)
    assert len(found) == 1
    assert "the record of k could not be taken over to its end" in found[0]


def test_a_keeper_hands_out_nothing_but_its_directorys_files(tmp_path: Path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "volume" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "volume" / "load-1.log").write_bytes(b"0123456789")
    with keeper(tmp_path / "volume") as server:
        ask = asking({"k": server.server_address[1]})
        assert json.loads(ask("k", "/files", 5)) == {"load-1.log": 10}
        assert ask("k", "/file/load-1.log/4", 5) == b"456789"
        assert ask("k", "/file/load-1.log/10", 5) == b""
        for path in ("/file/../secret/0", "/file/%2e%2e/0", "/file/link/0", "/file/none/0", "/file//0", "/"):
            with pytest.raises(ApiFailed):
                ask("k", path, 5)


def test_clocks_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with keeper(tmp_path) as server:
        collector = Collector(["k"], asking({"k": server.server_address[1]}), tmp_path)
        assert collector.clock("k") == collect.Clock(0, 0)
        monkeypatch.setattr(collect, "boot_id", lambda: "another kernel's")
        found = collector.clock("k")
        assert 0 < found.within_ns < 1e9
        assert abs(found.offset_ns) <= found.within_ns
        ahead = 5_000_000_000
        monkeypatch.setattr(collect, "now_ns", lambda real=collect.now_ns: real() - ahead)
        shifted = collector.clock("k")
        assert abs(shifted.offset_ns - ahead) <= shifted.within_ns


def test_the_keeper_ends_by_sigterm(tmp_path: Path):
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-m", "harness.load.keeper", str(tmp_path), str(port)])
    try:
        ask = asking({"k": port})

        def answers() -> bytes | None:
            try:
                return ask("k", "/clock", 1)
            except ApiFailed:
                return None

        assert b"boot" in wait_for(answers, deadline_s=20, what="the keeper", every_s=0.05)
    finally:
        process.terminate()
    assert process.wait(10) == 0

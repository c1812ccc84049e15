"""Plain locust with the project's locustfiles against a real local server; the conductor's handle; distribution."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandFailed, GuardRefused, NotReady, UsageError
from harness.load import runner
from harness.load.spec import Access
from harness.support.clock import wait_for
from tests.servers.load_runs import Ledger, make_spec
from tests.servers.load_sink import Behaviour, Sink
from tests.servers.test_load_engine import OK, agrees

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
SMALL = {"elastic_senders": 2, "backlog_per_sender": 20, "watchers": 0, "warmup_s": 0.5, "tail_s": 0.5, "burst_max_s": 20, "steady_rate_per_s": 10, "min_backoff_s": 20,
         "max_backoff_s": 40}


def locust(scenario: str, out: Path, port: int, params: dict[str, Any], *words: str, **environment: str) -> subprocess.Popen[str]:
    sets = [w for k, v in params.items() for w in ("--set", f"{k}={v}")]
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(SCENARIOS / f"{scenario}.py"), "--host", f"smtp://127.0.0.1:{port}", "--load-out",
         str(out), "--time-scale", "100", "--csv", str(out / "locust"), *sets, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out, env={**os.environ, **environment},
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 60) -> str:
    output, _ = process.communicate(timeout=timeout_s)
    return output


def rows(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "locust_stats.csv").open(newline="") as handle:
        return {(r["Type"], r["Name"]): r for r in csv.DictReader(handle)}


@pytest.mark.parametrize("patched", [True, False])
def test_headless_locust_runs_a_scenario_to_its_end(tmp_path: Path, patched: bool):
    environment = {} if patched else {"LOCUST_SKIP_MONKEY_PATCH": "1"}
    with Sink(Behaviour(at_rcpt=lambda n, a: "450 4.7.1 Rate limit" if n % 5 == 1 else "")) as sink:
        process = locust("friday", tmp_path, sink.port, SMALL, "--headless", "--only-summary", **environment)
        output = finish(process)
    assert process.returncode == 0, output
    ledger = Ledger.read(tmp_path / "load-1.log")
    agrees(sink, ledger)
    assert ledger.end["reason"] == "done"
    mails = rows(tmp_path)["smtp", "mail"]
    assert int(mails["Request Count"]) == len({(i["mail"], i["attempt"]) for i in ledger.invokes})
    assert int(mails["Failure Count"]) == len({(d["mail"], d["attempt"]) for d in ledger.dones if d["outcome"] != OK})
    assert "Traceback" not in output


def test_an_engine_that_dies_is_no_success(tmp_path: Path):
    with Sink() as sink:
        process = locust("mx", tmp_path, sink.port, {"steady_rate_per_s": 20, "burst_max_s": 60}, "--headless")
        wait_for(lambda: len(sink.acknowledged) > 3, deadline_s=30, what="mails", every_s=0.05)
        os.kill(Ledger.read(tmp_path / "load-1.log").events[0]["pid"], signal.SIGKILL)
        output = finish(process)
    assert process.returncode == 3, output


def test_a_refusal_reaches_the_caller(tmp_path: Path):
    process = locust("mx", tmp_path, 25, {}, "--headless", "--host", "smtp://192.0.2.1:25")
    assert "192.0.2.1" in finish(process)
    assert process.returncode == 7
    process = locust("mx", tmp_path, 25, {"steady_rate": 1}, "--headless")
    assert "did you mean 'steady_rate_per_s'" in finish(process)
    assert process.returncode == 4


def test_the_web_ui_shows_the_ledgers_state(tmp_path: Path):
    with Sink() as sink:
        process = locust("mx", tmp_path, sink.port, {"steady_rate_per_s": 20, "burst_max_s": 60}, "--autostart", "--web-host", "127.0.0.1",
                         "--web-port", str(port := _free_port()))

        def shown() -> str | None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests", timeout=2) as answer:
                    text = answer.read().decode()
            except OSError:
                return None
            return text if '"phase": "burst"' in text else None

        try:
            text = wait_for(shown, deadline_s=30, what="the state in the web UI")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/mailgale", timeout=5) as answer:
                assert b"Accepted" in answer.read()
        finally:
            process.send_signal(signal.SIGTERM)
            finish(process)
    assert '"extended_stats"' in text
    assert Ledger.read(tmp_path / "load-1.log").end["reason"] == "stopped"


@pytest.mark.slow
def test_master_and_two_workers_share_the_load(tmp_path: Path):
    port = str(_free_port())
    with Sink() as sink:
        common = ("--expect-workers", "2", "--headless", "--only-summary")
        master = locust("friday", tmp_path, sink.port, SMALL, "--master", "--master-bind-port", port, *common)
        workers = [locust("friday", tmp_path, sink.port, SMALL, "--worker", "--master-port", port) for _ in range(2)]
        output = finish(master)
        assert [w.wait(30) for w in workers] == [0, 0]
        for worker in workers:
            finish(worker)
    assert master.returncode == 0, output
    one, two = (Ledger.read(tmp_path / f"load-{n}.log") for n in (1, 2))
    mails = [{o["mail"] for o in x.offers} for x in (one, two)]
    assert all(mails)
    assert not mails[0] & mails[1]
    assert not {o["sender"] for o in one.offers} & {o["sender"] for o in two.offers}
    assert sum(len({o["mail"] for o in x.offers if o["population"] == 1}) for x in (one, two)) == 40
    for ledger in (one, two):
        assert all(found == [OK] for found in ledger.outcomes().values())


def test_the_conductors_handle(tmp_path: Path):
    secrets = tmp_path / "secrets"
    arm = tmp_path / "arm"
    secrets.mkdir()
    arm.mkdir()
    with Sink() as sink:
        spec = make_spec(arm, sink.port, SMALL, password="geheim-42")
        process = runner.start(spec, arm, secrets=secrets)
        assert process.alive
        assert process.wait(60) == 0
        assert not process.alive
        process.stop()
    assert process.state()["kind"] == "load_end"
    agrees(sink, Ledger.read(arm / "load-1.log"))
    assert (arm / "spec.json").is_file()
    assert (arm / "locust_stats.csv").is_file()
    assert not any(b"geheim-42" in p.read_bytes() for p in arm.iterdir() if p.is_file())


def test_the_conductors_handle_stops_and_complains(tmp_path: Path):
    with Sink() as sink:
        process = runner.start(make_spec(tmp_path, sink.port, {**SMALL, "burst_max_s": 100, "backlog_per_sender": 100_000}), tmp_path)
        wait_for(lambda: process.state().get("accepted", 0) > 0, deadline_s=40, what="accepted mail")
        with pytest.raises(NotReady, match="has not ended"):
            process.wait(0.1)
        process.stop()
        assert not process.alive
        assert process.state()["reason"] == "stopped"
        agrees(sink, Ledger.read(tmp_path / "load-1.log"))


def test_the_conductors_handle_refuses(tmp_path: Path):
    with pytest.raises(UsageError, match="no scenario"):
        runner.start(make_spec(tmp_path, 25, {}, scenario="fryday"), tmp_path)
    with pytest.raises(GuardRefused):
        runner.start(make_spec(tmp_path, 25, {}, endpoints={"mx": Access(("192.0.2.1",), 25)}), tmp_path)
    process = runner.start(make_spec(tmp_path, 25, {"watchers": 3}), tmp_path)
    with pytest.raises(CommandFailed, match="endpoint for imap"):
        process.wait(60)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_load_whose_conductor_was_killed_ends(tmp_path: Path):
    """Else its mail would reach the stack of whoever goes on with the run."""
    with Sink() as sink:
        spec = make_spec(tmp_path, sink.port, {"steady_rate_per_s": 20, "burst_max_s": 100, "elastic_senders": 0}, scenario="mx")
        (tmp_path / "given.json").write_text(spec.to_json())
        code = (
            "import sys, signal, pathlib; from harness.load import runner; from harness.load.spec import LoadSpec\n"
            "runner.start(LoadSpec.read(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])); signal.pause()"
        )
        conductor = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "given.json"), str(tmp_path)])
        wait_for(lambda: len(sink.acknowledged) > 3, deadline_s=60, what="mails", every_s=0.05)
        conductor.kill()
        conductor.wait()
        wait_for(lambda: Ledger.read(tmp_path / "load-1.log").events[-1]["kind"] == "log_closed", deadline_s=40, what="the engine's end", every_s=0.2)
        sent = len(sink.acknowledged)
        wait_for(lambda: not writers_of(tmp_path), deadline_s=40, what="locust's end", every_s=0.2)
        assert len(sink.acknowledged) == sent
    assert Ledger.read(tmp_path / "load-1.log").end["reason"] == "stopped"


def writers_of(folder: Path) -> list[str]:
    """Commands of the processes that work in ``folder``."""
    return [p.name for p in Path("/proc").glob("[0-9]*") if _cwd(p) == str(folder)]


def _cwd(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""

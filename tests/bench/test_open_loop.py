"""The open loop: does it keep to its schedule at 5,000/s, and does it show an outage for what it is?"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.support.clock import wait_for
from tests.bench.book import ROOT, Book, tried
from tests.bench.processes import environment, python, smtp_sink
from tests.servers.load_runs import Ledger, engine, finish, make_spec
from tests.servers.load_sink import Sink

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]
SMALL: dict[str, Any] = {"size_median_bytes": 1550, "size_sigma": 0.01, "size_tail_share": 0.0, "recipients_max": 1, "steady_arrivals": "constant"}


@pytest.mark.parametrize(("rate", "goal"), [(1000, False), (2500, False), (5000, True)])
def test_lag(book: Book, tmp_path: Path, rate: int, goal: bool) -> None:
    """A connection for each mail, which is what ordinary senders do."""
    with smtp_sink() as port:
        spec = make_spec(tmp_path, port, {"steady_rate_per_s": rate, "steady_connections": 200, "burst_max_s": 8, **SMALL}, users=100)
        process = engine(spec)
        code, errors = finish(process, 60)
    assert code == 0, errors
    end = Ledger.read(tmp_path / "load-1.log").end
    lag, cpu = end["steps"]["schedule lag"], end["cpu_s"]
    note = f"{end['accepted']:,} of {end['offered']:,} mails accepted, {end['failed']:,} failed, CPU {cpu:.1f} s in 8 s, lag p50 {lag['p50_ms']:.2f} ms, max {lag['max_ms']:.0f} ms"
    book.add(f"open loop, {rate:,} mails/s, a connection each: schedule lag p99", lag["p99_ms"], "ms", "<5 ms" if goal else "", 5.0 if goal else None, False, note)


def test_a_frozen_sink(book: Book, tmp_path: Path) -> None:
    """200/s for 12 s, frozen from 4 s to 7 s. Truth: the sink says when it acknowledged each mail."""
    with Sink() as sink:
        process = engine(make_spec(tmp_path, sink.port, {"steady_rate_per_s": 200, "burst_max_s": 12, **SMALL}))
        freeze(sink)
        assert finish(process, 60)[0] == 0
    ledger = Ledger.read(tmp_path / "load-1.log")
    due = {o["mail"]: o["t_due"] for o in ledger.offers}
    truth = sorted((t - due[int(trace.rsplit(".", 1)[1])]) / 1e6 for trace, t in zip(sink.acknowledged, sink.acknowledged_ns, strict=True))
    exact = truth[int(len(truth) * 0.95)]
    seen = ledger.end["steps"]["smtp mail from due"]["p95_ms"]
    locust, why = tried(lambda: locust_p95(tmp_path))
    book.add("sink frozen 3 s of 12 s at 200/s: p95 from schedule", seen, "ms")
    book.add("〃: the truth, from the sink's own clock", exact, "ms")
    book.add("〃: off by", abs(seen / exact - 1) * 100, "%", "≤5 %", 5.0, False)
    what = "peer: Locust alone, 20 users × `constant_throughput(10)`: p95"
    if locust is None:
        book.missing(what, why)
    else:
        book.add(what, locust, "ms", note=f"off by a factor of {exact / max(locust, 0.1):.0f}")


def freeze(sink: Sink) -> None:
    wait_for(lambda: sink.connections > 0, deadline_s=30, what="the first mail", every_s=0.001)
    sink.begun = time.monotonic()
    sink.behaviour.frozen = lambda seconds: 4 <= seconds < 7


def locust_p95(out: Path) -> float:
    with Sink() as sink:
        process = subprocess.Popen(
            python("locust", "-f", str(ROOT / "tests/bench/paced_locust.py"), "--headless", "-u", "20", "-r", "20", "-t", "12s", "--csv", str(out / "paced")),
            env={**environment(), "BENCH_PORT": str(sink.port)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            freeze(sink)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(10)
    header, *rows = [line.split(",") for line in (out / "paced_stats.csv").read_text().splitlines()]
    total = next(r for r in rows if re.search("Aggregated", r[1]))
    return float(total[header.index("95%")])

"""SMTP: the whole engine (ledger, histograms, Locust's statistics) against smtp-source, Locust with smtplib, aiosmtplib."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.load.spec import Access, LoadSpec
from harness.store.log import Damage, read_events
from tests.bench.book import ROOT, Book, tried
from tests.bench.processes import cpu_s, environment, python, smtp_sink, smtp_source

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
CONNECTIONS, PAIRS = 50, 3
UNIT = "mails per client CPU-s"
SIZES: dict[str, Any] = {"size_median_bytes": 1550, "size_sigma": 0.01, "size_tail_share": 0.0, "recipients_max": 1}
PERSISTENT = {"reuse": True, "mails_per_connection": 1_000_000_000}


def engine(port: int, messages: int, locust: bool, params: dict[str, Any]) -> float:
    """CPU seconds of the load of ``messages`` mails: engine, and with ``locust`` the Locust process that steers it too."""
    with tempfile.TemporaryDirectory(prefix="mailgale-bench-") as name:
        out = Path(name)
        spec = LoadSpec("bench", "1-a", 7, "mx", {"mx": Access(("127.0.0.1",), port)}, {
            "steady_rate_per_s": 0, "elastic_senders": 10, "backlog_total": messages, "connections_per_sender": CONNECTIONS // 10, "burst_max_s": 300, **SIZES, **params,
        }, name, users=100)  # fmt: skip
        path = out / "spec.json"
        path.write_text(spec.to_json())
        if locust:
            command = python("locust", "-f", str(ROOT / "scenarios" / "mx.py"), "--headless", "--only-summary", "--csv", str(out / "stats"))
        else:
            command = python("harness.load", str(path))
        used = cpu_s(command, cwd=out, env={**environment(), "MAILGALE_LOAD_SPEC": str(path)}, output=out / "out.txt")
        events = [e for e in read_events(out / "load-1.log") if not isinstance(e, Damage)]
        end = next(e for e in events if e["kind"] == "load_end")
        assert (end["reason"], end["accepted"]) == ("done", messages), json.dumps(end)[:2000]
        assert end["steps"]["smtp mail"]["count"] == messages
    return used


def marginal(run: Callable[[int], float], few: int, many: int) -> float:
    """Messages per CPU second without the start of the processes: what ``many`` cost more than ``few``."""
    return (many - few) / (run(many) - run(few))


def pairs(times: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float | None, float | None, str]:
    """Medians of both and of their ratio, run by turns; None of a peer that gave no figure, and why."""
    seen = [(ours(), *tried(theirs)) for _ in range(times)]
    both = [(a, b) for a, b, _ in seen if b is not None]
    mine = statistics.median(a for a, *_ in seen)
    if not both:
        return mine, None, None, seen[-1][2]
    return mine, statistics.median(b for _, b in both), statistics.median(a / b for a, b in both), ""


def add_pair(book: Book, peer: str, theirs: float | None, ratio: float | None, why: str, **goal: Any) -> None:
    """The rows of a peer and of the ratio to it."""
    if theirs is None or ratio is None:
        book.missing(f"peer: `{peer}`", why)
        book.missing(f"ratio to `{peer}`", "the peer was not measured")
        return
    book.add(f"peer: `{peer}`", theirs, UNIT)
    book.add(f"ratio to `{peer}`", ratio, "×", **goal)


def test_persistent_connections(book: Book) -> None:
    with smtp_sink() as port:
        ours, *peer = pairs(
            PAIRS, lambda: marginal(lambda n: engine(port, n, True, {**PERSISTENT, "ahead": True}), 10_000, 90_000),
            lambda: smtp_source(port, 40_000, CONNECTIONS, "-d"),
        )
        alone = marginal(lambda n: engine(port, n, False, {**PERSISTENT, "ahead": True}), 10_000, 90_000)
        plain = marginal(lambda n: engine(port, n, True, PERSISTENT), 10_000, 60_000)
    book.add("SMTP persistent, pipelined, 2 kB, next envelope behind the dot: engine with ledger, histograms, Locust", ours, UNIT)
    book.add("〃, without the Locust process", alone, UNIT)
    note = f"{plain / peer[0]:.2f}× smtp-source -d" if peer[0] else ""
    book.add("〃, with Locust, a round trip for each envelope (`ahead: false`)", plain, UNIT, note=note)
    note = f"median of {PAIRS} pairs, {CONNECTIONS} connections, marginal cost of 80,000 mails"
    add_pair(book, "smtp-source -d", *peer, goal="≥2×", bound=2.0, note=note)


def test_connection_per_mail(book: Book) -> None:
    with smtp_sink() as port:
        ours, *peer = pairs(
            PAIRS, lambda: marginal(lambda n: engine(port, n, True, {"reuse": False}), 3_000, 23_000), lambda: smtp_source(port, 15_000, CONNECTIONS)
        )
    book.add("SMTP, a connection for each mail, 2 kB: engine with ledger, histograms, Locust", ours, UNIT)
    add_pair(book, "smtp-source", *peer, goal="≥1×", bound=1.0, note=f"median of {PAIRS} pairs, marginal cost of 20,000 mails")


def test_python_peers(book: Book) -> None:
    def smtplib(n: int) -> float:
        command = python("locust", "-f", str(ROOT / "tests/bench/peers_python.py"), "--headless", "--only-summary", "-u", str(CONNECTIONS), "-r", "50")
        with tempfile.TemporaryDirectory() as name:
            return cpu_s(command, env={**environment(), "BENCH_PORT": str(port), "BENCH_MESSAGES": str(n)}, output=Path(name) / "out")

    def aiosmtplib(n: int) -> float:
        return cpu_s(python("tests.bench.peers_python", "aiosmtplib", str(port), str(n), str(CONNECTIONS)))

    with smtp_sink() as port:
        ours = marginal(lambda n: engine(port, n, True, {**PERSISTENT, "ahead": True}), 5_000, 45_000)
        greenlets = book.peer("peer: Locust + smtplib in greenlets, persistent", UNIT, lambda: marginal(smtplib, 2_000, 12_000))
        plain = book.peer("peer: aiosmtplib on uvloop, persistent, no statistics", UNIT, lambda: marginal(aiosmtplib, 1_000, 9_000))
    note = f"engine {ours:,.0f}" + (f"; {ours / plain:.1f}× aiosmtplib" if plain else "")
    book.ratio("ratio to Locust + smtplib", ours, greenlets, goal="≥3×", bound=3.0, note=note)

"""The tab "Ledger" in Locust's own web UI, as a real browser shows it, and what feeds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.load.live_page import COLUMNS
from harness.support.clock import wait_for
from tests.servers.load_sink import Behaviour, Sink
from tests.servers.test_load_locust import _free_port, finish, locust

BROWSER = next((b for name in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(name))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="not supported here: no Chromium")
#: Slow enough to be looked at, with every class of deferral.
LOAD = {"steady_rate_per_s": 20, "burst_max_s": 90, "min_backoff_s": 300, "max_backoff_s": 400}


class Cells(HTMLParser):
    """The tables of a page as lists of rows of texts, and the titles of its tabs."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tabs: list[str] = []
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._into = self.rows[-1]
        if ("role", "tab") in attrs:
            self.tabs.append("")
            self._into = self.tabs

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "button"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1] += data.strip()


def get(port: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.loads(answer.read())


def ledger_rows(port: str) -> list[dict[str, Any]] | None:
    """Rows of the tab, once something was accepted."""
    try:
        rows: list[dict[str, Any]] = get(port, "/mailgale.json")
    except OSError:
        return None
    return rows if rows and rows[0]["accepted"] and rows[0]["deferred_planned_limit"] else None


def browse(port: str, picture: Path, profile: Path) -> Cells:
    """What Chromium makes of the tab; ``picture`` is its screenshot."""
    common = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
              "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}", "--virtual-time-budget=6000",
              "--window-size=1700,520"]
    url = f"http://127.0.0.1:{port}/?tab=ledger"
    subprocess.run([*common, f"--screenshot={picture}", url], capture_output=True, check=True, timeout=90)
    page = subprocess.run([*common, "--dump-dom", url], capture_output=True, text=True, check=True, timeout=90).stdout
    found = Cells()
    found.feed(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    return found


@contextmanager
def alone(out: Path) -> Iterator[str]:
    """A running load with its web UI: the port."""
    limited = Behaviour(at_rcpt=lambda n, a: "450 4.7.1 Rate limit exceeded" if n % 5 == 1 else "")
    with Sink(limited) as sink:
        words = ("--autostart", "--web-host", "127.0.0.1", "--web-port", port := str(_free_port()))
        process = locust("mx", out, sink.port, LOAD, *words)
        try:
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            finish(process)


@pytest.mark.slow
@needs_browser
@pytest.mark.timeout(240)
def test_a_browser_shows_the_ledger_in_a_tab_of_locusts(tmp_path: Path):
    picture = Path(os.environ.get("MAILGALE_UI_PICTURE") or tmp_path / "tab.png")
    with alone(tmp_path) as port:
        before = wait_for(lambda: ledger_rows(port), deadline_s=60, what="accepted and deferred mail", every_s=0.2)[0]
        page = browse(port, picture, tmp_path / "profile")
        after = ledger_rows(port)[0]
    assert "Ledger" in page.tabs
    head = next(row for row in page.rows if "Undetermined" in row)
    assert head == list(COLUMNS.values())
    shown = dict(zip(COLUMNS, next(row for row in page.rows if row and row[0] == "engine 1"), strict=True))
    for key in ("offered", "accepted", "deferred_planned_limit"):
        assert before[key] <= int(shown[key].replace(",", "")) <= after[key], (key, shown)
    assert shown["phase"] == "burst"
    assert float(shown["lag_p99_ms"].replace(",", "")) >= 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_masters_tab_adds_up_its_workers(tmp_path: Path):
    port, ui = str(_free_port()), str(_free_port())
    with Sink(Behaviour(at_rcpt=lambda n, a: "450 4.7.1 Rate limit exceeded" if n % 5 == 1 else "")) as sink:
        words = ("--master", "--master-bind-port", port, "--expect-workers", "2", "--autostart", "--web-host", "127.0.0.1", "--web-port", ui)
        master = locust("mx", tmp_path, sink.port, LOAD, *words)
        workers = [locust("mx", tmp_path, sink.port, LOAD, "--worker", "--master-port", port) for _ in range(2)]

        def whole() -> list[dict[str, Any]] | None:
            rows = ledger_rows(ui)
            return rows if rows and len(rows) == 3 and all(r["accepted"] for r in rows) else None

        try:
            rows = wait_for(whole, deadline_s=90, what="both workers' states at the master", every_s=0.3)
        finally:
            master.send_signal(signal.SIGTERM)
            finish(master)
            for worker in workers:
                finish(worker)
    assert [r["name"] for r in rows] == ["all", "engine 1", "engine 2"]
    for key in ("offered", "accepted", "deferred_planned_limit", "in_flight"):
        assert rows[0][key] == rows[1][key] + rows[2][key]
    assert rows[0]["lag_p99_ms"] == max(rows[1]["lag_p99_ms"], rows[2]["lag_p99_ms"])

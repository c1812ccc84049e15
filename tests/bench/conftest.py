"""One book for all rows of a run; written after each bench to ``reports/bench/`` (or where MAILGALE_BENCH_OUT says), printed at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.book import ROOT, Book, versions

_BOOK = pytest.StashKey[Book]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", action="store_true", help="bench: what is not measured now stays in the table as it was measured last")
    parser.addoption("--ten-million", action="store_true", help="bench: check a ledger of 10 million mails too (minutes, 5 GB of disk)")


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Iterator[Book]:
    """Where a bench puts its rows."""
    one = request.config.stash.setdefault(_BOOK, Book(versions=versions()))
    one.begin(f"{request.path.stem}.{request.node.name}")
    yield one
    folder = Path(os.environ.get("MAILGALE_BENCH_OUT", ROOT / "reports" / "bench"))
    if request.config.getoption("--keep", default=False):
        one.keep(folder)
    if one.rows:
        one.write(folder)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A bench that cannot be run here, or that fails, gets a row that says so; the others go on, and a failure still counts at the end."""
    outcome: Any = yield
    report, book = outcome.get_result(), item.config.stash.get(_BOOK, None)
    if book is None or report.passed or report.when == "teardown":
        return
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else f"failed: {call.excinfo.exconly() if call.excinfo is not None else report.longrepr}"
    book.missing(f"{item.name} (whole or rest of it)", why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    book = config.stash.get(_BOOK, None)
    if book is None or not book.rows:
        return
    terminalreporter.write_line("")
    for line in book.markdown().splitlines():
        terminalreporter.write_line(line)

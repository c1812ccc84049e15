"""One book for all rows of a run; printed at its end and written to ``reports/bench/`` (or where MAILGALE_BENCH_OUT says)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.book import ROOT, Book, versions

_BOOK = pytest.StashKey[Book]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", action="store_true", help="bench: what is not measured now stays in the table as it was measured last")
    parser.addoption("--ten-million", action="store_true", help="bench: check a ledger of 10 million mails too (minutes, 2.5 GB of disk)")


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Book:
    """Where a bench puts its rows."""
    one = request.config.stash.setdefault(_BOOK, Book(versions=versions()))
    one.begin(request.path.stem.removeprefix("test_"))
    return one


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    book = config.stash.get(_BOOK, None)
    if book is None or not book.rows:
        return
    folder = Path(os.environ.get("MAILGALE_BENCH_OUT", ROOT / "reports" / "bench"))
    if config.getoption("--keep"):
        book.keep(folder)
    book.write(folder)
    terminalreporter.write_line("")
    for line in book.markdown().splitlines():
        terminalreporter.write_line(line)

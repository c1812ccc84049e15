"""The check of a ledger of 10⁴ … 10⁷ mails: time, memory, growth; and that it does find what is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.bench.book import Book
from tests.bench.processes import environment, python

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


def checked(mails: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="mailgale-bench-ledger-"))
    try:
        subprocess.run(python("tests.bench.synthetic", "make", str(folder), str(mails)), check=True, env=environment())
        done = subprocess.run(python("tests.bench.synthetic", "check", str(folder)), check=True, env=environment(), capture_output=True)
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(folder)


def test_growth(book: Book, request: pytest.FixtureRequest) -> None:
    sizes = [10_000, 100_000, 1_000_000, *([10_000_000] if request.config.getoption("--ten-million", default=False) else [])]
    seen = {n: checked(n) for n in sizes}
    for n, found in seen.items():
        assert (found["lost"], found["accepted"]) == (n // 100_000, n)
        note = f"CPU {found['cpu_s']:.1f} s, {found['lost']:.0f} lost mails found"
        whole = n == 10_000_000
        book.add(f"ledger check of {n:,} mails: time", found["seconds"], "s", "<60 s" if whole else "", 60.0 if whole else None, False, note)
        book.add(f"ledger check of {n:,} mails: peak memory", found["rss"] / 2**30, "GiB", "<2 GB" if whole else "", 2e9 / 2**30 if whole else None, False)
    most, less = sizes[-1], sizes[-2]
    grown = (seen[most]["seconds"] - seen[sizes[0]]["seconds"]) / max(seen[less]["seconds"] - seen[sizes[0]]["seconds"], 1e-3)
    note = "without the fixed cost of starting" if len(sizes) == 4 else "10⁷ not run: pass --ten-million (BENCH_ARGS=--ten-million)"
    book.add(f"growth of time from {less:,} to {most:,} mails", grown, "×", "linear: ≤12×", 12.0, False, note)

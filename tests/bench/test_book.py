"""The bench's table says missed when a goal is missed, and keeps what was not measured again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.bench.book import ROOT, Book, Row
from tests.bench.processes import environment, python


@pytest.mark.parametrize(
    ("seen", "bound", "least", "verdict"),
    [(2.1, 2.0, True, "held"), (2.0, 2.0, True, "held"), (1.5, 2.0, True, "missed: 0.75 of the goal"), (4.9, 5.0, False, "held"),
     (10.0, 5.0, False, "missed: 2× the bound"), (3.0, None, True, "")],
)
def test_goals_are_held_or_missed_by_how_much(seen: float, bound: float | None, least: bool, verdict: str) -> None:
    assert Row("x", seen, "×", "goal", bound, least).verdict == verdict


def test_rows_that_were_not_measured_again_are_kept(tmp_path: Path) -> None:
    first = Book(versions={"a": "1"})
    for group, seen in (("imap", 1.0), ("smtp", 2.0)):
        first.begin(group)
        first.add("figure", seen, "s")
    first.write(tmp_path)
    second = Book(versions={"a": "2"})
    second.begin("smtp")
    second.add("figure", 3.0, "s")
    second.keep(tmp_path)
    second.write(tmp_path)
    assert [(r["group"], r["seen"]) for r in json.loads((tmp_path / "bench.json").read_text())["rows"]] == [("imap", 1.0), ("smtp", 3.0)]
    assert "| figure | 3 s |" in (tmp_path / "bench.md").read_text()


BENCH = """
import pytest
pytestmark = pytest.mark.bench
def test_skips(book): pytest.skip("smtp-sink is not here")
def test_fails(book):
    book.add("before it fails", 1.0, "s")
    raise OSError("the engine is gone")
def dead(): raise AssertionError("exit 1")
def test_peer_dies(book):
    theirs = book.peer("peer: dead", "s", dead)
    book.ratio("ratio to dead", 2.0, theirs, goal="≥2×", bound=2.0)
def test_misses(book): book.add("slow", 1.0, "×", "≥2×", 2.0)
"""


def test_what_cannot_be_measured_gets_a_row_and_the_bench_goes_on(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BENCH)
    words = ["-q", "-p", "tests.bench.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml"), "-m", "bench"]
    env = {**environment(), "MAILGALE_BENCH_OUT": str(tmp_path / "out")}
    done = subprocess.run(python("pytest", *words, str(tmp_path / "test_it.py")), env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {r["what"]: (r["seen"], r["verdict"], r["note"]) for r in json.loads((tmp_path / "out" / "bench.json").read_text())["rows"]}
    assert rows == {
        "test_skips (whole or rest of it)": (None, "", "not measured: Skipped: smtp-sink is not here"),
        "before it fails": (1.0, "", ""), "test_fails (whole or rest of it)": (None, "", "not measured: failed: OSError: the engine is gone"),
        "peer: dead": (None, "", "not measured: AssertionError: exit 1"), "ratio to dead": (None, "", "not measured: the peer was not measured"),
        "slow": (1.0, "missed: 0.5 of the goal", ""),
    }

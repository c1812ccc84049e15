"""The bench's table says missed when a goal is missed, and keeps what was not measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.book import Book, Row


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

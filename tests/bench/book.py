"""The table that ``make bench`` prints and writes under ``reports/bench/``: rows with goal, what was seen, and held or missed by how much."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from harness.errors import MailgaleError

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


_HOW = (
    "CPU seconds are the client's, user and system, by getrusage; ratios are of pairs run one after the other. Above a load of 1 before a"
    " group the host was busy with something else: read ratios within that group only."
)


@dataclass
class Row:
    """One figure.

    :param what: what was measured. :param unit: of ``seen``. :param goal: e.g. ``≥2×``, "" for a peer or a figure without one.
    :param seen: the value, None: it could not be measured, ``note`` says why. :param bound: the number in the goal. :param least: the goal is a lower bound.
    :param note: samples, limits, what stood in the way.
    """

    what: str
    seen: float | None
    unit: str
    goal: str = ""
    bound: float | None = None
    least: bool = True
    note: str = ""
    verdict: str = ""
    group: str = ""
    at: str = ""
    load_before: float = 0.0

    def __post_init__(self) -> None:
        if self.bound is None or self.seen is None:
            return
        held = self.seen >= self.bound if self.least else self.seen <= self.bound
        off = self.seen / self.bound if self.bound else 0.0
        self.verdict = "held" if held else f"missed: {off:.3g} of the goal" if self.least else f"missed: {off:.3g}× the bound"


@dataclass
class Book:
    """The rows of one run of the bench. ``group``: what is measured now; ``load_before``: the load average before it."""

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    group: str = ""
    load_before: float = 0.0
    kept: list[Row] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)

    def begin(self, group: str) -> None:
        """The next rows are of ``group``."""
        self.group, self.load_before = group, os.getloadavg()[0]

    def add(self, *args: Any, **kwargs: Any) -> Row:
        at = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        self.rows.append(Row(*args, **kwargs, group=self.group, at=at, load_before=round(self.load_before, 1)))
        return self.rows[-1]

    def missing(self, what: str, why: str) -> None:
        """A figure that could not be had: a peer that is not here or that failed. The bench goes on."""
        self.add(what, None, "", note=" ".join(f"not measured: {why}".split())[:300].replace("|", "/"))

    def peer(self, what: str, unit: str, measure: Callable[[], float], note: str = "") -> float | None:
        """Measure a peer and add its row; None where it cannot be run here."""
        seen, why = tried(measure)
        if seen is None:
            self.missing(what, why)
        else:
            self.add(what, seen, unit, note=note)
        return seen

    def ratio(self, what: str, ours: float, theirs: float | None, **goal: Any) -> None:
        """The row of a goal that is a ratio to a peer."""
        if theirs is None:
            self.missing(what, "the peer was not measured")
        else:
            self.add(what, ours / theirs, "×", **goal)

    def keep(self, folder: Path) -> None:
        """Take the rows of groups that were not measured now from the last run's file."""
        path = folder / "bench.json"
        if path.exists():
            self.measured |= {r.group for r in self.rows if r not in self.kept}
            self.kept = [Row(**r) for r in json.loads(path.read_text())["rows"] if r["group"] not in self.measured]
            self.rows = [*self.kept, *(r for r in self.rows if r.group in self.measured)]
            self.rows.sort(key=lambda r: r.group)

    def markdown(self) -> str:
        lines = [
            "# Bench", "",
            f"{os.cpu_count()} cores. {_HOW}", "",
            "| what | seen | goal | verdict | note | measured (UTC), load before |", "|---|---|---|---|---|---|",
            *(f"| {r.what} | {_number(r.seen)} {r.unit} | {r.goal} | {r.verdict} | {r.note} | {r.at}, {r.load_before:.1f} |" for r in self.rows), "",
            "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(self.versions.items())) + ".", "",
        ]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """``bench.md`` and ``bench.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.md").write_text(self.markdown())
        (folder / "bench.json").write_text(json.dumps({
            "cores": os.cpu_count(),
            "versions": self.versions, "rows": [asdict(r) for r in self.rows],
        }, indent=1, ensure_ascii=False) + "\n")


def versions() -> dict[str, str]:
    """Of the product's and the peers' parts, as far as they are installed."""
    found = {"Python": platform.python_version(), "kernel": platform.release()}
    for name in ("uvloop", "locust", "gevent", "aiosmtplib", "aioimaplib", "duckdb"):
        found[name] = importlib.metadata.version(name)
    for name, command in (("Postfix (smtp-source, smtp-sink)", ["/usr/sbin/postconf", "-d", "-h", "mail_version"]), ("Dovecot", ["dovecot", "--version"])):
        try:
            found[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            found[name] = "not installed"
    return found


def tried(measure: Callable[[], T]) -> tuple[T | None, str]:
    """What a peer's measurement gives; None and why where the peer is missing, dies or hangs: that is no failure of the product."""
    try:
        return measure(), ""
    except (OSError, AssertionError, MailgaleError, subprocess.SubprocessError, pytest.skip.Exception) as error:
        return None, f"{type(error).__name__}: {error}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

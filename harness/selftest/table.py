"""Runs the self-test and says, line by line, what was expected and what was seen."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from harness.judge import judge_history
from harness.judge.verdict import RunVerdict
from harness.model.verdict import Status, Verdict
from harness.selftest.defects import BIG, HARNESS, NOT_EXPRESSIBLE, PLATFORM, Defect, base_history
from harness.selftest.good import good_history
from harness.store.history import load
from harness.store.run import RunDir
from harness.support.progress import Progress

GOOD_HISTORIES = 300
WORKERS = 2


@dataclass(frozen=True)
class Row:
    """One line of the table.

    :param kind: ``good``, ``platform``, ``harness`` or ``live``.
    :param check: the check that must see it. :param expected: its status. :param seen: the status it gave.
    :param well: it was seen by that check, the run did not pass, and no check failed that had no reason to.
    """

    kind: str
    name: str
    planted: str
    check: str
    expected: str
    seen: str
    well: bool
    reason: str
    took_s: float = 0.0


@dataclass(frozen=True)
class Table:
    """The whole self-test."""

    mode: str
    rows: tuple[Row, ...]
    took_s: float
    not_expressible: dict[str, str]

    @property
    def well(self) -> bool:
        """Every line holds, and there are lines."""
        return bool(self.rows) and all(r.well for r in self.rows)

    def to_json(self) -> str:
        """The table as JSON."""
        return json.dumps({"mode": self.mode, "well": self.well, "took_s": round(self.took_s, 1), "rows": [asdict(r) for r in self.rows],
                           "not_expressible": self.not_expressible}, indent=1) + "\n"


def quick(progress: Progress, *, histories: int = GOOD_HISTORIES) -> Table:
    """``histories`` good histories and every defect that a small history can show."""
    return _run("quick", [partial(_defects, (*PLATFORM, *HARNESS)), partial(_good, histories)], progress)


def known_bad(progress: Progress) -> Table:
    """Every planted defect: those of ``quick``, those that need 30,000 mails, and a platform that misbehaves over real sockets."""
    from harness.selftest.live import live_rows

    return _run("known-bad", [partial(_defects, (*PLATFORM, *HARNESS, *BIG)), live_rows], progress)


def a_a(progress: Progress) -> Table:
    """Pairs of runs in which nothing was changed, compared."""
    return _run("aa", [_pairs], progress)


def _pairs(progress: Progress) -> list[Row]:
    from harness.selftest.aa import PAIRS, aa_row, pair

    with progress.stage(f"{PAIRS} A/A pairs"), _pool() as pool:
        return [aa_row(pool.map(pair, range(PAIRS)))]


def _run(mode: str, parts: Sequence[Callable[[Progress], list[Row]]], progress: Progress) -> Table:
    begin = time.monotonic()
    rows = [row for part in parts for row in part(progress)]
    return Table(mode, tuple(rows), time.monotonic() - begin, dict(NOT_EXPRESSIBLE))


def _pool() -> ProcessPoolExecutor:
    """Processes that share nothing with this one, so that no thread of it is forked."""
    return ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), mp_context=multiprocessing.get_context("spawn"))


def _defects(defects: Sequence[Defect], progress: Progress) -> list[Row]:
    rows = []
    with progress.stage(f"{len(defects)} planted defects"), _pool() as pool:
        for row in pool.map(row_of, [d.name for d in defects]):
            progress.waiting(row.name)
            rows.append(row)
    return rows


def _good(count: int, progress: Progress) -> list[Row]:
    begin = time.monotonic()
    seen: list[tuple[int, str, str]] = []
    with progress.stage(f"{count} good histories"), _pool() as pool:
        for one in pool.map(judge_good, range(count), chunksize=5):
            progress.waiting(f"history {one[0]}")
            seen.append(one)
    failed = [f"history {n}: {text}" for n, status, text in seen if status == Status.FAIL.name]
    counts = ", ".join(f"{sum(status == s.name for _, status, _ in seen)} {s.name}" for s in Status)
    reason = failed[0] if failed else next((f"history {n}: {text}" for n, status, text in seen if status != Status.PASS.name), "")
    planted = "cut connections, retries, a killed pod, legal re-encoding, users' deletions"
    return [Row("good", f"{count} good histories", planted, "all", "0 FAIL", counts, bool(seen) and not failed, reason, time.monotonic() - begin)]


def judge_good(number: int) -> tuple[int, str, str]:
    """(number, status, sentence) of a good history."""
    with tempfile.TemporaryDirectory(prefix="mailgale-selftest-") as root:
        verdict = _judged(good_history(Path(root), number).write())
    return number, verdict.status.name, verdict.sentence


def row_of(name: str) -> Row:
    """Plant the defect called ``name`` and judge what comes of it.

    :raises KeyError: there is no such defect.
    """
    defect = {d.name: d for d in (*PLATFORM, *HARNESS, *BIG)}[name]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mailgale-selftest-") as root:
        made = base_history(Path(root), defect.base)
        defect.plant(made)
        run = made.write()
        defect.spoil(run)
        verdict = _judged(run)
    return _row(defect, verdict, time.monotonic() - begin)


def _row(defect: Defect, verdict: RunVerdict, took_s: float) -> Row:
    mine = [v for v in verdict.verdicts if v.check == defect.check]
    seen = max(mine, key=lambda v: v.status, default=Verdict(defect.check, "", Status.PASS, "the check was not made"))
    others = sorted({v.check for v in verdict.verdicts if v.status == Status.FAIL} - {defect.check} - defect.also)
    reason = seen.reason + (f"; FAIL without reason by {', '.join(others)}" if others else "")
    well = seen.status == defect.status and verdict.status != Status.PASS and not others
    kind = "platform" if defect.status == Status.FAIL else "harness"
    return Row(kind, defect.name, defect.planted, defect.check, defect.status.name, seen.status.name, well, reason, round(took_s, 2))


def _judged(run: RunDir) -> RunVerdict:
    with load(run) as history:
        return judge_history(history)

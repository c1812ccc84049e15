"""The driver; see the package. Exit 0 when at least ``--goal`` of the mutants tried were killed and the tests pass without any, else 1."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.mutation.equivalent import RULES, counted, stale
from tests.mutation.lines import fingerprint
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.plan import AREAS, MODULES
from tests.mutation.run import ROOT, Session, Tried, run_session

#: What the tests of the plan import: loaded once, before the forks.
WARM = ("duckdb", "numpy", "pydantic", "yaml", "kubernetes.client", "jinja2")


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants that the command line asks for."""
    options = _options(argv)
    os.chdir(ROOT)
    asked = options.only or [path for path in MODULES if not options.area or any(path in AREAS[a] for a in options.area)]
    chosen = drawn(asked, options.sample, options.seed)
    if options.list:
        print("\n".join(f"{m.name}    {m.text}" for m in chosen))
        return 0
    for name in WARM:
        importlib.import_module(name)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    tried: list[Tried] = []
    files = list(dict.fromkeys(test for m in chosen for test in MODULES[m.path]))
    if not run_session(files, lambda session: _work(session, chosen, options, tried), options.keep):
        return 1
    return _report(tried, options)


def drawn(paths: Sequence[str], sample: int, seed: int) -> list[Mutant]:
    """``sample`` of all mutants (0: all), by the seed, in a random order: a run that is cut short is a sample as well, and a larger one holds a smaller.

    :raises SystemExit: a rule of ``equivalent`` fits nothing.
    """
    every = [m for path in paths for m in mutants(path, (ROOT / path).read_text())]
    if old := stale(every):
        raise SystemExit("rules that fit no mutant: " + "; ".join(f"{r.path}: {r.text}: {r.what}" for r in old))
    count = counted(every)
    chosen = random.Random(seed).sample(count, len(count))[: sample or len(count)]
    print(f"{len(every)} mutants of {len(paths)} modules, {len(every) - len(count)} left out by {len(RULES)} rules; {len(chosen)} drawn with seed {seed}", flush=True)
    return chosen


def _work(session: Session, chosen: Sequence[Mutant], options: argparse.Namespace, tried: list[Tried]) -> None:
    journal = Journal(options.keep)
    begin, spent = time.monotonic(), 0.0
    for mutant in chosen:
        done = journal.find(mutant)
        if done is None:
            if spent > options.cpu_minutes * 60 or time.monotonic() - begin > options.minutes * 60:
                print("the time is over")
                return
            done = session.attempt(mutant)
            journal.note(done)
            spent += done.cpu_s
            print(f"{done.how:8} {done.cpu_s:5.1f} s  {mutant.name}" + (f"    {mutant.text}" if done.how == "survived" else ""), flush=True)
        tried.append(done)


class Journal:
    """What was tried before, so that a long run may come in slices. Killed stays killed while its module is the same, survived while the tests are."""

    def __init__(self, kept: Path | None) -> None:
        self._file = kept / "tried.jsonl" if kept else None
        self._tests = fingerprint((ROOT / "tests").rglob("test_*.py"))
        rows = map(json.loads, self._file.read_text().splitlines()) if self._file and self._file.exists() else ()
        self._rows = {row["key"]: row for row in rows}

    def find(self, mutant: Mutant) -> Tried | None:
        """How it ended, if that still holds."""
        row = self._rows.get(_key(mutant))
        if row is None or (row["how"] == "survived" and row["tests"] != self._tests):
            return None
        return Tried(mutant, row["how"], row["by"], row["cpu_s"])

    def note(self, tried: Tried) -> None:
        """Keep how it ended."""
        if self._file is not None:
            row = {"key": _key(tried.mutant), "name": tried.mutant.name, "how": tried.how, "by": tried.by, "cpu_s": round(tried.cpu_s, 2), "tests": self._tests}
            with self._file.open("a") as out:
                out.write(json.dumps(row) + "\n")


def _key(mutant: Mutant) -> str:
    return f"{mutant.path}:{_hash(mutant.path)}:{mutant.index}:{mutant.change}"


@cache
def _hash(path: str) -> str:
    return fingerprint([ROOT / path])


def _report(tried: Sequence[Tried], options: argparse.Namespace) -> int:
    shares = {area: figures([t for t in tried if t.mutant.path in AREAS[area]]) for area in AREAS}
    shares["all"] = figures(tried)
    for one in (t for t in tried if t.how == "survived"):
        print(f"survived: {one.mutant.name}    {one.mutant.text}    {one.by}")
    for area, found in shares.items():
        print(f"{area:18} {found['killed']} of {found['tried']} killed: {found['share']:.1%} ({found['low']:.1%} to {found['high']:.1%})")
    print(f"{sum(t.cpu_s for t in tried) / 60:.1f} CPU minutes, {sum(t.how == 'timeout' for t in tried)} by the limit of time")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "areas": shares}, indent=1) + "\n")
    return 0 if shares["all"]["share"] >= options.goal else 1


def figures(tried: Sequence[Tried]) -> dict[str, float]:
    """Share killed with its 95 % interval (Wilson 1927): of a sample drawn at random, for all mutants of the area."""
    n, killed, z = len(tried), sum(t.how != "survived" for t in tried), 1.959964
    if not n:
        return {"tried": 0, "killed": 0, "share": 0.0, "low": 0.0, "high": 1.0}
    share = killed / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return {"tried": n, "killed": killed, "share": share, "low": (middle - half) / (1 + z * z / n), "high": (middle + half) / (1 + z * z / n)}


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--sample", type=int, default=120, help="mutants to try, 0: all [120]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu-minutes", type=float, default=12, help="no mutant is begun after so much CPU time [12]")
    parser.add_argument("--minutes", type=float, default=120, help="nor after so many minutes [120]")
    parser.add_argument("--goal", type=float, default=0.9, help="share killed that makes exit 0 [0.9]")
    parser.add_argument("--only", action="append", choices=list(MODULES), help="this module; may be repeated")
    parser.add_argument("--area", action="append", choices=list(AREAS), help="the modules of this area; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the mutants and try none")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there")
    parser.add_argument("--keep", type=Path, default=None, help="a directory: go on with what was tried before, keep what is tried now")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

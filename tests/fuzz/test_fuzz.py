"""The corpora play without a fault; a minute of coverage-guided fuzzing from them finds none; and a planted fault is found."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
#: Seconds for each target: a minute in sum. The clients talk over sockets, so they need more of it.
SECONDS = {name: 12 if name.endswith("client") else 5 for name in TARGETS}
#: What a whole corpus may hold: it is there to be played in the quick tests.
FILES_MAX, OCTETS_MAX = 120, 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_plays(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for path in files:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small(name: str) -> None:
    sizes = [p.stat().st_size for p in (CORPUS / name).iterdir()]
    assert len(sizes) <= FILES_MAX
    assert sum(sizes) <= OCTETS_MAX


def test_every_corpus_has_its_target() -> None:
    assert {p.name for p in CORPUS.iterdir()} == set(TARGETS)
    assert sum(SECONDS.values()) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    done = fuzz(name, tmp_path, f"-max_total_time={SECONDS[name]}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr


@pytest.mark.slow
def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """A target that breaks on octets which no corpus holds: coverage leads there within seconds, a blind search would not."""
    done = fuzz("planted", tmp_path, "-max_total_time=60", "-runs=2000000")
    assert done.returncode != 0
    assert "the planted fault" in done.stdout + done.stderr


def fuzz(name: str, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of the fuzzer; what it finds stays in ``work``."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("not supported here: atheris has no build for this platform")
    (work / "found").mkdir()
    words = [sys.executable, "-m", "tests.fuzz", name, "-seed=1", *options, "found", *([str(CORPUS / name)] if name in TARGETS else [])]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(words, cwd=work, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=100)

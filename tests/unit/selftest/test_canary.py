"""The canary: a run that must fail, judged by the command as any other. If it ever passes, no green of that version counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.selftest.builder import HistoryBuilder, kill_run


def judged(path: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", "from harness.cli.main import main; main()", "judge", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)


def test_the_canary_fails_and_names_its_mail(tmp_path: Path):
    b = HistoryBuilder(tmp_path, burst=200)
    b.arm("1x").lose(7)
    done = judged(b.write().path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no-loss" in done.stdout


@pytest.mark.parametrize(("lossy", "code"), [(True, 0), (False, 1)])
def test_a_planted_defect_that_is_not_found_fails_the_run(tmp_path: Path, lossy: bool, code: int):
    done = judged(kill_run(tmp_path, lossy=lossy).path)
    assert done.returncode == code, done.stdout + done.stderr

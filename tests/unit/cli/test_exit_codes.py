"""Every way a command can end has its own exit code and one clear sentence."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness import errors
from harness.cli import main as border
from harness.cli.run import _exit_code
from harness.judge import RunVerdict

ERRORS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.MailgaleError)]


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "mailgale"), *words], capture_output=True, text=True, cwd=cwd, check=False, timeout=60
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_every_error_ends_with_its_code(error: type[errors.MailgaleError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def raising(**_: object) -> None:
        raise error("what went wrong", where="somewhere", todo="do this")

    monkeypatch.setattr(border.cli, "main", raising)
    assert border._guarded() == error.exit_code
    assert "somewhere: what went wrong (do this)" in capsys.readouterr().err


@pytest.mark.parametrize(("problem", "code"), [(KeyboardInterrupt(), 2), (click.UsageError("no"), 4), (ZeroDivisionError(), 3)])
def test_other_ends(problem: BaseException, code: int, monkeypatch: pytest.MonkeyPatch):
    def raising(**_: object) -> None:
        raise problem

    monkeypatch.setattr(border.cli, "main", raising)
    assert border._guarded() == code


def test_a_full_disk_is_a_sentence_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def raising(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "state/run.lock")

    monkeypatch.setattr(border.cli, "main", raising)
    assert border._guarded() == 3
    said = capsys.readouterr().err
    assert "state/run.lock: the record cannot go on: No space left on device (make room" in said
    assert "Traceback" not in said


def test_a_plan_that_does_not_exist_exits_4_from_any_directory(tmp_path: Path):
    done = run("plan", "validate", "no-such-plan", cwd=tmp_path)
    assert done.returncode == 4
    assert "there is no plan 'no-such-plan'" in done.stderr


def test_a_run_that_does_not_exist_exits_4(tmp_path: Path):
    assert run("judge", "no-such-run", cwd=tmp_path).returncode == 4


def test_a_wrong_option_exits_4(tmp_path: Path):
    assert run("judge", "--no-such-option", cwd=tmp_path).returncode == 4


def test_help_names_the_exit_codes():
    done = run("--help")
    assert done.returncode == 0
    assert "10 clean-up incomplete" in done.stdout


@pytest.mark.parametrize(
    ("verdict", "problem", "code"),
    [(0, None, 0), (5, None, 5), (1, None, 1), (5, errors.Interrupted("x"), 2), (1, errors.Interrupted("x"), 1),
     (1, errors.CleanupIncomplete("x"), 10), (0, errors.CleanupIncomplete("x"), 10), (5, errors.GuardRefused("x"), 7)],
)
def test_a_problem_and_a_verdict_together(verdict: int, problem: errors.MailgaleError | None, code: int):
    class Judged:
        exit_code = verdict

    assert _exit_code(Judged(), problem) == code  # type: ignore[arg-type]


def test_the_judge_has_a_verdict_type():
    assert RunVerdict.__name__ == "RunVerdict"

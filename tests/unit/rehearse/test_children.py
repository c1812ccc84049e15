"""Processes beside an arm: their end, their failure and their refusal to end are told apart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.errors import MailgaleError
from harness.rehearse.children import Child


def child(tmp_path: Path, code: str) -> Child:
    (tmp_path / "spec.py").write_text(code)
    return Child("tests.unit.rehearse.exec_file", [tmp_path / "spec.py"], tmp_path / "out.txt")


def test_a_good_end(tmp_path: Path):
    child(tmp_path, "pass").wait(deadline_s=20)


def test_a_bad_end_says_why(tmp_path: Path):
    with pytest.raises(MailgaleError, match="the reason"):
        child(tmp_path, "raise SystemExit('the reason')").wait(deadline_s=20)


def test_no_end_is_killed(tmp_path: Path):
    one = child(tmp_path, "import time\ntime.sleep(60)")
    with pytest.raises(MailgaleError, match="no end"):
        one.wait(deadline_s=1)
    assert one.stop() is not None
    assert not one.alive


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path):
    flag = tmp_path / "ready"
    code = f"import signal,time,pathlib\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\npathlib.Path({str(flag)!r}).touch()\ntime.sleep(60)"
    with child(tmp_path, code) as one:
        end = time.monotonic() + 20
        while not flag.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not one.stop(grace_s=0.5)
    assert not one.alive


def test_a_child_that_could_not_write_did_not_end_well(tmp_path: Path):
    one = child(tmp_path, "raise SystemExit(3)")
    with pytest.raises(MailgaleError, match="ended with 3"):
        one.wait(deadline_s=20)
    assert not one.stop()

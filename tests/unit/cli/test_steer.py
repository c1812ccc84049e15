"""`mailgale abort` and `watch` from another terminal: whom they ask, when they end, and with which code."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main as border
from harness.cli import steer
from harness.errors import NotReady, UsageError
from harness.selftest.friday import friday_plan
from harness.store.asking import asked_to_end
from harness.store.log import LogWriter
from harness.store.run import RunDir
from harness.support.clock import wait_for

CONDUCTOR = """
import sys
from pathlib import Path
from harness.store.log import LogWriter
with LogWriter(Path(sys.argv[1]), "conductor") as log:
    log.event("phase", name="load", edge="begin")
    log.flush()
    print("conducting", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, friday_plan(), {}, plan_bytes=b"# a plan\n")


@contextmanager
def conducted(run: RunDir) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes the conductor's log until its input ends."""
    with subprocess.Popen([sys.executable, "-c", CONDUCTOR, str(run.conductor_log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"conducting\n"
        try:
            yield process
        finally:
            process.kill()


def invoke(*words: str) -> tuple[int, str]:
    """What the border makes of a command: its exit code, and what it printed or raised."""
    done = CliRunner().invoke(border.cli, [*words], standalone_mode=False)
    if isinstance(done.exception, UsageError | NotReady):
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None, done.exception
    return int(done.return_value or 0), done.output


def test_nobody_conducts_so_nobody_is_asked(run: RunDir):
    code, said = invoke("abort", str(run.path))
    assert (code, "is not under way" in said, "mailgale recover" in said) == (4, True, True)
    assert asked_to_end(run) is None


def test_a_sealed_run_is_not_asked(run: RunDir):
    run.seal()
    with conducted(run):
        assert invoke("abort", str(run.path))[0] == 4
    assert asked_to_end(run) is None


def test_abort_asks_and_ends_once_the_run_is_sealed(run: RunDir):
    """As a conductor does: its log is closed first, and hashing the run takes a while."""

    def conduct(process: subprocess.Popen[bytes]) -> None:
        wait_for(lambda: asked_to_end(run), deadline_s=20, what="to be asked", every_s=0.02)
        process.communicate()
        threading.Event().wait(1.5)
        run.seal()

    with conducted(run) as process:
        thread = threading.Thread(target=conduct, args=(process,))
        thread.start()
        code, said = invoke("abort", str(run.path), "--why", "the platform is needed")
        thread.join()
    asked = asked_to_end(run)
    assert asked is not None
    assert asked.why == "the platform is needed"
    assert code == 0
    assert run.seal_digest in said


@pytest.mark.parametrize("command", ["abort", "watch"])
def test_a_conductor_that_is_killed_is_not_waited_for(run: RunDir, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steer, "GONE_S", 1.0)
    with conducted(run) as process:
        threading.Timer(1.0, process.kill).start()
        code, said = invoke(command, str(run.path))
    assert (code, "its conductor is gone" in said) == (8, True), said


def test_a_run_that_does_not_end_is_said(run: RunDir):
    with conducted(run):
        code, said = invoke("abort", str(run.path), "--wait", "0.5")
    assert code == 8
    assert "waited 0 s for the run to end" in said or "waited 1 s" in said
    assert asked_to_end(run) is not None


def test_watch_says_a_line_at_each_change_and_ends_with_the_seal(run: RunDir):
    arm = run.arm(*run.planned_arms[0])
    log = LogWriter(arm.conductor_log, "conductor")

    def go_on() -> None:
        for name in ("deploy", "load"):
            threading.Event().wait(1.2)
            log.event("phase", name=name, edge="begin")
            log.flush()
        threading.Event().wait(1.2)
        run.seal()

    with conducted(run):
        thread = threading.Thread(target=go_on)
        thread.start()
        code, said = invoke("watch", str(run.path))
        thread.join()
    assert code == 0
    lines = said.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{arm.label} beginning", f"{arm.label} deploy", f"{arm.label} load"], said

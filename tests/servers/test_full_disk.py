"""A disk that fills up in mid-run: what was acknowledged is on record, nothing unrecorded is sent, and the verdict is INCONCLUSIVE.

The run's directory is a tmpfs of its own; a file fills it as a neighbour on the same disk would.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.chaos.undo import UndoLog, pending, recover
from harness.errors import CleanupIncomplete, RecordLost
from harness.rehearse.journal import Journal
from harness.store import run as run_module
from harness.store.log import Damage, read_events
from harness.store.run import RunDir
from harness.store.sessions import unfinished
from tests.servers.fake_api import fake_api
from tests.servers.load_runs import Ledger, engine, finish, make_spec
from tests.servers.load_sink import Sink
from tests.servers.rig import Rig, recorded

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "mailgale-test", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"not supported here: mounting a tmpfs ({done.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, *, leave: int) -> None:
    """Take all of the disk but ``leave`` octets."""
    free = os.statvfs(disk)
    octets = free.f_bavail * free.f_frsize - leave
    handle = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(handle, 0, octets)
    os.close(handle)


@pytest.fixture
def rig(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """The run's directory on the small disk, everything else beside it."""
    with fake_api() as api, Sink() as sink:
        made = Rig(tmp_path, api, sink, monkeypatch)
        (made.checkout.root / "reports").mkdir()
        (made.checkout.root / "reports" / "runs").symlink_to(disk)
        yield made


def test_the_engine_sends_nothing_that_it_cannot_record(disk: Path, tmp_path: Path):
    with Sink() as sink:
        spec = make_spec(disk, sink.port, {"elastic_senders": 4, "backlog_per_sender": 1500, "burst_max_s": 60})
        fill(disk, leave=550_000)
        process = engine(spec, stdout=subprocess.DEVNULL)
        code, errors = finish(process)
        ledger = Ledger.read(disk / "load-1.log")
    assert code == 3, errors
    assert "No space left on device" in errors
    assert "Traceback" not in errors
    assert ledger.damages == []
    assert ledger.events[-1]["kind"] != "log_closed"
    recorded(sink, [ledger], "run")


def test_a_run_whose_disk_fills_up_is_sealed_judged_and_reported(rig: Rig, disk: Path):
    """The room that the run set aside takes its end."""
    rig.load.update(backlog_per_sender=1500, burst_max_s=60)
    rig.on_up = lambda arm: fill(disk, leave=600_000)
    ended = rig.run()
    assert isinstance(ended.problem, RecordLost)
    assert ended.problem.exit_code == 3
    assert "No space left on device" in str(ended.problem)
    assert ended.seal
    assert ended.run.verify() == []
    assert not (ended.run.path / run_module.BALLAST).exists()
    assert any(m == "DELETE" and "/namespaces/" in p and "-1-" in p for m, p in rig.api.mutations), "the stack was not taken down"
    code, out, err = rig.told(ended)
    assert code == 3
    assert "INCONCLUSIVE" in out
    assert "Traceback" not in "\n".join((out, err, *rig.notes.lines))
    assert "No space left on device" in err
    assert json.loads((ended.run.path / "verdict.json").read_text())["status"] == "INCONCLUSIVE"
    assert (ended.run.path / "report.html").stat().st_size > 10_000
    arm = ended.run.arm_dirs()[0].name
    recorded(rig.sink, [rig.ledger(ended.run, arm)], ended.run.run_id)
    assert len(unfinished(ended.run)) == 2


def test_a_disk_that_takes_not_even_the_seal_is_told_and_ends_the_same(rig: Rig, disk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module, "BALLAST_BYTES", 4096)
    monkeypatch.setattr(RunDir, "release", lambda self: None)
    rig.load.update(backlog_per_sender=1500, burst_max_s=60)
    rig.on_up = lambda arm: fill(disk, leave=600_000)
    ended = rig.run()
    left = os.statvfs(disk)
    if left.f_bavail:
        handle = os.open(disk / "more", os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(handle, 0, left.f_bavail * left.f_frsize)
        os.close(handle)
    assert isinstance(ended.problem, RecordLost)
    code, out, err = rig.told(ended)
    assert code == 3
    assert "INCONCLUSIVE" in out
    assert "not written: No space left on device" in out
    assert "Traceback" not in "\n".join((out, err, *rig.notes.lines))
    assert [p.name for p in ended.run.path.glob(".*") if p.name != run_module.BALLAST] == [], "half of a file was left"
    (disk / "filler").unlink()
    assert RunDir.open(ended.run.path).plan == rig.plan
    again, out, _ = rig.told(ended)
    assert (again, "INCONCLUSIVE" in out) == (3, True)
    assert (ended.run.path / "verdict.json").is_file()


def arm_on(log: UndoLog) -> None:
    """tmpfs gives whole pages, so the log's own last page still takes something."""
    for _ in range(1000):
        log.arm("fix", thing="c")


def test_what_is_armed_is_undone_although_nothing_can_be_noted(disk: Path):
    state = disk / "broken"
    state.mkdir()
    log = UndoLog(disk / "undo.log", lambda entry: (state / entry["thing"]).rmdir() or "")
    armed = [log.arm("fix", thing=name) for name in ("a", "b")]
    for name in ("a", "b"):
        (state / name).mkdir()
    fill(disk, leave=0)
    with pytest.raises(OSError, match="No space"):
        arm_on(log)
    assert log.undo(armed[0]) == ""
    log.close()
    assert [p.name for p in state.iterdir()] == ["b"]
    undo = lambda entry: ((state / entry["thing"]).rmdir() if (state / entry["thing"]).exists() else None) or ""  # noqa: E731
    assert "fix thing=b" in recover(disk, undo)
    assert list(state.iterdir()) == []
    assert {"a", "b"} <= {a.entry["thing"] for a in pending(disk)}, "it is tried again, since nobody could note that it is done"


def test_what_stays_is_listed_although_nothing_can_be_noted(disk: Path):
    log = UndoLog(disk / "undo.log", lambda entry: "")
    log.arm("fix", thing="a")
    log.close()
    fill(disk, leave=0)
    with pytest.raises(CleanupIncomplete, match="fix thing=a: still broken"):
        recover(disk, lambda entry: "still broken")


def test_a_journal_raises_only_where_it_is_asked(disk: Path):
    journal = Journal(disk / "conductor.log")
    journal.check()
    fill(disk, leave=0)
    for n in range(5000):
        journal.event("phase", name=f"{n}")
    assert journal.failed is not None
    with pytest.raises(RecordLost, match="No space"):
        journal.check()
    journal.close()


def test_with_hardly_any_room_nothing_new_begins_and_what_happens_is_still_written(disk: Path):
    journal = Journal(disk / "conductor.log")
    fill(disk, leave=100_000)
    with pytest.raises(RecordLost, match="No space"):
        journal.check()
    journal.event("phase", name="teardown")
    (disk / "filler").unlink()
    journal.check()
    journal.close()
    kinds = [e["kind"] for e in read_events(disk / "conductor.log") if not isinstance(e, Damage)]
    assert kinds == ["log_opened", "phase", "log_closed"]


def test_the_verdict_on_a_full_disk_leaves_the_old_one_whole(disk: Path):
    path = disk / "verdict.json"
    run_module.write_whole(path, b"old")
    fill(disk, leave=0)
    with pytest.raises(OSError, match="No space"):
        run_module.write_whole(path, b"x" * 100_000)
    assert path.read_bytes() == b"old"
    assert [p.name for p in disk.glob(".*")] == []

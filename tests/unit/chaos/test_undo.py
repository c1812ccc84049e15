"""The undo log: durable before the act, last in first out, goes on after an error, survives SIGKILL of its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.chaos import undo
from harness.chaos.undo import UndoLog, armed_in, describe, pending, recover
from harness.errors import CleanupIncomplete, MailgaleError
from harness.store.log import read_events


class State:
    """What faults change here: one file per thing that is out of order. Undoing removes it and looks again."""

    def __init__(self, root: Path, stuck: str = "") -> None:
        self.root, self.stuck, self.order = root, stuck, []

    def undo(self, entry):
        self.order.append(entry["thing"])
        if entry["thing"] == self.stuck:
            raise MailgaleError("the API says no")
        (self.root / entry["thing"]).unlink(missing_ok=True)
        return "still there" if (self.root / entry["thing"]).exists() else ""


def break_things(log, root, *names):
    armed = []
    for name in names:
        armed.append(log.arm("fix", thing=name))
        (root / name).touch()
    return armed


def test_what_was_undone_is_not_pending(tmp_path):
    state = State(tmp_path)
    log = UndoLog(tmp_path / "undo.log", state.undo)
    first, second = break_things(log, tmp_path, "a", "b")
    assert log.undo(first) == ""
    assert [a.entry["thing"] for a in pending(tmp_path)] == ["b"]
    log.undo(second)
    log.close()
    assert pending(tmp_path) == []
    assert recover(tmp_path, state.undo) == []
    assert not (tmp_path / "undo-1.log").exists()


def test_last_in_first_out_and_on_after_an_error(tmp_path):
    state = State(tmp_path, stuck="b")
    log = UndoLog(tmp_path / "undo.log", state.undo)
    break_things(log, tmp_path, "a", "b", "c")
    log.close()
    with pytest.raises(CleanupIncomplete, match="undone: fix thing=b: the API says no"):
        recover(tmp_path, state.undo)
    assert state.order == ["c", "b", "a"]
    assert [a.entry["thing"] for a in pending(tmp_path)] == ["b"]
    state.stuck = ""
    assert recover(tmp_path, state.undo) == ["fix thing=b"]
    assert pending(tmp_path) == []


def test_an_undo_that_does_not_take_is_not_believed(tmp_path):
    log = UndoLog(tmp_path / "undo.log", lambda entry: "read back: nothing changed")
    (armed,) = break_things(log, tmp_path, "a")
    assert log.undo(armed) == "read back: nothing changed"
    log.close()
    assert len(pending(tmp_path)) == 1


CRASH = """
import os, signal, sys
from pathlib import Path
from harness.chaos.undo import UndoLog
root = Path(sys.argv[1])
log = UndoLog(root / "undo.log", lambda entry: "")
for name in "abc":
    log.arm("fix", thing=name)
    (root / name).touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_sigkill_everything_is_brought_back(tmp_path):
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "undo.log"]
    assert len(recover(tmp_path, State(tmp_path).undo)) == 3
    assert not any((tmp_path / n).exists() for n in "abc")


def test_cut_at_every_octet_the_whole_entries_are_still_undone(tmp_path):
    log = UndoLog(tmp_path / "undo.log", lambda entry: "")
    sizes = []
    for name in ("a", "b"):
        log.arm("fix", thing=name)
        sizes.append((tmp_path / "undo.log").stat().st_size)
    raw = (tmp_path / "undo.log").read_bytes()
    for cut in range(8, len(raw) + 1):
        other = tmp_path / f"cut{cut}"
        other.mkdir()
        (other / "undo.log").write_bytes(raw[:cut])
        assert len(pending(other)) == sum(cut >= s for s in sizes)


def test_nothing_is_done_when_the_entry_cannot_be_written(tmp_path):
    log = UndoLog(tmp_path / "undo.log", lambda entry: "")
    os.close(log._log._fd)
    with pytest.raises(OSError, match="Bad file"):
        break_things(log, tmp_path, "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("at", ["head", "block"])
def test_a_damaged_log_is_never_called_clean(tmp_path, at):
    log = UndoLog(tmp_path / "undo.log", lambda entry: "")
    size = 0
    for name in ("a", "b"):
        break_things(log, tmp_path, name)
        size = size or (tmp_path / "undo.log").stat().st_size
    log.close()
    raw = bytearray((tmp_path / "undo.log").read_bytes())
    raw[0 if at == "head" else size - 3] ^= 1
    (tmp_path / "undo.log").write_bytes(raw)
    with pytest.raises(CleanupIncomplete, match=r"checksum|head"):
        recover(tmp_path, State(tmp_path).undo)


def test_ctrl_c_while_undoing_lists_what_was_not_reached(tmp_path):
    state = State(tmp_path)
    log = UndoLog(tmp_path / "undo.log", state.undo)
    break_things(log, tmp_path, "a", "b", "c")
    log.close()

    def undo(entry):
        if entry["thing"] == "b":
            raise KeyboardInterrupt
        return state.undo(entry)

    with pytest.raises(CleanupIncomplete, match=r"interrupted before this was undone: fix thing=b; fix thing=a .*mailgale recover"):
        recover(tmp_path, undo)
    assert [a.entry["thing"] for a in pending(tmp_path)] == ["b", "a"]
    assert recover(tmp_path, state.undo) == ["fix thing=b", "fix thing=a"]


class Told:
    """A mirror that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def armed(self, number, entry):
        self.said.append(("armed", number, dict(entry)))

    def undone(self, number):
        self.said.append(("undone", number))


def test_the_mirror_is_told_before_the_act_and_of_what_was_verified_only(tmp_path):
    state, told = State(tmp_path, stuck="b"), Told()
    log = UndoLog(tmp_path / "undo.log", state.undo, told)
    first, second = break_things(log, tmp_path, "a", "b")
    assert told.said == [("armed", 1, {"op": "fix", "thing": "a"}), ("armed", 2, {"op": "fix", "thing": "b"})]
    log.undo(second)
    assert len(told.said) == 2
    log.undo(first)
    assert told.said[2:] == [("undone", 1)]


def test_nothing_is_done_when_the_mirror_refuses(tmp_path):
    def refuse(number, entry):
        raise MailgaleError("no cluster")

    told = Told()
    told.armed = refuse
    with pytest.raises(MailgaleError, match="no cluster"):
        UndoLog(tmp_path / "undo.log", lambda entry: "", told).arm("fix")


def test_entry_and_directory_are_on_the_disk_before_the_act(tmp_path, monkeypatch):
    """A power cut right behind ``arm`` keeps the entry: the file's name and its octets were synced, and no handle stays open."""
    synced = []
    real = os.fsync

    def fsync(handle):
        synced.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(undo.os, "fsync", fsync)
    log = UndoLog(tmp_path / "undo.log", lambda entry: "")
    assert tmp_path.stat().st_ino in synced
    synced.clear()
    handles = len(os.listdir("/proc/self/fd"))
    for number in range(1, 4):
        log.arm("fix", thing="a")
        assert synced.count((tmp_path / "undo.log").stat().st_ino) >= number
    assert len(os.listdir("/proc/self/fd")) == handles


def test_every_entry_is_told_in_order_and_a_closed_log_says_so(tmp_path):
    log = UndoLog(tmp_path / "undo.log", lambda entry: "")
    first, second = break_things(log, tmp_path, "a", "b")
    log.undo(first)
    log.close()
    assert [(a.id, a.entry["thing"]) for a in armed_in(tmp_path)] == [(1, "a"), (2, "b")]
    assert [e["kind"] for e in read_events(tmp_path / "undo.log")][-1] == "log_closed"
    assert describe(second.entry) == "fix thing=b"


def test_each_recovery_notes_at_once_in_a_log_of_its_own(tmp_path):
    state = State(tmp_path)
    log = UndoLog(tmp_path / "undo.log", state.undo)
    break_things(log, tmp_path, "a", "b")
    log.close()
    waiting = []

    def slow(entry):
        waiting.append([a.entry["thing"] for a in pending(tmp_path)])
        return "" if entry["thing"] == "b" else "not yet"

    with pytest.raises(CleanupIncomplete):
        recover(tmp_path, slow)
    assert waiting == [["b", "a"], ["a"]]
    assert recover(tmp_path, state.undo, {1: "the janitor says so"}) == ["fix thing=a (the janitor says so; verified)"]
    assert sorted(p.name for p in tmp_path.glob("undo*.log")) == ["undo-1.log", "undo-2.log", "undo.log"]
    for name in ("undo-1.log", "undo-2.log"):
        assert [e["kind"] for e in read_events(tmp_path / name)][-1] == "log_closed"


def test_on_a_full_disk_everything_is_undone_unnoted(tmp_path, monkeypatch):
    state = State(tmp_path)
    log = UndoLog(tmp_path / "undo.log", state.undo)
    break_things(log, tmp_path, "a", "b")
    log.close()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(undo, "LogWriter", full)
    assert recover(tmp_path, state.undo) == ["fix thing=b", "fix thing=a"]
    assert len(pending(tmp_path)) == 2, "what could not be noted is tried again"

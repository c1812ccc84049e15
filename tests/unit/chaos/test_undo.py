"""The undo log: durable before the act, last in first out, goes on after an error, survives SIGKILL of its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.chaos.undo import UndoLog, pending, recover
from harness.errors import CleanupIncomplete, MailgaleError


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

"""The state of a load that several engines write, followed while they write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreDamaged
from harness.rehearse.states import States, joined
from harness.store.log import LogWriter


def engine(folder: Path, number: int) -> LogWriter:
    return LogWriter(folder / f"load-{number}.log", "load")


def say(log: LogWriter, kind: str = "load_state", **fields: Any) -> None:
    log.event(kind, **fields)
    log.flush()


def test_before_the_first_word_there_is_no_state(tmp_path: Path):
    states = States(tmp_path)
    assert states.look() == {}
    engine(tmp_path, 1).flush()
    assert states.look() == {}


def test_counters_are_added_up_and_ages_are_the_oldest(tmp_path: Path):
    one, two, states = engine(tmp_path, 1), engine(tmp_path, 2), States(tmp_path)
    say(one, phase="burst", engine=1, offered=10, accepted=4, awaited_oldest_s=3.0, lag_p99_ms=2.0, backlog_min=5, cpu_s=1.5)
    say(two, phase="burst", engine=2, offered=20, accepted=6, awaited_oldest_s=9.0, lag_p99_ms=1.0, backlog_min=2, cpu_s=2.5)
    assert states.look() == {"offered": 30, "accepted": 10, "awaited_oldest_s": 9.0, "lag_p99_ms": 2.0, "backlog_min": 2, "cpu_s": 4.0}


def test_each_engine_counts_once_with_its_last_word(tmp_path: Path):
    one, two, states = engine(tmp_path, 1), engine(tmp_path, 2), States(tmp_path)
    for offered in (1, 2, 3):
        say(one, offered=offered)
    say(two, offered=100)
    assert states.look()["offered"] == 103
    say(one, offered=7)
    assert states.look()["offered"] == 107
    assert states.look()["offered"] == 107, "what was read is not forgotten"
    say(two, "load_end", offered=120, reason="done")
    assert states.look()["offered"] == 127


def test_an_engine_that_begins_later_is_seen(tmp_path: Path):
    one, states = engine(tmp_path, 1), States(tmp_path)
    say(one, offered=1)
    assert states.look()["offered"] == 1
    say(engine(tmp_path, 2), offered=5)
    assert states.look()["offered"] == 6


def test_half_a_block_waits_for_its_rest(tmp_path: Path):
    one, copy, states = engine(tmp_path, 1), tmp_path / "arm", States(tmp_path / "arm")
    copy.mkdir()
    say(one, offered=1)
    whole = (tmp_path / "load-1.log").read_bytes()
    (copy / "load-1.log").write_bytes(whole[:-1])
    assert states.look() == {}
    (copy / "load-1.log").write_bytes(whole)
    assert states.look()["offered"] == 1


def test_a_log_that_does_not_read_is_said(tmp_path: Path):
    one, states = engine(tmp_path, 1), States(tmp_path)
    say(one, offered=1)
    path = tmp_path / "load-1.log"
    octets = bytearray(path.read_bytes())
    octets[-2] ^= 1
    path.write_bytes(octets)
    with pytest.raises(StoreDamaged, match="checksum"):
        states.look()


def test_what_is_no_number_of_the_load_is_left_out():
    assert joined([{"t": 5, "engine": 2, "phase": "burst", "deferred_by": {"x": 1}, "kind": "load_state", "offered": 1, "odd": True}]) == {"offered": 1}

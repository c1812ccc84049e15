"""A log reads back as written, or its damage shows: cut at every octet, every bit turned, the disk full."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.store.log import Damage, LogWriter, read_blocks
from harness.store.ops import DONE, INVOKE, OFFER, USEROP, pack_enhanced
from harness.store.reader import Directory, LogContent, read_log


def small_log(path: Path) -> bytes:
    with LogWriter(path, "load") as log:
        log.event("recipients", addresses=["a@example.org"], t=1)
        log.event("senders", addresses=["s@example.net"], clients=["198.51.100.1"], t=1)
        log.rows(2, np.zeros(1, dtype=OFFER).tobytes())
        log.rows(3, np.zeros(1, dtype=INVOKE).tobytes())
        log.rows(4, np.zeros(1, dtype=DONE).tobytes())
        log.event("load_end", reason="done", t=2)
    return path.read_bytes()


def content(path: Path) -> tuple[LogContent, int]:
    rows: list[int] = []
    with open(os.devnull, "wb") as nowhere:
        found = read_log(path, Directory(), lambda _, r: rows.append(len(r)), nowhere)
    return found, sum(rows)


def test_it_reads_back(tmp_path: Path):
    small_log(tmp_path / "l.log")
    found, rows = content(tmp_path / "l.log")
    assert found.closed
    assert found.damages == []
    assert rows == 3
    assert [e["kind"] for e in found.events] == ["log_opened", "recipients", "senders", "load_end", "log_closed"]


def test_cut_at_every_octet_it_is_never_whole(tmp_path: Path):
    raw = small_log(tmp_path / "l.log")
    for n in range(len(raw)):
        (tmp_path / "cut.log").write_bytes(raw[:n])
        assert not content(tmp_path / "cut.log")[0].closed, n


def test_every_turned_bit_is_seen(tmp_path: Path):
    raw = small_log(tmp_path / "l.log")
    for n in range(len(raw)):
        for bit in range(8):
            turned = bytearray(raw)
            turned[n] ^= 1 << bit
            (tmp_path / "bit.log").write_bytes(turned)
            found = content(tmp_path / "bit.log")[0]
            assert found.damages, (n, bit)
            assert not found.closed, (n, bit)


def test_what_was_flushed_before_a_cut_is_kept(tmp_path: Path):
    raw = small_log(tmp_path / "l.log")
    (tmp_path / "cut.log").write_bytes(raw[:-5])
    assert content(tmp_path / "cut.log")[1] == 3


def test_octets_after_the_end_mark_are_damage(tmp_path: Path):
    raw = small_log(tmp_path / "l.log")
    (tmp_path / "more.log").write_bytes(raw + b"x")
    assert not content(tmp_path / "more.log")[0].closed


def test_after_a_full_disk_the_log_is_whole_blocks_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = LogWriter(tmp_path / "l.log", "load")
    log.event("kept", t=1)
    log.flush()
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.event("lost", t=2)
    with pytest.raises(OSError, match="No space"):
        log.flush()
    monkeypatch.setattr(os, "write", real)
    with pytest.raises(OSError, match="took no more"):
        log.rows(4, np.zeros(1, dtype=DONE).tobytes())
    with pytest.raises(OSError, match="took no more"):
        log.close()
    found, rows = content(tmp_path / "l.log")
    assert [e["kind"] for e in found.events] == ["log_opened", "kept"]
    assert found.damages == []
    assert (found.closed, rows) == (False, 0)


def test_a_log_is_never_written_over(tmp_path: Path):
    small_log(tmp_path / "l.log")
    with pytest.raises(FileExistsError):
        LogWriter(tmp_path / "l.log", "load")


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_octets_are_damage_and_no_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("any") / "l.log"
    path.write_bytes(data)
    found = list(read_blocks(path))
    assert found == [] or isinstance(found[-1], Damage)
    assert not content(path)[0].closed


@pytest.mark.parametrize(("block_type", "payload"), [(9, b"x"), (4, b"x" * 31), (1, b"{"), (1, b'{"kind":"x"}'), (4, bytes(DONE.itemsize))])
def test_blocks_that_make_no_sense_are_damage(tmp_path: Path, block_type: int, payload: bytes):
    log = LogWriter(tmp_path / "l.log", "load")
    log.rows(block_type, payload)
    log.close()
    found = content(tmp_path / "l.log")[0]
    assert found.damages
    assert not found.closed


@pytest.mark.parametrize(("dtype", "octets"), [(OFFER, 48), (INVOKE, 24), (DONE, 32), (USEROP, 32)])
def test_row_sizes_are_part_of_the_format(dtype: np.dtype, octets: int):
    assert dtype.itemsize == octets


@pytest.mark.parametrize(("text", "packed"), [("4.7.1", 40701), ("2.0.0", 20000), ("", 0), ("4.7", 0), ("4.x.1", 0), ("5.999.1", 59901)])
def test_enhanced_codes(text: str, packed: int):
    assert pack_enhanced(text) == packed


COPY, SCOPE = '{"kind":"copy","t":%d,"mail":%d}', '{"kind":"scope","t":%d,"where":"a \\n{\\"kind\\":\\"copy\\","}'


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(st.sampled_from([COPY, SCOPE, ""]), max_size=12), ended=st.booleans())
def test_copies_are_taken_over_as_they_stand_whatever_lies_between(lines: list[str], ended: bool, tmp_path_factory: pytest.TempPathFactory):
    written = [line % ((n, n) if line is COPY else (n,)) if line else "" for n, line in enumerate(lines)]
    payload = "\n".join(written).encode() + (b"\n" if ended else b"")
    path = tmp_path_factory.mktemp("log") / "census.log"
    with LogWriter(path, "census") as log:
        log._events += payload
        log.flush()
    taken = io.BytesIO()
    found = read_log(path, Directory(), lambda _, r: None, taken)
    assert taken.getvalue().decode().splitlines() == [w for w in written if w.startswith('{"kind":"copy",')]
    assert sum(e["kind"] == "scope" for e in found.events) == sum(w.startswith('{"kind":"scope"') for w in written)
    assert found.damages == []

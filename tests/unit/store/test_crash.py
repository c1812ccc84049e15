"""A run whose writer died, whose disk was full, or whose files changed: damage is always seen, nothing acknowledged is lost silently."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.errors import StoreDamaged
from harness.judge import judge
from harness.model.verdict import Status
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import friday_plan
from harness.store.log import Damage, LogWriter, read_blocks
from harness.store.ops import INVOKE
from harness.store.run import RunDir, _difference

#: Writes one row after the other and says so only once write(2) has returned, as the ledger does before a mail's first byte.
WRITER = """
import sys, numpy as np
from pathlib import Path
from harness.store.log import LogWriter
from harness.store.ops import INVOKE
log = LogWriter(Path(sys.argv[1]), "load")
for n in range(1, 1_000_000):
    row = np.zeros(1, dtype=INVOKE)
    row["mail"] = n
    try:
        log.rows(3, row.tobytes()) if n % 3 else log.batch([(3, row.tobytes())])
    except OSError as error:
        print("failed", error.errno, flush=True)
        break
    print(n, flush=True)
"""


def rows_of(path: Path) -> tuple[list[int], list[Damage]]:
    blocks = list(read_blocks(path))
    raw = b"".join(b.payload for b in blocks if not isinstance(b, Damage) and b.type == 3)
    return np.frombuffer(raw, dtype=INVOKE)["mail"].tolist(), [b for b in blocks if isinstance(b, Damage)]


def writer(path: Path, **more) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}, **more)


@pytest.mark.parametrize("seed", range(4))
def test_killed_in_the_middle_of_writing_every_row_it_told_of_is_there(tmp_path: Path, seed: int):
    process = writer(tmp_path / "l.log")
    assert process.stdout is not None
    told = [int(process.stdout.readline())]
    end = time.monotonic() + random.Random(seed).uniform(0.01, 0.2)
    while time.monotonic() < end:
        told.append(int(process.stdout.readline()))
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    process.wait()
    found, damages = rows_of(tmp_path / "l.log")
    assert found[: len(told)] == told
    assert len(found) <= len(told) + 1
    assert all(d.what.startswith("cut off") for d in damages)


def file_limit() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_at_the_limit_of_a_files_size_every_row_it_told_of_is_there_and_the_failure_is_told(tmp_path: Path):
    out, _ = writer(tmp_path / "l.log", preexec_fn=file_limit).communicate(timeout=60)
    lines = out.split("\n")
    assert f"failed {errno.EFBIG}" in lines
    found, damages = rows_of(tmp_path / "l.log")
    assert found == [int(x) for x in lines if x.isdigit()]
    assert damages == []


def test_on_a_disk_that_is_full_every_row_it_told_of_is_there(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        out, _ = writer(disk / "l.log").communicate(timeout=60)
        lines = out.split("\n")
        assert f"failed {errno.ENOSPC}" in lines
        found, damages = rows_of(disk / "l.log")
        assert found == [int(x) for x in lines if x.isdigit()]
        assert damages == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return HistoryBuilder(tmp_path_factory.mktemp("whole"), arms=["1x"], burst=200).write()


def sealed_files(run: RunDir) -> list[Path]:
    return sorted(p for p in run.path.rglob("*") if p.is_file() and p.name != "verdict.json")


def changed(path: Path, octets: bytes, run: RunDir) -> bool:
    """Whether the change is seen: damage, or no run at all."""
    before = path.read_bytes()
    path.write_bytes(octets)
    try:
        return bool(RunDir.open(run.path).verify())
    except StoreDamaged:
        return True
    finally:
        path.write_bytes(before)


def test_any_file_cut_anywhere_is_seen(whole: RunDir):
    rng = random.Random(7)
    for path in sealed_files(whole):
        raw = path.read_bytes()
        cuts = range(len(raw)) if len(raw) < 400 else sorted({0, 1, len(raw) - 1, *(rng.randrange(len(raw)) for _ in range(25))})
        for n in cuts:
            assert changed(path, raw[:n], whole), (path.name, n)


def test_a_file_cut_at_any_octet_is_seen(tmp_path: Path):
    """Every file of a run at every length that is not its own; whole runs as above only at some, since each look reads them all."""
    run = HistoryBuilder(tmp_path, arms=["1x"], burst=40).write()
    sealed = run._sealed_files()
    assert isinstance(sealed, dict)
    for name, entry in sealed.items():
        for n in range(entry["bytes"] - 1, -1, -1):
            os.truncate(run.path / name, n)
            assert _difference(run.path / name, entry), (name, n)


def test_any_bit_turned_anywhere_is_seen(whole: RunDir):
    rng = random.Random(8)
    for path in sealed_files(whole):
        raw = path.read_bytes()
        for bit in sorted({rng.randrange(8 * len(raw)) for _ in range(60)}) if raw else []:
            assert changed(path, turned(raw, bit), whole), (path.name, bit)


def turned(raw: bytes, bit: int) -> bytes:
    octets = bytearray(raw)
    octets[bit // 8] ^= 1 << bit % 8
    return bytes(octets)


@pytest.mark.parametrize("name", ["seal.json", "run.json"])
def test_every_single_bit_of_seal_and_head_counts(tmp_path: Path, name: str):
    run = RunDir.create(tmp_path, friday_plan(), {}, arms=[(1, "1x")], plan_bytes=b"x")
    run.seal()
    raw = (run.path / name).read_bytes()
    assert [bit for bit in range(8 * min(len(raw), 1000)) if not changed(run.path / name, turned(raw, bit), run)] == []


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_was_never_sealed_and_whose_logs_are_cut_is_no_pass(tmp_path: Path, seed: int):
    """The host died: no seal, every log cut somewhere of its own. What is lost shows as missing evidence, never as a verdict on the mail."""
    rng = random.Random(seed)
    run = HistoryBuilder(tmp_path, arms=["1x"], burst=200).write(seal=False)
    for path in sorted(run.path.rglob("*.log")):
        raw = path.read_bytes()
        path.write_bytes(raw[: rng.randrange(len(raw))])
    found = judge(run.path)
    assert found.status != Status.PASS
    assert [v for v in found.verdicts if v.check in ("no-loss", "no-unexplained-duplicates") and v.status == Status.FAIL] == []


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_ledger_never_makes_the_platform_guilty(tmp_path: Path, seed: int):
    run = HistoryBuilder(tmp_path, arms=["1x"], burst=200).write()
    path = run.arm_dirs()[0].load_log()
    raw = path.read_bytes()
    path.write_bytes(raw[: random.Random(seed).randrange(8, len(raw))])
    found = judge(run.path)
    assert found.status == Status.INCONCLUSIVE, [v for v in found.verdicts if v.status == Status.FAIL]


def test_a_full_disk_leaves_no_half_seal_and_no_half_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = HistoryBuilder(tmp_path, arms=["1x"], burst=200).write(seal=False)
    before = (run.path / "run.json").read_bytes()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run.seal()
    with pytest.raises(OSError, match="No space"):
        run.update_meta(more=1)
    monkeypatch.undo()
    assert (run.path / "run.json").read_bytes() == before
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []
    assert "never sealed" in RunDir.open(run.path).verify()[0].what


def test_a_log_of_recovery_after_the_seal_is_no_damage_and_nothing_else_is(tmp_path: Path):
    run = HistoryBuilder(tmp_path, arms=["1x"], burst=200).write()
    arm = run.arm_dirs()[0].path
    LogWriter(arm / "undo-1.log", "undo").close()
    assert run.verify() == []
    LogWriter(arm / "undo-x.log", "undo").close()
    assert [d.path.rpartition("/")[2] for d in run.verify()] == ["undo-x.log"]

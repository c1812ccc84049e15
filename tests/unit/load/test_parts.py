"""Back-off, pacing, statistics and the ledger's rows."""

from __future__ import annotations

import asyncio
import itertools
import os
import random

import numpy as np
import pytest

from harness.load import ledger as ledger_module
from harness.load.backoff import Backoff
from harness.load.ledger import Ledger
from harness.load.pacer import Pacer
from harness.load.params import Params
from harness.load.stats import Stats, quantised
from harness.mail.replies import RecipientResult
from harness.model.outcome import Deferral, Outcome, Proto, Stage, UserOp
from harness.store import ops
from harness.store.log import Block, read_blocks, read_events
from harness.support.clock import now_ns


def test_backoff_doubles_between_its_bounds_and_scales():
    schedule = Backoff.of(Params(backoff_jitter=0.0), 30)
    waits = [schedule.wait_s(n, random.Random(1)) for n in range(1, 8)]
    assert waits == pytest.approx([10, 20, 40, 80, 4000 / 30, 4000 / 30, 4000 / 30])


def test_backoff_jitter_is_seeded_and_bounded():
    schedule = Backoff(100, 1000, 0.2)
    one, two = ([schedule.wait_s(1, r) for _ in range(500)] for r in (random.Random(5), random.Random(5)))
    assert one == two
    assert 80 <= min(one) < 85
    assert 115 < max(one) <= 120


def test_the_pacer_makes_up_for_lost_time_and_says_how_late_it_was():
    async def run():
        loop = asyncio.get_running_loop()
        seen, late = [], []
        pacer = Pacer(loop, (i * 0.01 for i in itertools.count()), lambda i, due: seen.append((i, due)), late.append)
        start = now_ns()
        pacer.start(start)
        loop.call_later(0.1, lambda: _busy(0.2))
        await asyncio.sleep(0.5)
        pacer.stop()
        return start, seen, late

    start, seen, late = asyncio.run(run())
    assert [i for i, _ in seen] == list(range(len(seen)))
    assert 45 <= len(seen) <= 52
    assert all(due == start + int(i * 0.01 * 1e9) for i, due in seen)
    assert max(late) > 0.15e9


def _busy(seconds: float) -> None:
    end = now_ns() + int(seconds * 1e9)
    while now_ns() < end:
        pass


@pytest.mark.parametrize("us", [0, 1, 255, 256, 999, 123_456, 3_000_000_000])
def test_quantised_is_within_half_a_percent(us):
    assert us * 0.992 <= int(quantised(np.array([us]))[0]) <= us


def test_statistics_report_increments_and_sum_up():
    stats = Stats()
    for ms in range(1, 101):
        stats.time("smtp", "mail", ms * 1_000_000, error="" if ms % 10 else "450")
    first = stats.report()
    assert sum(n for _, n in first["steps"][0]["buckets_us"]) == 100
    assert first["errors"] == [{"proto": "smtp", "step": "mail", "error": "450", "n": 10}]
    assert stats.report() == {"steps": [], "errors": []}
    whole = stats.summary()["smtp mail"]
    assert (whole["count"], whole["fails"]) == (100, 10)
    assert whole["p50_ms"] == pytest.approx(50, rel=0.02)
    assert whole["p99_ms"] == pytest.approx(99, rel=0.02)


def test_lag_is_of_the_last_interval():
    stats = Stats()
    stats.late(5_000_000)
    assert stats.lag_ms()[1] == pytest.approx(5, rel=0.01)
    assert stats.lag_ms() == (0, 0)


def test_rows_are_those_of_the_store(tmp_path):
    for packers, dtype in (((ledger_module.pack_offer,), ops.OFFER), ((ledger_module.pack_invoke,), ops.INVOKE),
                           ((ledger_module.pack_end, ledger_module.pack_how), ops.DONE), ((ledger_module.pack_userop,), ops.USEROP)):
        assert sum(packer.__self__.size for packer in packers) == dtype.itemsize
    path = tmp_path / "load-1.log"

    async def run():
        ledger = Ledger(path, asyncio.get_running_loop())
        ledger.offer(7, 11, [3, 4], 2, 999, 1, 8, b"h" * 16)
        ledger.invoke(7, [3, 4], 1, Proto.SMTP)
        ledger.done(7, 4, 1, Proto.SMTP, RecipientResult(Outcome.FAIL, Stage.RCPT, 450, "4.7.1", Deferral.PLANNED_LIMIT, "slow down"), 12)
        ledger.user_op(5, 1, 2000, Proto.IMAP, UserOp.FETCH, Outcome.OK)
        await asyncio.sleep(0)
        ledger.close()

    asyncio.run(run())
    rows = {b.type: np.frombuffer(b.payload, ops.BLOCK_TYPES[b.type]) for b in read_blocks(path) if isinstance(b, Block) and b.type != 1}
    assert [tuple(r)[:7] for r in rows[2].tolist()] == [(7, 11, 3, 2, 999, 1, 8), (7, 11, 4, 2, 999, 1, 8)]
    assert rows[3]["rcpt"].tolist() == [3, 4]
    done = rows[4][0]
    assert [int(done[f]) for f in ("mail", "rcpt", "attempt", "proto", "outcome", "stage", "deferral", "code", "enhanced")] == [
        7, 4, 1, 1, 2, 7, 1, 450, 40701]
    assert [int(rows[5][0][f]) for f in ("t_start", "user", "bytes", "proto", "op", "outcome")] == [5, 1, 2000, 4, 3, 1]
    assert [e["kind"] for e in read_events(path)] == ["log_opened", "reply", "log_closed"]


def test_bytes_go_out_after_the_turns_rows_in_one_write(tmp_path, monkeypatch):
    async def run():
        ledger = Ledger(tmp_path / "l", asyncio.get_running_loop())
        trace, real = [], os.write
        monkeypatch.setattr(os, "write", lambda fd, data: trace.append("write") or real(fd, data))
        for mail in range(5):
            ledger.invoke(mail, [0], 1, Proto.SMTP)
            ledger.after_write(lambda: trace.append("send"))
        await asyncio.sleep(0)
        monkeypatch.setattr(os, "write", real)
        ledger.close()
        return trace

    assert asyncio.run(run()) == ["write", *["send"] * 5]


def test_a_full_disk_stops_the_load(tmp_path, monkeypatch):
    async def run():
        ledger = Ledger(tmp_path / "l", asyncio.get_running_loop())
        sent, told = [], []
        ledger.on_failure = lambda: told.append(1)

        def full(fd, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        ledger.invoke(1, [0], 1, Proto.SMTP)
        ledger.after_write(lambda: sent.append(1))
        await asyncio.sleep(0)
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            ledger.close()
        return sent, told

    assert asyncio.run(run()) == ([], [1])

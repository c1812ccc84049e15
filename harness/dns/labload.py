"""``python -m harness.dns.labload SPEC.json``: the load of one arm of the DNS laboratory, cell after cell.

Writes ``load-1.log``: ``dns_cell`` and ``dns_step`` (begin, end), ``dns_queries`` (each second, every query that ended), and the
``load_state`` and ``load_end`` of any load. SIGTERM and SIGINT stop it, and so does the end of its parent.
Exit codes: those of ``mailgale``.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from harness.dns.labspec import LabSpec
from harness.dns.staircase import Staircase
from harness.dns.volley import Asker, open_askers
from harness.errors import MailgaleError, RecordLost
from harness.model.dnslab import OK, OTHER, SERVFAIL, TIMEOUT, Cell
from harness.store.log import LogWriter

LOG = "load-1.log"
_TICK_S = 1.0
_HOT_NAMES = 10
_PRIME_TRIES = 3
#: Between two cells nothing is sent for so long that a sample of the sensors (one a second) lies there: the counters' edges are then those of the cells.
APART_S = 2.5
#: Before other processes of the host: a query that leaves late is the generator's doing, not unbound's.
_NICE = -10


class LabRun:
    """The load of one arm. ``stop`` ends it after the query that is being sent."""

    def __init__(self, spec: LabSpec, log: LogWriter) -> None:
        self.spec, self.load, self._log = spec, spec.load, log
        self.stop = asyncio.Event()
        self._askers: dict[str, list[Asker]] = {}
        self._ends: Counter[str] = Counter()
        self._rows: list[tuple[float, float, str]] = []
        self._lags: list[float] = []
        self._sent, self._due = 0, 0
        self._place: tuple[str, int, float] = ("", 0, 0.0)  #: cell, step, its begin
        self._nonce = 0
        self._parent = os.getppid()

    async def run(self) -> str:
        """All cells in seeded order; why it ended (``done`` or ``stopped``)."""
        self._askers = await open_askers(list(self.spec.caches.values()), Path(self.spec.network), self._ended, self.load.timeout_s)
        ticking = asyncio.create_task(self._tick())
        cells = list(self.load.cells_of(self.spec.arm))
        random.Random(f"{self.spec.seed}/cells").shuffle(cells)
        try:
            for cell in cells:
                if not self.stop.is_set():
                    await self._cell(cell)
                    await _until(asyncio.get_running_loop().time() + APART_S)
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            self._flush()
            for asker in (a for askers in self._askers.values() for a in askers):
                asker.close()
        reason = "stopped" if self.stop.is_set() else "done"
        self._log.event("load_end", reason=reason, load_cpu_s=_cpu_s(), steps=0, **self._totals())
        return reason

    async def _cell(self, cell: Cell) -> None:
        self._log.event("dns_cell", cell=cell.name, edge="begin", **{k: v for k, v in asdict(cell).items() if k != "name"})
        await self._prime(cell)
        stairs, step = Staircase(self.load), 0
        while not self.stop.is_set() and (per_s := stairs.next()) is not None:
            step += 1
            sent, failed = await self._step(cell, step, per_s)
            stairs.took(per_s, sent, failed)
            if stairs.bad(sent, failed):
                await _until(asyncio.get_running_loop().time() + self.load.rest_s)
        self._log.event("dns_cell", cell=cell.name, edge="end")

    async def _prime(self, cell: Cell) -> None:
        """Ask for the names that shall be hits until unbound has them."""
        if not cell.cached_share:
            return
        self._place = (cell.name, 0, asyncio.get_running_loop().time())
        for _ in range(_PRIME_TRIES):
            before = self._ends[OK]
            for n in range(_HOT_NAMES):
                self._ask(cell, self._hot(cell, n), self._askers[cell.transport][: cell.caches][n % cell.caches])
            await self._drained()
            if self._ends[OK] - before == _HOT_NAMES:
                return

    async def _step(self, cell: Cell, step: int, per_s: float) -> tuple[int, int]:
        """One rate: (queries that count, failures among them)."""
        loop, made = asyncio.get_running_loop(), random.Random(f"{self.spec.seed}/{cell.name}/{step}")
        begin = loop.time()
        self._flush()
        self._place = (cell.name, step, begin)
        counted: Counter[str] = Counter()
        self._counting = (begin + self.load.warm_s, counted)
        self._log.event("dns_step", cell=cell.name, step=step, per_s=per_s, edge="begin", warm_s=self.load.warm_s)
        due = begin + made.expovariate(per_s)
        end = begin + self.load.lasts_s(per_s)
        while due < end and not self.stop.is_set():
            await _until(due)
            self._lags.append(loop.time() - due)
            self._ask(cell, self._name(cell, made), made.choice(self._askers[cell.transport][: cell.caches]), due)
            due += made.expovariate(per_s)
        await self._drained()
        self._flush()
        failed = counted[SERVFAIL] + counted[OTHER] + counted[TIMEOUT]
        self._log.event("dns_step", cell=cell.name, step=step, per_s=per_s, edge="end", sent=counted.total(), failed=failed)
        return counted.total(), failed

    def _name(self, cell: Cell, made: random.Random) -> str:
        if cell.cached_share and made.random() < cell.cached_share:
            return self._hot(cell, made.randrange(_HOT_NAMES))
        self._nonce += 1
        return f"{self.spec.run_id[-4:]}-{self.spec.label}-{self._nonce}.d{cell.delay_ms}.{self.load.zone}.".replace("_", "-")

    def _hot(self, cell: Cell, n: int) -> str:
        return f"hot-{self.spec.run_id[-4:]}-{n}.d{cell.delay_ms}.{self.load.zone}."

    def _ask(self, cell: Cell, name: str, asker: Asker, due: float | None = None) -> None:
        now = asyncio.get_running_loop().time()
        self._due += 1
        asker.ask(name, now if due is None else due)
        self._sent += 1

    def _ended(self, due: float, took: float, how: str) -> None:
        self._ends[how] += 1
        self._rows.append((due, took, how))
        since, counted = self._counting
        if due >= since:
            counted[how] += 1

    #: From when on queries of the step count, and what became of them.
    _counting: tuple[float, Counter[str]] = (float("inf"), Counter())

    async def _drained(self) -> None:
        """Until every query has ended: at most as long as a query may take."""
        end = asyncio.get_running_loop().time() + self.load.timeout_s + _TICK_S
        while self._in_flight() and asyncio.get_running_loop().time() < end:
            await _until(asyncio.get_running_loop().time() + 0.02)

    def _in_flight(self) -> int:
        return sum(a.in_flight for askers in self._askers.values() for a in askers)

    async def _tick(self) -> None:
        """Each second what was done; and whether anyone still waits for it."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            at = max(at + _TICK_S, loop.time())
            await _until(at)
            self._flush()
            self._state()
            self._log.flush()
            if os.getppid() != self._parent:
                self.stop.set()

    def _flush(self) -> None:
        """The queries that have ended since the last time."""
        rows, self._rows = self._rows, []
        cell, step, begin = self._place
        if rows:
            self._log.event(
                "dns_queries", cell=cell, step=step, due_ms=[round((due - begin) * 1e3, 1) for due, _, _ in rows],
                took_ms=[round(took * 1e3, 1) for _, took, _ in rows], how="".join(how for _, _, how in rows),
            )

    def _state(self) -> None:
        lags, self._lags = sorted(self._lags), []
        self._log.event(
            "load_state", phase="burst", **self._totals(), in_flight=self._in_flight(), backlog_total=0, backlog_min=0,
            lag_p99_ms=round(_rank(lags, 0.99) * 1e3, 2), lag_max_ms=round((lags[-1] if lags else 0.0) * 1e3, 2), cpu_s=_cpu_s(),
            rss_bytes=_rss_bytes(), connections=sum(map(len, self._askers.values())),
        )

    def _totals(self) -> dict[str, int]:
        """The counters of any load, in its words: SERVFAIL is a deferral, an answer without data a rejection."""
        ends = self._ends
        return {"due": self._due, "offered": self._sent, "accepted": ends[OK], "deferred": ends[SERVFAIL], "rejected": ends[OTHER],
                "undetermined": ends[TIMEOUT]}


async def _until(when: float) -> None:
    """Wait until the loop's clock says ``when``."""
    loop = asyncio.get_running_loop()
    if when <= loop.time():
        return
    done: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(when, _wake, done)
    try:
        await done
    finally:
        timer.cancel()


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 3)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _main(spec: LabSpec) -> int:
    with LogWriter(Path(spec.arm_dir) / LOG, "load") as log:
        run = LabRun(spec, log)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, run.stop.set)
        await run.run()
    return 0


def main(path: Path) -> int:
    """Run one load; its exit code.

    :raises MailgaleError: it could not begin, or its record could not be written.
    """
    with suppress(OSError):  # without the right to it the load is as it is, and its lag is on record
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    try:
        return asyncio.run(_main(LabSpec.read(path)))
    except OSError as error:
        raise RecordLost.of(error, str(path)) from error


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except MailgaleError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)

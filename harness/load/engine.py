"""The engine: phases warm-up → burst → tail, everything in the ledger, the state each second, statistics for Locust.

Ends: *done* (everything offered has ended), *deadline* (``burst_max_s`` after the burst's begin something had not), *stopped* (SIGTERM, SIGINT, or the steering
process went away). On a stop nothing new begins; what is in flight gets ``STOP_GRACE_S`` to end, else it stays INVOKE without DONE,
which means INFO. SIGKILL leaves the log as of the last turn of the loop; every mail on the wire is in it.

Limits: one process, one core. Several engines of one arm share nothing (see harness.load).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.load.closed import Closed
from harness.load.dial import Dialler
from harness.load.elastic import Elastic
from harness.load.ledger import Ledger
from harness.load.messages import Messages, outside_addresses
from harness.load.mta import Host, Mta
from harness.load.params import Params
from harness.load.populations import Outside
from harness.load.readers import Readers
from harness.load.sightings import Sightings
from harness.load.spec import LoadSpec
from harness.load.stats import Stats, own_cost
from harness.load.steady import OpenLoop, ordinary, submitters
from harness.support.clock import now_ns

STATE_EVERY_S = 1.0
REPORT_EVERY_S = 0.5
LOOK_EVERY_S = 0.02
STOP_GRACE_S = 5.0
#: An acknowledged mail to a watched mailbox that has not been seen there for so long is told as overdue.
OVERDUE_S = 60.0
Report = Callable[[dict[str, Any]], None]


class Engine:
    """One load. Make it inside a running loop, then :meth:`run` it once.

    :param report: gets a JSON-able object twice a second: ``{"steps": [...], "errors": [...], "state": {...}}``.
    :raises UsageError: parameters that fit nothing (a population without its endpoint, no users).
    :raises GuardRefused: an address that must not be loaded.
    """

    def __init__(self, spec: LoadSpec, report: Report = lambda line: None) -> None:
        self.spec = spec = spec.guarded()
        self.params = params = Params.of(spec.params)
        self.loop, self._report = asyncio.get_running_loop(), report
        accounts = spec.accounts()
        _require(spec, params, accounts)
        users = [a for a, _ in accounts]
        messages = Messages(
            spec.seed, params, users, outside_addresses(spec.internet_domains, params.zipf_domains), f"{spec.run_id}.{spec.arm}.",
            numbers_from=(spec.engine - 1) << 40,
        )
        self.outside = Outside.of(spec, params, users)
        messages.senders = [i.address for i in self.outside.all]
        self.stats = Stats()
        self.ledger = Ledger(Path(spec.out) / f"load-{spec.engine}.log", self.loop)
        self.ledger.on_failure = self.stop
        self.sightings = Sightings(self.ledger, self.stats, messages, watched=bool(params.watchers))
        self.host = Host(self.loop, self.ledger, self.stats, messages, self.sightings)
        self.dialler = Dialler(self.host, spec, params, dict(accounts))
        self.elastic = self._elastic()
        self.open_loops = self._open_loops()
        self.readers = Readers(self.host, spec, params, accounts, self.sightings, tuple(i.number for i in self.outside.users))
        self.sightings.mailboxes = self.readers.watched
        self.phase, self._stop, self._deadline_ns = "warmup", asyncio.Event(), 0
        self._cpu_before_s = time.process_time()
        self._deadline_hit = False
        self._lag_ms = (0.0, 0.0)

    def stop(self) -> None:
        """End early, cleanly; safe to call at any time and again."""
        self._stop.set()

    async def run(self) -> str:
        """The whole load; returns the reason of its end.

        :raises OSError: the log could not be written (the load stopped then).
        """
        self._introduce()
        tickers = [self.loop.create_task(self._tick(STATE_EVERY_S, self._state)), self.loop.create_task(self._tick(REPORT_EVERY_S, self._tell))]
        try:
            await self._phases()
            await self._end()
        finally:
            for ticker in tickers:
                ticker.cancel()
        spent = round(time.process_time() - self._cpu_before_s, 3)
        reason = "stopped" if self._stop.is_set() else "deadline" if self._deadline_hit else "done"
        self._state()
        self._tell()  # before the summary, which takes the increments
        self.ledger.event("load_end", reason=reason, load_cpu_s=spent, steps=self.stats.summary(), **self.state())
        self.ledger.close()
        return reason

    @property
    def mtas(self) -> Sequence[Mta]:
        """Every simulated MTA and submitting client of this engine."""
        return [*self.elastic.mtas, *(m for loop in self.open_loops for m in loop.mtas)]

    def state(self) -> dict[str, Any]:
        """The fields of ``load_state`` (harness/DESIGN.md) without the lag."""
        counts, backlogs = self.stats.counts, self.elastic.backlogs()
        overdue, oldest_s = self.sightings.overdue(OVERDUE_S)
        return {
            "phase": self.phase, "due": counts.due, "offered": counts.offered, "attempted": counts.attempted,
            "accepted": counts.accepted, "deferred": counts.deferred, "deferred_by": dict(counts.deferred_by),
            "rejected": counts.rejected, "undetermined": counts.undetermined, "failed": counts.failed, "in_flight": counts.in_flight,
            "backlog_total": sum(backlogs), "backlog_min": min(backlogs, default=0), "connections": counts.connections,
            "waiting_total": sum(m.backlog for m in self.mtas), "seen": self.sightings.seen, "awaited": self.sightings.awaited,
            "overdue": overdue, "awaited_oldest_s": oldest_s, **own_cost(),
        }

    def _elastic(self) -> Elastic | Closed:
        if not self.params.messages:
            return Elastic(self.host, self.spec, self.params, self.outside.elastic, self.dialler.mx)
        by_users = self.params.messages_by == "submission"
        senders, dial = (self.outside.users, self.dialler.submission) if by_users else (self.outside.elastic, self.dialler.mx)
        return Closed(self.host, self.spec, self.params, senders, dial)

    def _open_loops(self) -> list[OpenLoop]:
        loops = []
        if self.params.steady_rate_per_s:
            loops.append(ordinary(self.host, self.spec, self.params, self.outside.steady, self.dialler.mx))
        if self.params.submit_rate_per_s:
            loops.append(submitters(self.host, self.spec, self.params, self.outside.users, self.dialler.submission))
        return loops

    def _introduce(self) -> None:
        senders = self.outside.all
        self.ledger.event("recipients", addresses=self.host.messages.recipients)
        self.ledger.event("senders", addresses=[i.address for i in senders], clients=[i.client for i in senders])
        self.ledger.flush()

    async def _phases(self) -> None:
        self.readers.start()
        await self._until(lambda: self.readers.watching, 10.0)
        for population in self.open_loops:
            population.start(now_ns())
        await self._until(lambda: False, self.params.warmup_s)
        self.phase = "burst"
        self._cpu_before_s = time.process_time()
        begin = now_ns()
        self._deadline_ns = begin + int(self.params.burst_max_s * 1e9)
        self._state()  # so that the shortest load has a begin and an end on record
        if not self._stop.is_set():
            await self.elastic.begin(begin)
        await self._until(self._burst_over, self.params.burst_max_s)
        self._deadline_hit = bool(self.elastic.mtas) and not self.elastic.done
        if self._deadline_hit:
            self.elastic.stop()
        self.phase = "tail"
        await self._until(lambda: False, self.params.tail_s)

    def _burst_over(self) -> bool:
        """With elastic senders: when their backlogs are done. Without: when every arrival process has ended (replay)."""
        if self.elastic.mtas:
            return self.elastic.done
        return bool(self.open_loops) and all(p.pacer.ended and all(m.idle for m in p.mtas) for p in self.open_loops)

    async def _end(self) -> None:
        """No new mail; retries go on until the intake deadline, attempts in flight until they end or the grace is over."""
        for population in self.open_loops:
            population.stop()
        left = max((self._deadline_ns - now_ns()) / 1e9, self.params.drain_s)
        await self._until(self._quiet, left)
        self._deadline_hit = self._deadline_hit or not self._quiet()
        for mta in self.mtas:
            mta.stop()
        self.ledger.flush()
        await self._wait(lambda: self.stats.counts.in_flight == 0, STOP_GRACE_S)
        await self._watch()
        await self.readers.stop()
        for mta in self.mtas:
            mta.abort()

    async def _watch(self) -> None:
        """The load is over; ordinary mail that still waits in queues is seen arriving all the same, so that its delay is known."""
        if self.params.watch_max_s and self.sightings.awaited:
            self.phase = "watch"
            self._state()
            await self.readers.dismiss()
            await self._until(lambda: not self.sightings.awaited, self.params.watch_max_s)

    def _quiet(self) -> bool:
        """Nothing of the open loops waits or is in flight."""
        return all(m.idle for p in self.open_loops for m in p.mtas)

    async def _until(self, holds: Callable[[], bool], longest_s: float) -> None:
        """Wait for a condition, at most ``longest_s``, or for the stop."""
        await self._wait(lambda: self._stop.is_set() or holds(), longest_s)

    async def _wait(self, holds: Callable[[], bool], longest_s: float) -> None:
        end = now_ns() + int(longest_s * 1e9)
        while not holds() and (left := end - now_ns()) > 0:
            await asyncio.sleep(min(LOOK_EVERY_S, left / 1e9))

    async def _tick(self, every_s: float, act: Callable[[], None]) -> None:
        """Call ``act`` on a fixed grid; how late each tick is counts as schedule lag, so that a load without due times has one too."""
        due = now_ns()
        while True:
            due += int(every_s * 1e9)
            await asyncio.sleep(max(due - now_ns(), 0) / 1e9)
            self.stats.late(max(now_ns() - due, 0))
            act()

    def _state(self) -> None:
        p99, most = self._lag_ms = self.stats.lag_ms()
        self.ledger.event("load_state", **self.state(), lag_p99_ms=p99, lag_max_ms=most)

    def _tell(self) -> None:
        p99, most = self._lag_ms
        self._report({**self.stats.report(), "state": {"engine": self.spec.engine, **self.state(), "lag_p99_ms": p99, "lag_max_ms": most}})


def _require(spec: LoadSpec, params: Params, accounts: Sequence[tuple[str, str]]) -> None:
    if params.messages_by not in ("mx", "submission"):
        raise UsageError(f"'messages_by' must be mx or submission, not '{params.messages_by}'", where="load.params")
    closed = params.messages_by if params.messages else ""
    wants = {
        "mx": params.elastic_senders or params.steady_rate_per_s or closed == "mx",
        "submission": params.submit_rate_per_s or closed == "submission",
        "imap": params.imap_users or params.watchers or params.idle_users, "pop3": params.pop_users,
    }
    missing = [role for role, wanted in wants.items() if wanted and role not in spec.endpoints]
    if missing:
        raise UsageError(f"the scenario '{spec.scenario}' needs an endpoint for {', '.join(missing)}", where="load spec")
    for role in (r for r, wanted in wants.items() if wanted):
        for host in spec.endpoints[role].hosts:
            spec.source_for(host, 0)
    if not accounts:
        raise UsageError("there are no users to send mail to", where="load spec", todo="give 'users' or 'user_file'")
    if crowded := params.crowded(len(accounts)):
        raise UsageError(crowded, where="load.params", todo="fewer readers, or more users")
    if not any(wants.values()):
        raise UsageError(f"the scenario '{spec.scenario}' has no population: nothing would be sent", where="load.params")

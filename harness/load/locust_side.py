"""Locust's half: an ordinary locustfile in ``scenarios/`` derives a class from :class:`Scenario`; Locust then steers the engine.

At test_start the engine is started as a process of its own; its statistics are merged into Locust's twice a second (whole
batches: an event per mail would cost several µs each); at test_stop it is stopped; when it ends by itself, Locust ends too.
So ``locust -f scenarios/friday.py`` works as with any locustfile: ``--headless``, web UI, ``--csv``, ``--html``, master and workers
(each worker runs one engine), with gevent's patches or without (``LOCUST_SKIP_MONKEY_PATCH=1``).

The task comes from the file that the environment variable ``MAILGALE_LOAD_SPEC`` names, or else from the command line:
``--host smtp://127.0.0.1:2525 --imap 127.0.0.1:143 --pop3 … --submission … --load-users N --set steady_rate_per_s=5``.

Limits: the number of Locust users does not steer the load, the scenario's parameters do; ``Aggregated`` counts whole operations
(a mail, a command of a reader), not the single steps of a dialogue.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import gevent
import gevent.subprocess
import locust.stats
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from harness.errors import MailgaleError
from harness.load.live_page import Live, add_live_page, follow_workers
from harness.load.master import ENDED, LAST_ROWS_S, LOST, Attendant
from harness.load.options import add_options, spec_from_options
from harness.load.params import Params
from harness.load.spec import PASSWORD_ENV, LoadSpec

SPEC_ENV = "MAILGALE_LOAD_SPEC"
#: Process id of the conductor: a load that outlives it ends. Not set for a locustfile run by hand.
PARENT_ENV = "MAILGALE_LOAD_PARENT"
PARENT_EVERY_S = 1.0
STOP_WAIT_S = 20.0
#: Which engine this worker runs, ``n/N``, where whoever placed it says so; else by the order in which workers connect.
WORKER_ENV = "MAILGALE_LOAD_WORKER"
#: Steps that are whole operations and so count into Locust's total.
WHOLE = frozenset({"mail"})
log = logging.getLogger(__name__)


def given(**params: Any) -> Mapping[str, Any]:
    """A scenario's own defaults.

    :raises UsageError: a parameter that does not exist.
    """
    Params.of(params, where="scenario")
    return MappingProxyType(params)


class Scenario(User):
    """A load scenario: what a locustfile in ``scenarios/`` derives from.

    :cvar scenario: its name, that of the file.
    :cvar defaults: its parameters (harness.load.params), overridden by the plan or by ``--set``.
    """

    abstract = True
    host = "smtp://127.0.0.1:2525"
    scenario: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @task
    def steer(self) -> None:
        """Locust's user holds on; the engine does the work in its own process."""
        gevent.sleep(1)


class Steering:
    """One engine process and what it told so far. One per Locust process."""

    def __init__(self, environment: Environment, scenario: type[Scenario]) -> None:
        self.environment, self.scenario = environment, scenario
        self.state: dict[str, Any] = {}
        self.live = Live()
        self.code: int | None = None
        self._stopping = False
        self._process: Any = None
        self._reader: Any = None

    def start(self) -> None:
        """Start the engine.

        :raises MailgaleError: a spec that cannot be carried out; nothing runs then.
        """
        spec = self._spec()
        resolved = Path(spec.out) / f"load-{spec.engine}.json"
        resolved.write_text(spec.to_json())
        self._process = gevent.subprocess.Popen(
            [sys.executable, "-m", "harness.load", str(resolved), "--steered"], stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE, env={**os.environ, PASSWORD_ENV: spec.password},
        )
        self.code, self._stopping = None, False
        self._reader = gevent.spawn(self._read)
        if parent := os.environ.get(PARENT_ENV):
            gevent.spawn(self._end_with, int(parent))

    def stop(self) -> None:
        """Stop the engine cleanly; after STOP_WAIT_S by force."""
        if self._process is None or self._process.poll() is not None:
            return
        self._stopping = True
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=STOP_WAIT_S)
        except gevent.subprocess.TimeoutExpired:
            self._process.kill()
        if self._reader is not gevent.getcurrent():
            self._reader.join(timeout=STOP_WAIT_S)

    def _end_with(self, parent: int) -> None:
        """Quit once the conductor is gone: nobody would record how this load ends, and the next run must not meet its mail."""
        while os.getppid() == parent:
            gevent.sleep(PARENT_EVERY_S)
        log.error("the conductor, process %s, is gone: the load ends", parent)
        if self.environment.runner is not None:
            self.environment.runner.quit()

    def _spec(self) -> LoadSpec:
        named = os.environ.get(SPEC_ENV)
        spec = LoadSpec.read(Path(named)) if named else spec_from_options(self.environment.parsed_options, self.scenario.scenario)
        runner = self.environment.runner
        if isinstance(runner, WorkerRunner):
            engine, engines = _place(runner, spec)
            spec = spec.replace(engine=engine, engines=engines)
        spec = spec.replace(params={**self.scenario.defaults, **spec.params}).guarded()
        Params.of(spec.params)
        Path(spec.out).mkdir(parents=True, exist_ok=True)
        return spec

    def _read(self) -> None:
        for line in self._process.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                continue  # the last line of a killed engine may be cut
            self.state = report.get("state", self.state)
            self.live.told(str(self.state.get("engine", 1)), self.state)
            merge(self.environment.stats, report)
        self.code = self._process.wait()
        self._ended()

    def _ended(self) -> None:
        environment, runner = self.environment, self.environment.runner
        log.info("the engine has ended with code %s: %s", self.code, _sentence(self.state))
        environment.process_exit_code = 0 if self.code == 0 else self.code if self.code and self.code > 0 else 3
        if isinstance(runner, WorkerRunner):
            runner.send_message(ENDED, {"code": LOST if self._stopping else environment.process_exit_code})
        elif runner is not None and runner.state not in ("stopping", "stopped", "cleanup"):
            gevent.spawn_later(LAST_ROWS_S, runner.stop if environment.web_ui else runner.quit)


def merge(stats: locust.stats.RequestStats, report: dict[str, Any]) -> None:
    """Add one report of the engine to Locust's statistics.

    :param report: ``{"steps": [{proto, step, fails, total_ms, octets, buckets_us}], "errors": [{proto, step, error, n}]}``.
    """
    now = time.time()
    for step in report.get("steps", ()):
        entry = _entry(stats, step, now)
        stats.get(step["step"], step["proto"]).extend(entry)
        if step["step"] in WHOLE or step["proto"] in ("imap", "pop3"):
            stats.total.extend(entry)
    for error in report.get("errors", ()):
        key = locust.stats.StatsError.create_key(error["proto"], error["step"], error["error"])
        known = stats.errors.get(key)
        if known is None:
            known = stats.errors[key] = locust.stats.StatsError(error["proto"], error["step"], error["error"], first_seen=now)
        known.occurrences += error["n"]
        known.last_seen = now


def _entry(stats: locust.stats.RequestStats, step: dict[str, Any], now: float) -> locust.stats.StatsEntry:
    entry = locust.stats.StatsEntry(stats, step["step"], step["proto"])
    buckets = [(us / 1000, n) for us, n in step["buckets_us"]]
    entry.num_requests = sum(n for _, n in buckets)
    entry.num_failures = step["fails"]
    entry.total_response_time = step["total_ms"]
    entry.min_response_time, entry.max_response_time = buckets[0][0], buckets[-1][0]
    for ms, n in buckets:
        entry.response_times[locust.stats.bucket_response_time(ms)] += n
    entry.num_reqs_per_sec[int(now)] = entry.num_requests
    if step["fails"]:
        entry.num_fail_per_sec[int(now)] = step["fails"]
    entry.last_request_timestamp, entry.total_content_length = now, step["octets"]
    return entry


def _place(runner: WorkerRunner, spec: LoadSpec) -> tuple[int, int]:
    """Number of this worker's engine and of all; how many share the load is what the master was told to expect, where nobody says."""
    number, _, of = os.environ.get(WORKER_ENV, "").partition("/")
    if number and of:
        return int(number), int(of)
    expected = int(getattr(runner.environment.parsed_options, "expect_workers", 1) or 1)
    return runner.worker_index + 1, max(expected, spec.engines)


def _sentence(state: dict[str, Any]) -> str:
    return ", ".join(f"{state.get(k, 0)} {k}" for k in ("offered", "accepted", "deferred", "rejected", "undetermined"))


_steering: dict[int, Steering] = {}
_attendants: dict[int, Attendant] = {}


def _options(parser: LocustArgumentParser, **_: Any) -> None:
    add_options(parser)


def _init(environment: Environment, **_: Any) -> None:
    scenarios = [c for c in environment.user_classes if issubclass(c, Scenario)]
    if not scenarios:
        return
    steering = _steering[id(environment)] = Steering(environment, scenarios[0])
    follow_workers(environment, steering.live, lambda: steering.state)
    if environment.web_ui:
        add_live_page(environment.web_ui, steering.live.rows)
    if isinstance(environment.runner, MasterRunner):
        _attendants[id(environment)] = Attendant(environment, environment.runner)


def _start(environment: Environment, **_: Any) -> None:
    if (attendant := _attendants.get(id(environment))) is not None:
        attendant.begin()
    steering, runner = _steering.get(id(environment)), environment.runner
    if steering is not None:
        steering.live.states.clear()
    if steering is None or isinstance(runner, MasterRunner):
        return
    try:
        steering.start()
    except MailgaleError as error:
        log.error("%s", error)
        environment.process_exit_code = error.exit_code
        if isinstance(runner, WorkerRunner):
            runner.send_message(ENDED, {"code": error.exit_code})
        if runner is not None:
            gevent.spawn(runner.quit)


def _stopping(environment: Environment, **_: Any) -> None:
    if (attendant := _attendants.get(id(environment))) is not None:
        attendant.end()


def _stop(environment: Environment, **_: Any) -> None:
    steering = _steering.get(id(environment))
    if steering is not None:
        steering.stop()


_hooks: Any = events  # locust's hooks carry no types
_hooks.init_command_line_parser.add_listener(_options)
_hooks.init.add_listener(_init)
_hooks.test_start.add_listener(_start)
_hooks.test_stopping.add_listener(_stopping)
_hooks.test_stop.add_listener(_stop)

"""Locust's master of a distributed load: it ends when every worker's engine has ended, and fails when one was lost.

A worker that was killed says nothing any more; Locust calls it missing after three heartbeats. Its share of the load is then not sent by
anybody (each engine's log is the only record of its mails), so the load as a whole failed: exit code 3. So does a worker that was told to stop by
anybody but its master, as when its pod is deleted.
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
import locust.stats
from locust.env import Environment
from locust.runners import STATE_MISSING, WORKER_REPORT_INTERVAL, MasterRunner

#: Message of a worker whose engine has ended, with its exit code.
ENDED = "mailgale_engine_ended"
LAST_ROWS_S = 1.3 * locust.stats.CSV_STATS_INTERVAL_SEC  #: locust writes its CSV on this grid and not once more at the end
LOST = 3
_LOOK_EVERY_S = 0.5
log = logging.getLogger(__name__)


class Attendant:
    """Follows the workers of one master from a test's begin to its end."""

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        self._environment, self._runner = environment, runner
        self._seen: set[str] = set()
        self._codes: dict[str, int] = {}
        self._watch: Any = None
        runner.register_message(ENDED, self._on_ended)

    def begin(self) -> None:
        """A test begins; what was known of an earlier one is forgotten."""
        self.end()
        self._seen, self._codes = set(), {}
        self._watch = gevent.spawn(self._follow)

    def end(self) -> None:
        """The test ends, whoever ended it."""
        if self._watch is not None and self._watch is not gevent.getcurrent():
            self._watch.kill(block=False)
        self._watch = None

    def _on_ended(self, environment: Environment, msg: Any, **_: Any) -> None:
        self._codes[msg.node_id] = int(msg.data["code"])

    def _follow(self) -> None:
        while True:
            gevent.sleep(_LOOK_EVERY_S)
            living = {name for name, client in self._runner.clients.items() if client.state != STATE_MISSING}
            self._seen |= living
            if self._seen and not living - self._codes.keys():
                break
        lost = self._seen - self._codes.keys()
        for name in sorted(lost):
            log.error("the worker %s is lost, and what it had still to send with it", name)
        self._environment.process_exit_code = max([*self._codes.values(), LOST if lost else 0])
        gevent.sleep(WORKER_REPORT_INTERVAL + LAST_ROWS_S)  # the workers' last statistics, and the file they go to
        self._watch = None
        gevent.spawn(self._runner.stop if self._environment.web_ui else self._runner.quit)

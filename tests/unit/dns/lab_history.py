"""Histories of the DNS laboratory, written through the real store: what the load and the sensors would have recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.cli.catalogue import catalogue
from harness.model.dnslab import LabLoad
from harness.model.plan import Plan
from harness.plan import load_plan
from harness.store.log import LogWriter
from harness.store.run import RunDir
from harness.support.checkout import Checkout

SECOND = 1_000_000_000
PLAN = """\
title: the laboratory, small
description: a plan of the tests
method: []
extensions:
  - name: mailgale
    version: 1
    question: Does the laboratory find the knee that was written into the record?
    findings: [t32b, forced-tcp]
    profile: dns-lab
    seed: 1
    time_scale: 1
    users: 8
    budget: {minutes: 10, mails: 200000}
    load:
      kind: dns
      intake_deadline_s: 240
      settle_s: 10
      params:
        start_per_s: 40
        max_per_s: 160
        step_s: 6
        warm_s: 1
        cells:
          - {name: tcp, caches: 2, transport: tcp, delay_ms: 5}
          - {name: udp, caches: 2, transport: udp, delay_ms: 5}
    arms:
      - {name: few, variants: [incoming-tcp-10]}
      - {name: many, variants: [incoming-tcp-1000]}
    checks:
      dns-capacity: {limits: {per_s_min: 100}}
"""


@dataclass
class Recorded:
    """One arm. ``fail``: cell → rate from which every fifth query fails. The other fields spoil it."""

    slots: int
    fail: Mapping[str, float] = field(default_factory=dict)
    rates: tuple[float, ...] = (40, 80, 160)
    cells: tuple[str, ...] = ("tcp", "udp")
    threads: int = 1
    lag_ms: float = 1.0
    leak: float = 0.0  #: share of the other transport at unbound
    unfinished: str = ""  #: cell without an end
    uncounted: int = 0  #: queries that the caches did not count
    settings: bool = True
    sensors_stop_s: float = 1e9


def plan(tmp_path: Path, text: str = PLAN) -> Plan:
    path = tmp_path / "lab-plan.yaml"
    path.write_text(text)
    return load_plan(path, catalogue(Checkout.find()))


def write(tmp_path: Path, arms: Mapping[str, Recorded]) -> RunDir:
    """A sealed run."""
    made = plan(tmp_path)
    run = RunDir.create(tmp_path / "runs", made, {}, arms=[(1, name) for name in arms])
    with LogWriter(run.conductor_log, "conductor"):
        pass
    for name, arm in arms.items():
        _Arm(run, made, name, arm).write()
    run.seal()
    return run


class _Arm:
    def __init__(self, run: RunDir, made: Plan, name: str, arm: Recorded) -> None:
        self.dir, self.arm, self.load = run.arm(1, name), arm, LabLoad.of(made.load.params)
        self.t, self.sent, self.tcp = 10 * SECOND, 0, 0

    def write(self) -> None:
        path = self.dir.path
        with LogWriter(path / "load-1.log", "load") as log, LogWriter(path / "sensors.log", "sensors") as sensors, LogWriter(
            path / "observe.log", "observe"
        ) as observe, LogWriter(self.dir.conductor_log, "conductor") as conductor:
            names = ["conductor.log", "observe.log", "load-1.log", "census.log", "account.log", "sensors.log"]
            conductor.event("expected_writers", t=SECOND, names=names)
            self._account("account.log", 2 * SECOND)
            self._phase(conductor, "deploy", SECOND, 2 * SECOND)
            begin = self.t
            if self.arm.settings:
                sensors.event("dns_settings", t=begin, version="1.26.2", threads=self.arm.threads, incoming_num_tcp=self.arm.slots)
            for name in self.arm.cells:
                self._cell(log, sensors, observe, name)
            log.event("load_end", t=self.t, reason="done", offered=self.sent)
            self._phase(conductor, "load", begin, self.t)
            self._phase(conductor, "census", self.t, self.t + SECOND)
        self._account("census.log", self.t)

    def _phase(self, log: LogWriter, name: str, begin: int, end: int) -> None:
        log.event("phase", t=begin, name=name, edge="begin")
        log.event("phase", t=end, name=name, edge="end")

    def _cell(self, log: LogWriter, sensors: LogWriter, observe: LogWriter, name: str) -> None:
        log.event("dns_cell", t=self.t, cell=name, edge="begin")
        for number, rate in enumerate(self.arm.rates, 1):
            log.event("dns_step", t=self.t, cell=name, step=number, per_s=rate, edge="begin", warm_s=self.load.warm_s)
            bad = rate >= self.arm.fail.get(name, 1e9)
            for second in range(int(self.load.step_s)):
                self._second(log, sensors, observe, name, number, int(rate), second, bad)
            log.event("dns_step", t=self.t, cell=name, step=number, per_s=rate, edge="end")
        if name != self.arm.unfinished:
            log.event("dns_cell", t=self.t, cell=name, edge="end")

    def _second(self, log: LogWriter, sensors: LogWriter, observe: LogWriter, cell: str, step: int, n: int, second: int, bad: bool) -> None:
        own = n if cell == "tcp" else 0
        self.sent, self.tcp = self.sent + n, self.tcp + int(own * (1 - self.arm.leak) + (n - own) * self.arm.leak)
        self.t += SECOND
        due = [second * 1000 + i * 1000 / n for i in range(n)]
        log.event("dns_queries", t=self.t, cell=cell, step=step, due_ms=due, took_ms=[8.0] * n, how="".join("t" if bad and i % 5 == 0 else "o" for i in range(n)))
        log.event("load_state", t=self.t, phase="burst", offered=self.sent, lag_p99_ms=self.arm.lag_ms)
        observe.event("host", t=self.t, cpu_share=0.3)
        if self.t < self.arm.sensors_stop_s * SECOND:
            slots = min(self.arm.slots, 30)
            sensors.event("dns_resolver", t=self.t, queries=self.sent, queries_tcp=self.tcp, slots=slots, slots_by_thread=[slots], recv_q=7 if bad else 0)

    def _account(self, name: str, t: int) -> None:
        lost = self.arm.uncounted if name == "census.log" else 0
        with LogWriter(self.dir.path / name, "sensors") as log:
            log.event("dns_account", t=t, where="resolver", queries=self.sent, queries_tcp=self.tcp)
            log.event("dns_account", t=t, where="lab-cache-a", requests=self.sent - lost)

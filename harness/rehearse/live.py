"""What a run under way looks like, read from its own files and nothing else: for ``mailgale watch``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.chaos import undo
from harness.chaos.tail import Tail
from harness.errors import MailgaleError, StoreDamaged
from harness.rehearse.states import States
from harness.store.run import ArmDir, RunDir
from harness.support.clock import boot_id, now_ns

QUEUES = ("incoming", "active", "deferred", "hold")


@dataclass
class Screen:
    """One look. Numbers are of the arm under way unless said otherwise.

    :param faults: name → (kind, last edge, targets).
    :param state: the last ``load_state`` of all engines together, {} before the first.
    :param queues: component → mails in its queues.
    :param to_undo: what is armed and not undone, as words.
    :param used: minutes and mails → (used, allowed by the plan for all blocks).
    """

    run: str
    plan: str
    arm: str = ""
    number: int = 0
    arms: int = 0
    phase: str = ""
    elapsed_s: float = 0.0
    phase_s: float = 0.0
    state: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    to_undo: tuple[str, ...] = ()
    used: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    ended: bool = False


class LiveRun:
    """Follows a run's files. Look as often as you like: only what is new is read."""

    def __init__(self, run: RunDir) -> None:
        self._run, self._arm = run, ""
        self._following: _LiveArm | None = None
        self._offered: dict[str, float] = {}

    def look(self) -> Screen:
        """The run as it is now.

        :raises StoreDamaged: a log does not read.
        """
        arms = self._run.arm_dirs()
        begun = max(arms, key=_began, default=None)
        screen = Screen(self._run.run_id, self._run.plan.name, arms=len(self._run.planned_arms), number=len(arms), ended=bool(self._run.seal_digest))
        screen.elapsed_s = self._elapsed_s()
        if begun is not None:
            if begun.label != self._arm:
                self._arm, self._following = begun.label, _LiveArm(begun)
            assert self._following is not None
            self._following.look(screen)
            self._offered[begun.label] = float(screen.state.get("offered", 0))
        blocks = max((b for b, _ in self._run.planned_arms), default=1)
        now = {"minutes": screen.elapsed_s / 60, "mails": sum(self._offered.values())}
        screen.used = {k: (v, float(self._run.plan.budget.get(k, 0)) * blocks) for k, v in now.items()}
        return screen

    def _elapsed_s(self) -> float:
        anchor = self._run.head.get("sessions", ({},))[-1:] or [{}]
        begin = dict(anchor[0]).get("anchor") or self._run.head.get("anchor") or {}
        return (now_ns() - int(begin["monotonic_ns"])) / 1e9 if begin.get("boot") == boot_id() else 0.0


class _LiveArm:
    def __init__(self, arm: ArmDir) -> None:
        self._dir = arm
        self._tails: dict[Path, Tail] = {}
        self._phases: list[tuple[str, int]] = []
        self._phase = ("", 0)
        self._states = States(arm.path)
        self._faults: dict[str, tuple[str, str, str]] = {}
        self._pods: dict[str, tuple[str, int]] = {}
        self._incidents: list[str] = []

    def look(self, screen: Screen) -> None:
        for path in (self._dir.conductor_log, self._dir.observe_log, self._dir.faults_log):
            for event in self._tails.setdefault(path, Tail(path)).events():
                self._event(event)
        for event in self._states.news():
            self._event(event)
        phase, since = self._phases[-1] if self._phases else self._phase
        screen.arm, screen.phase = self._dir.label, phase
        screen.phase_s = (now_ns() - since) / 1e9 if since else 0.0
        screen.state, screen.faults, screen.incidents = self._states.total, self._faults, tuple(self._incidents[-4:])
        queues: dict[str, int] = {}
        for component, depth in self._pods.values():
            queues[component] = queues.get(component, 0) + depth
        screen.queues = queues
        with suppress(MailgaleError, OSError):
            screen.to_undo = tuple(undo.describe(a.entry) for a in undo.pending(self._dir.path))

    def _event(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "phase":
            self._turn(str(event["name"]), str(event["edge"]), int(event["t"]))
        elif kind == "fault":
            self._faults[event["name"]] = (event["fault"], event["edge"], ", ".join(map(str, event["targets"])))
        elif kind == "queue":
            self._pods[event["pod"]] = (str(event["component"]), sum(int(event.get(q) or 0) for q in QUEUES))
        elif kind in ("incident", "stopped"):
            self._incidents.append(str(event.get("what") or event.get("why")))

    def _turn(self, name: str, edge: str, at: int) -> None:
        if edge == "begin":
            self._phases.append((name, at))
        else:
            self._phases = [p for p in self._phases if p[0] != name]
            self._phase = (f"after {name}", at)


def _began(arm: ArmDir) -> float:
    """When the arm's first event was written, on the run's clock."""
    try:
        return float(next(Tail(arm.conductor_log).events(), {"t": 0})["t"])
    except StoreDamaged:
        return 0.0

"""How any fault runs: armed, triggered, begun, proven, ended, undone; or failed, which nothing may hide.

chaostoolkit calls a run "completed" whose action crashed, so every ending is written into ``faults.log`` here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chaoslib.exceptions import ActivityFailed

from harness.chaos import caps
from harness.chaos.targets import NODE_KINDS, workload_of
from harness.chaos.triggers import wait_for_trigger
from harness.chaos.undo import Armed
from harness.chaos.world import LOOK_S, FaultFailed, World, current
from harness.errors import MailgaleError, NotSupported
from harness.kube.objects import Pod

T = TypeVar("T")
When = Mapping[str, float] | None


@dataclass
class Fault:
    """One fault under way.

    :param victims: names, chosen by harness.chaos.targets; an action never chooses.
    :param deadline_s: it must be over and undone by then, counted from the trigger.
    """

    world: World
    name: str
    kind: str
    component: str
    victims: list[str]
    deadline_s: float
    since: float = field(default_factory=time.monotonic)
    armed: list[Armed] = field(default_factory=list)

    def say(self, edge: str, **detail: Any) -> None:
        """Write one edge of this fault."""
        self.world.log.event(self.name, self.kind, edge, self.victims, **detail)

    def arm(self, op: str, **fields: Any) -> Armed:
        """Write down, durably, what must be brought back. Call it before the act."""
        armed = self.world.undo_log.arm(op, **fields)
        self.armed.append(armed)
        return armed

    def arm_whole(self, victims: Iterable[Pod]) -> None:
        """Write down that every workload that loses a pod must have all of them again."""
        for workload in dict.fromkeys(workload_of(p) or self.workload for p in victims):
            self.arm("whole", workload=workload)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline_s - (time.monotonic() - self.since)

    def until(self, probe: Callable[[], T | None], what: str) -> T:
        """Wait for ``probe``, no longer than the deadline.

        :raises FaultFailed: the deadline passed. :raises GuardRefused: the lease is gone, or somebody asked to stop.
        """
        while True:
            found = probe()
            if found:
                return found
            self.world.check()
            if self.left_s <= 0:
                raise FaultFailed(f"not within its {self.deadline_s:.0f} s: {what}", where=self.name)
            time.sleep(LOOK_S)

    def hold(self, seconds: float, look: Callable[[], object] = lambda: None) -> None:
        """Keep the fault up for a while, lease and stop being watched, ``look`` called again and again; cut short by the deadline."""
        end = time.monotonic() + min(seconds, max(0.0, self.left_s))
        while time.monotonic() < end:
            self.world.check()
            look()
            time.sleep(min(LOOK_S, max(0.0, end - time.monotonic())))

    def pod(self, name: str) -> Pod:
        """A victim as it is now.

        :raises FaultFailed: there is none of that name.
        """
        found = self.world.pod(name)
        if found is None:
            raise FaultFailed("the victim does not exist", where=name)
        return found

    @property
    def workload(self) -> str:
        """The ``Kind/name`` of the component.

        :raises FaultFailed: it is not known.
        """
        known = self.world.spec.workloads.get(self.component, ())
        if not known:
            raise FaultFailed(f"the component '{self.component}' has no workload that is known", where=self.name)
        return known[0]

    @property
    def every_workload(self) -> list[str]:
        """``Kind/name`` of all that run in this run's namespace."""
        return sorted({w for known in self.world.spec.workloads.values() for w in known})

    def arm_every_workload(self) -> None:
        """Write down that every workload of the run has to be whole again: for faults that hit whatever is on a node."""
        for workload in self.every_workload:
            self.arm("whole", workload=workload)

    def undo_one(self, armed: Armed) -> None:
        """Undo one entry before the others.

        :raises FaultFailed: something of it is left.
        """
        self.armed.remove(armed)
        if left := self.world.undo_log.undo(armed):
            raise FaultFailed(f"not undone: {left}", where=self.name)

    def undo_some(self, count: int) -> None:
        """Undo the last ``count`` entries, last in first.

        :raises FaultFailed: something of one is left; the others wait for :meth:`undo`.
        """
        for armed in self.armed[: -count - 1 : -1]:
            self.undo_one(armed)

    def undo(self) -> list[str]:
        """Undo what is armed, last in first; what is left."""
        left = [why for armed in reversed(self.armed) if (why := self.world.undo_log.undo(armed))]
        self.armed.clear()
        return left


def carry_out(
    kind: str,
    act: Callable[[Fault], None],
    *,
    component: str,
    victims: list[str] | None,
    fault: str,
    when: When,
    deadline_s: float,
) -> dict[str, Any]:
    """Run one fault from arming to undone. What chaostoolkit calls; returns a line for its journal.

    :raises ActivityFailed: it failed; ``faults.log`` says how, and everything armed was tried to be undone.
    """
    try:
        world = current()
    except (MailgaleError, OSError) as error:
        raise ActivityFailed(f"refused: {error}") from error
    doing = Fault(world, fault or kind, kind, component, list(victims or []), deadline_s)
    try:
        _run(doing, act, when)
    except (MailgaleError, NotSupported, OSError) as error:
        left = doing.undo()
        unsupported = {"not_supported": True} if isinstance(error, NotSupported) else {}
        with suppress(OSError):  # a log that takes no more lacks the edge "undone", so the fault is not taken for a good one
            doing.say("failed", why=str(error), error=type(error).__name__, not_undone=left, **unsupported)
        raise ActivityFailed(f"{doing.name}: {error}") from error
    return {"fault": doing.name, "kind": kind, "targets": doing.victims, "seconds": round(time.monotonic() - doing.since, 3)}


def _run(doing: Fault, act: Callable[[Fault], None], when: When) -> None:
    doing.world.check()
    if not doing.victims:
        raise FaultFailed("no victim was named; a fault that hits nothing is no fault", where=doing.name)
    doing.say("armed", when=dict(when or {}), deadline_s=doing.deadline_s)
    measured = wait_for_trigger(doing.world, when, doing.victims) if when else {}
    doing.since = time.monotonic()
    doing.say("triggered", **measured)
    doing.world.check()
    if doing.kind in NODE_KINDS:
        caps.check_now(doing.world.cluster, doing.victims, doing.world.spec.may)
    act(doing)
    left = doing.undo()
    if left:
        raise FaultFailed(f"not undone: {'; '.join(left)}", where=doing.name)
    doing.say("undone", after_s=round(time.monotonic() - doing.since, 3))
    if doing.left_s < 0:
        raise FaultFailed(f"undone {-doing.left_s:.0f} s after its deadline", where=doing.name)

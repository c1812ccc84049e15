"""The load of an arm: begun where its plan places it, followed to its end, or ended before its time (harness.rehearse.stops)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.chaos.tail import Tail
from harness.errors import BudgetExceeded, CommandFailed, Interrupted, MailgaleError, NotReady
from harness.kube.gateway import Record
from harness.load.in_cluster import ClusterLoad
from harness.load.runner import LoadProcess
from harness.rehearse import placing, specs
from harness.stack.deployed import Stack
from harness.store.asking import mark_stopped
from harness.support.clock import wait_for

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

#: The load has its own deadline; this much later it is taken for hung.
LOAD_GRACE_S = 60.0


class States:
    """The last ``load_state`` of every engine that writes into an arm, as one: counters added up, ages the oldest."""

    def __init__(self, arm_dir: Path) -> None:
        self._dir, self._tails, self._last = arm_dir, dict[Path, Tail](), dict[Path, dict[str, Any]]()

    def look(self) -> dict[str, Any]:
        """Read what is new; {} before the first."""
        for path in self._dir.glob("load-*.log"):
            for event in self._tails.setdefault(path, Tail(path)).events():
                if event["kind"] == "load_state":
                    self._last[path] = event
        total: dict[str, Any] = {}
        for state in self._last.values():
            for name, value in state.items():
                if isinstance(value, int | float):
                    total[name] = max(total.get(name, 0), value) if name.endswith(("_s", "_ms")) else total.get(name, 0) + value
        return total


def run_load(arm: ArmRun, stack: Stack, record: Record) -> None:
    """Run it; what goes wrong is an incident of the arm's, what stops it stays in ``arm.stopped``.

    :raises GuardRefused: the cluster's lease is lost.
    """
    spec = specs.load(arm, stack)
    longest = sum(float(spec.params.get(k, 0)) for k in ("warmup_s", "burst_max_s", "tail_s", "watch_max_s")) + LOAD_GRACE_S
    process = placing.start(arm, stack, spec, longest, record=record)
    try:
        _until_over(arm, process, longest)
        process.wait(deadline_s=5)
    except (BudgetExceeded, Interrupted) as error:
        _stopped(arm, error)
    except (NotReady, CommandFailed) as error:
        arm.incident(str(error), "load")
    finally:
        process.stop()
        for problem in process.problems:
            arm.incident(problem, "load")
        arm.offered = float(process.state().get("offered", 0))


def _until_over(arm: ArmRun, process: LoadProcess | ClusterLoad, deadline_s: float) -> None:
    """Follow the load until it has ended, or something ends it.

    :raises NotReady: it has not ended in time. Further as of ``Stops.during``.
    """
    states = States(arm.directory.path)

    def over() -> bool:
        state = states.look()
        if arm.stops is not None:
            arm.stops.during(state)
        return not process.alive

    wait_for(over, deadline_s=deadline_s, what="the load to end", every_s=0.5)


def _stopped(arm: ArmRun, why: MailgaleError) -> None:
    """The load ends now; everything after it goes on, so that what was acknowledged until now is judged."""
    arm.stopped = why
    arm.progress.note(f"stopping the load: {why}")
    arm.log.event("stopped", why=str(why), code=why.exit_code)
    mark_stopped(arm.directory, str(why))

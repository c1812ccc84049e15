"""The load of an arm: begun where its plan places it, followed to its end, or ended before its time (harness.rehearse.stops)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import BudgetExceeded, CommandFailed, Interrupted, MailgaleError, NotReady
from harness.kube.gateway import Record
from harness.rehearse import placing, specs
from harness.rehearse.states import States
from harness.stack.deployed import Stack
from harness.store.asking import mark_stopped
from harness.support.clock import wait_for

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

#: The load has its own deadline; this much later it is taken for hung.
LOAD_GRACE_S = 60.0


def run_load(arm: ArmRun, stack: Stack, record: Record) -> None:
    """Run it; what goes wrong is an incident of the arm's, what stops it stays in ``arm.stopped``.

    :raises GuardRefused: the cluster's lease is lost.
    """
    spec = specs.load(arm, stack)
    longest = sum(float(spec.params.get(k, 0)) for k in ("warmup_s", "burst_max_s", "tail_s", "watch_max_s")) + LOAD_GRACE_S
    process = placing.start(arm, stack, spec, longest, record=record)
    try:
        until_over(arm, lambda: process.alive, States(arm.directory.path).look, deadline_s=longest)
        process.wait(deadline_s=5)
    except (BudgetExceeded, Interrupted) as error:
        stopped(arm, error)
    except (NotReady, CommandFailed) as error:
        arm.incident(str(error), "load")
    finally:
        process.stop()
        for problem in process.problems:
            arm.incident(problem, "load")
        arm.offered = float(process.state().get("offered", 0))


def until_over(arm: ArmRun, alive: Callable[[], bool], state: Callable[[], Mapping[str, Any]], *, deadline_s: float) -> None:
    """Follow a load until it has ended, or something ends it.

    :param state: its last ``load_state``, {} where there is none.
    :raises NotReady: it has not ended in time. Further as of ``Stops.during``.
    """

    def over() -> bool:
        if arm.stops is not None:
            arm.stops.during(state())
        return not alive()

    wait_for(over, deadline_s=deadline_s, what="the load to end", every_s=0.5)


def stopped(arm: ArmRun, why: MailgaleError) -> None:
    """The load ends now; everything after it goes on, so that what was acknowledged until now is judged."""
    arm.stopped = why
    arm.progress.note(f"stopping the load: {why}")
    arm.log.event("stopped", why=str(why), code=why.exit_code)
    mark_stopped(arm.directory, str(why))

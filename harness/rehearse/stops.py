"""What ends a run before its time, looked at while an arm runs: somebody who asks, the budget, the plan's stop conditions, a lost lease.

Each ends it in order: the load is stopped, faults are undone, queues settle, the census is taken, the run is sealed. What was
acknowledged until then is judged. A stopped arm is run again when the run is gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import Interrupted, StopCondition
from harness.kube.runlease import RunLease
from harness.model.plan import StopWhen
from harness.rehearse.budget import Allowance
from harness.store.asking import asked_to_end
from harness.store.run import RunDir

#: Outcomes that are an answer.
_ANSWERED = ("accepted", "deferred", "rejected")


@dataclass
class Stops:
    """Everything that may end a run. ``lease`` None: no cluster."""

    run: RunDir
    allowance: Allowance
    stop_when: StopWhen
    lease: RunLease | None = None

    def asked(self) -> None:
        """Before something new begins.

        :raises Interrupted: somebody asked. :raises GuardRefused: the lease is lost.
        """
        if self.lease is not None:
            self.lease.check()
        asked = asked_to_end(self.run)
        if asked is not None:
            raise Interrupted(f"aborted: {asked.why}", where=self.run.run_id)

    def during(self, state: Mapping[str, Any]) -> None:
        """While a load runs.

        :param state: its last ``load_state``; {} before the first.
        :raises Interrupted: somebody asked. :raises GuardRefused: the lease is lost.
        :raises BudgetExceeded: minutes or mails are used up. :raises StopCondition: a stop condition of the plan holds.
        """
        self.asked()
        self.allowance.during(float(state.get("offered", 0)))
        for met in (_lost, _burnt):
            why = met(self.stop_when, state)
            if why:
                raise StopCondition(f"stop condition: {why}", where=self.run.run_id)


def _lost(when: StopWhen, state: Mapping[str, Any]) -> str:
    oldest = float(state.get("awaited_oldest_s", 0))
    if when.lost_after_s is None or oldest <= when.lost_after_s:
        return ""
    return f"an acknowledged mail has not been seen in its mailbox for {oldest:.0f} s, so it counts as lost so far (limit {when.lost_after_s:g} s)"


def _burnt(when: StopWhen, state: Mapping[str, Any]) -> str:
    answered = sum(int(state.get(k, 0)) for k in _ANSWERED) + int(state.get("undetermined", 0))
    if when.accepted_share_min is None or answered < when.accepted_share_after:
        return ""
    share = int(state.get("accepted", 0)) / answered
    return f"{share:.1%} of {answered} attempts were accepted, the objective is {when.accepted_share_min:.1%}" if share < when.accepted_share_min else ""


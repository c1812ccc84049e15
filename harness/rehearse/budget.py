"""The plan's budget, for each block of arms: minutes and mails (exit 9), before each arm and during it.

What faults may do (``pods_killed``, ``fault_minutes``, nodes) is a guard of their own (harness.chaos.caps).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.errors import BudgetExceeded
from harness.model.plan import Plan


class Allowance:
    """What a run may spend: its plan's budget times its blocks.

    :param clock: monotonic seconds.
    """

    def __init__(self, plan: Plan, blocks: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._blocks, self._clock, self._begin = plan, blocks, clock, clock()
        self.mails = 0.0

    def spend(self, mails: float) -> None:
        """So many mails were offered."""
        self.mails += mails

    def check(self) -> None:
        """Before an arm.

        :raises BudgetExceeded: minutes or mails are used up.
        """
        for name, used in self.used().items():
            if used >= self.allowed(name):
                raise self._exceeded(name, used)

    def during(self, offered: float) -> None:
        """While an arm runs.

        :param offered: mails that the arm under way has offered so far.
        :raises BudgetExceeded: more minutes or mails than allowed are used.
        """
        for name, used in self.used(offered).items():
            if used > self.allowed(name):
                raise self._exceeded(name, used)

    def used(self, offered: float = 0.0) -> dict[str, float]:
        """Minutes and mails used so far."""
        return {"minutes": (self._clock() - self._begin) / 60, "mails": self.mails + offered}

    def allowed(self, name: str) -> float:
        """What the plan allows for all blocks; infinite where it does not say."""
        return self._plan.budget.get(name, float("inf")) * self._blocks

    def _exceeded(self, name: str, used: float) -> BudgetExceeded:
        what = f"{used:.0f} {name} are used, and the budget is {self.allowed(name):g} for {self._blocks} block(s)"
        return BudgetExceeded(what, where=self._plan.source, todo="raise 'budget' in the plan if you mean it")

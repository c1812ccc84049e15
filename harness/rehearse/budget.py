"""The plan's budget, for each block of arms: minutes and mails (exit 9). ``pods_killed`` is a guard of the faults' own."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.errors import BudgetExceeded
from harness.model.plan import Plan


class Allowance:
    """What a run may spend: its plan's budget times its blocks. Asked before each arm, so an arm that has begun is never cut short.

    :param clock: monotonic seconds.
    """

    def __init__(self, plan: Plan, blocks: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._blocks, self._clock, self._begin = plan, blocks, clock, clock()
        self.mails = 0.0

    def spend(self, mails: float) -> None:
        """So many mails were offered."""
        self.mails += mails

    def check(self) -> None:
        """:raises BudgetExceeded: minutes or mails are used up."""
        for name, used in (("minutes", (self._clock() - self._begin) / 60), ("mails", self.mails)):
            allowed = self._plan.budget.get(name, float("inf")) * self._blocks
            if used >= allowed:
                what = f"{used:.0f} {name} are used, and the budget is {allowed:g} for {self._blocks} block(s)"
                raise BudgetExceeded(what, where=self._plan.source, todo="raise 'budget' in the plan if you mean it")

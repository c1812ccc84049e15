"""The open loop: call something at seeded due times, whether the system under test keeps up or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from harness.support.clock import now_ns

AT_ONCE_MAX = 500  #: due times served in one turn of the loop before others get theirs


class Pacer:
    """Calls ``act(index, due_ns)`` for each due time; late ones are made up for, never dropped.

    :param offsets: seconds from ``start``, not decreasing.
    :param late: told how many nanoseconds late each call was.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, offsets: Iterator[float], act: Callable[[int, int], None], late: Callable[[int], None]
    ) -> None:
        self._loop, self._offsets, self._act, self._late = loop, offsets, act, late
        self._start_ns = self._due_ns = self.index = 0
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.ended = False

    def start(self, at_ns: int) -> None:
        """Begin; offsets count from ``at_ns`` on the run's clock."""
        self._start_ns = at_ns
        if self._next():
            self._arm()

    def stop(self) -> None:
        """No more calls."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> bool:
        offset = next(self._offsets, None)
        if offset is None:
            self.ended = True
            return False
        self._due_ns = self._start_ns + int(offset * 1e9)
        return True

    def _arm(self) -> None:
        self._timer = self._loop.call_later(max(self._due_ns - now_ns(), 0) / 1e9, self._fire)

    def _fire(self) -> None:
        for _ in range(AT_ONCE_MAX):
            now = now_ns()
            if self._due_ns > now or self.ended:
                break
            self._late(now - self._due_ns)
            self._act(self.index, self._due_ns)
            self.index += 1
            if not self._next():
                return
        if not self.ended:
            self._arm()

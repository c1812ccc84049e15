"""The deadlines of all connections of a loop, looked at together: one timer for all of them, and setting a deadline is one store.

A timer of the loop for each connection costs more than a connection's dialogue may. Limit: a deadline is noticed up to
``LOOK_EVERY_S`` late; that many connections are looked at this often (10,000 of them: about 1 ms).
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

LOOK_EVERY_S = 0.1


class Bound(Protocol):
    """Something with a deadline: ``due`` on the monotonic clock, 0 = none."""

    due: float

    def fires(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """Those of one loop. See :meth:`of`."""

    __slots__ = ("__weakref__", "_bound", "_timer")
    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._bound: set[Bound] = set()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Deadlines:
        """The loop's."""
        made = cls._all.get(loop)
        if made is None:
            made = cls._all[loop] = cls()
        return made

    def add(self, one: Bound, loop: asyncio.AbstractEventLoop) -> None:
        """Look at ``one`` from now on."""
        self._bound.add(one)
        if self._timer is None:
            self._timer = loop.call_later(LOOK_EVERY_S, self._look, loop)

    def discard(self, one: Bound) -> None:
        """No more; no error when it was not looked at."""
        self._bound.discard(one)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        self._timer = loop.call_later(LOOK_EVERY_S, self._look, loop) if self._bound else None
        for one in [b for b in self._bound if 0 < b.due <= now]:
            one.fires()

"""The deadlines of all connections of a loop, looked at together: one timer for all of them, and setting a deadline is one store.

A timer of the loop for each connection costs more than a connection's dialogue may. Limit: a deadline is noticed up to
``LOOK_EVERY_S`` late; that many connections are looked at this often (10,000 of them: about 1 ms).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

LOOK_EVERY_S = 0.1
T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each loop, for as long as the loop lives. The loop asked for last is found without the dictionary."""

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._recent: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None
        self._made: T | None = None

    def get(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """The loop's, None before it was put."""
        if self._recent() is not loop:
            self._recent, self._made = ref(loop), self._all.get(loop)
        return self._made

    def put(self, loop: asyncio.AbstractEventLoop, made: T) -> T:
        """Keep ``made`` for ``loop``."""
        self._all[loop] = self._made = made
        self._recent = ref(loop)
        return made


class Bound(Protocol):
    """Something with a deadline: ``due`` on the monotonic clock, 0 = none."""

    due: float

    def fires(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """Those of one loop. See :meth:`of`."""

    __slots__ = ("__weakref__", "_bound", "_timer")
    _all: ClassVar[PerLoop[Deadlines]] = PerLoop()

    def __init__(self) -> None:
        self._bound: set[Bound] = set()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Deadlines:
        """The loop's."""
        return cls._all.get(loop) or cls._all.put(loop, cls())

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

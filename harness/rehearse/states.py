"""What the engines of an arm's load say of themselves while it runs, followed in their logs and put together as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.chaos.tail import Tail

KINDS = frozenset({"load_state", "load_end"})
#: Of several engines the greatest and the least count; everything else that is a number is added up.
_GREATEST = frozenset({"lag_p99_ms", "lag_max_ms", "awaited_oldest_s"})
_LEAST = frozenset({"backlog_min"})
_NO_COUNT = frozenset({"t", "engine"})


class States:
    """Follows ``load-<n>.log`` of one arm, also those that appear later.

    :param arm_dir: the arm's directory.
    """

    def __init__(self, arm_dir: Path) -> None:
        self._dir, self._tails, self._last = arm_dir, dict[Path, Tail](), dict[Path, dict[str, Any]]()

    def look(self) -> dict[str, Any]:
        """Read what is new; the state of all engines together, {} before the first.

        :raises StoreDamaged: a log does not read.
        """
        for _ in self.news():
            pass
        return self.total

    def news(self) -> Iterator[dict[str, Any]]:
        """New events of every engine. Raises as :meth:`look` does."""
        for path in sorted(self._dir.glob("load-*.log")):
            for event in self._tails.setdefault(path, Tail(path)).events():
                if event["kind"] in KINDS:
                    self._last[path] = event
                yield event

    @property
    def total(self) -> dict[str, Any]:
        """The state as of the last look."""
        return joined(self._last.values())


def joined(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """States of several engines as one: counters added up, ages and lags the greatest, the smallest backlog the least."""
    total: dict[str, Any] = {}
    for state in states:
        for name, value in state.items():
            if name in _NO_COUNT or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            total[name] = _together(name, total[name], value) if name in total else value
    return total


def _together(name: str, one: float, other: float) -> float:
    if name in _GREATEST:
        return max(one, other)
    return min(one, other) if name in _LEAST else one + other

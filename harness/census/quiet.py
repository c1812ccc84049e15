"""Waiting until nothing moves any more: queues empty and stable, or as good as it gets by the deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.census.queue_reader import MOVING, places
from harness.census.spec import CensusSpec
from harness.errors import MailgaleError, NotReady
from harness.support.clock import now_ns, wait_for


@dataclass(frozen=True)
class Quiet:
    """How the wait ended.

    :param quiet: every moving queue (incoming, active, deferred) was empty for the whole stable time.
    :param counts: queue files left by place and queue, those that are 0 left out.
    :param waited_s: how long it took.
    :param errors: places that could not be read, at the last look.
    """

    quiet: bool
    counts: Mapping[str, Mapping[str, int]]
    waited_s: float
    errors: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """Queue files that still move."""
        return sum(n for queues in self.counts.values() for q, n in queues.items() if q in MOVING)


def wait_for_quiet(
    spec: CensusSpec, *, deadline_s: float, stable_s: float = 3.0, every_s: float = 1.0, on_look: Callable[[Quiet], None] | None = None
) -> Quiet:
    """Wait until all queues are empty and stay so for ``stable_s`` seconds, ``deadline_s`` seconds at most.

    :param on_look: called after each look, for progress.
    :returns: never raises for a queue that does not empty or cannot be read; the answer says so.
    """
    begin = now_ns()
    state = _State(spec, begin, stable_s, on_look)
    try:
        wait_for(state.look, deadline_s=deadline_s, what="the queues to empty", every_s=every_s)
    except NotReady:
        state.look()
    return state.last


class _State:
    def __init__(self, spec: CensusSpec, begin: int, stable_s: float, on_look: Callable[[Quiet], None] | None) -> None:
        self.spec, self.begin, self.stable_ns, self.on_look = spec, begin, int(stable_s * 1e9), on_look
        self.empty_since: int | None = None
        self.last = Quiet(False, {}, 0.0)

    def look(self) -> Quiet | None:
        """The answer once the queues have been empty for long enough, else None."""
        counts, errors = count(self.spec)
        now = now_ns()
        seen = Quiet(False, counts, (now - self.begin) / 1e9, errors)
        if seen.left or errors:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = now
        quiet = self.empty_since is not None and now - self.empty_since >= self.stable_ns
        self.last = Quiet(quiet, counts, seen.waited_s, errors)
        if self.on_look is not None:
            self.on_look(self.last)
        return self.last if quiet else None


def count(spec: CensusSpec) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Queue files by place and queue (those above 0), and what could not be read."""
    counts: dict[str, dict[str, int]] = {}
    errors: list[str] = []
    try:
        found = places(spec)
    except (OSError, MailgaleError) as error:
        return {}, (str(error),)
    for place in found:
        try:
            here = {q: n for q, n in place.counts().items() if n}
        except (OSError, MailgaleError) as error:
            errors.append(f"{place.name}: {error}")
            continue
        if here:
            counts[place.name] = here
    return counts, tuple(errors)

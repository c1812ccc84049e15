"""Brings what the members of a load in the cluster write into the arm's directory, while they write it.

Every half second each keeper is asked through the API server for what has grown, from the octet where this side's copy ends; so a broken
connection, a restarted keeper or an API server that is away for a while cost nothing. At the end everything is asked for until all is here.
A log is appended to in the order it was written, so whoever follows it (faults, live view) sees what they would see of a local load.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NotReady
from harness.kube.api import ApiFailed
from harness.support.clock import boot_id, now_ns, wait_for

EVERY_S = 0.5
_ASK_S = 10.0
_PARALLEL = 8
#: Asked so many times, the exchange that was quickest tells most.
_CLOCK_LOOKS = 8
#: What is taken over: logs while they grow, everything at the end.
_LIVE = "load-*.log"


#: GET of a path from a keeper, with a time limit in seconds, e.g. by ``kube.client.Cluster.proxy_get``. Raises ApiFailed when it does not answer.
Ask = Callable[[str, str, float], bytes]


@dataclass(frozen=True)
class Clock:
    """What a member's clock is to the run's.

    :param offset_ns: so much it is ahead; 0 on the same kernel.
    :param within_ns: the truth lies no further away than this: half of the quickest exchange.
    """

    offset_ns: int
    within_ns: int


class Collector:
    """Copies from ``keepers`` into ``into`` in a thread of its own, from :meth:`start` to :meth:`finish`.

    :param ask: how a keeper is asked.
    """

    def __init__(self, keepers: Sequence[str], ask: Ask, into: Path) -> None:
        self.keepers, self._ask, self._into = tuple(keepers), ask, into
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="collect the load's record", daemon=True)
        self.failed: OSError | None = None  #: this side could not write
        self.misses = 0  #: looks that a keeper did not answer

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self, deadline_s: float, revive: Callable[[str], None] = lambda keeper: None) -> list[str]:
        """Stop following and take over all that is left; sentences about what could not be had.

        :param revive: called for a keeper that does not answer, before it is asked again.
        :raises OSError: this side could not write.
        """
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_ASK_S * 2)
        if self.failed is not None:
            raise self.failed
        return [problem for keeper in self.keepers if (problem := self._rest(keeper, deadline_s, revive))]

    def clock(self, keeper: str) -> Clock:
        """Compare a keeper's clock with this host's.

        :raises ApiFailed: it does not answer.
        """
        best: tuple[int, int] | None = None
        for _ in range(_CLOCK_LOOKS):
            before = now_ns()
            answer = json.loads(self._ask(keeper, "/clock", _ASK_S))
            took = now_ns() - before
            if answer["boot"] and answer["boot"] == boot_id():
                return Clock(0, 0)
            if best is None or took < best[0]:
                best = took, int(answer["monotonic_ns"]) - before - took // 2
        assert best is not None
        return Clock(best[1], best[0] // 2 + 1)

    def _follow(self) -> None:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            while not self._stopped.wait(EVERY_S):
                list(pool.map(self._look, self.keepers))

    def _look(self, keeper: str) -> None:
        try:
            self._take(keeper, live=True)
        except (ApiFailed, ValueError):
            self.misses += 1
        except OSError as error:
            self.failed = error
            self._stopped.set()

    def _rest(self, keeper: str, deadline_s: float, revive: Callable[[str], None]) -> str:
        last = ""

        def all_here() -> bool:
            nonlocal last
            try:
                return self._take(keeper, live=False)
            except (ApiFailed, ValueError) as error:
                last = str(error)
                revive(keeper)
                return False

        try:
            wait_for(all_here, deadline_s=deadline_s, what="the record", every_s=0.5)
        except NotReady:
            return f"the record of {keeper} could not be taken over to its end: {last or 'it still grows'}"
        return ""

    def _take(self, keeper: str, *, live: bool) -> bool:
        """Copy what has grown; whether all of it is here."""
        files = json.loads(self._ask(keeper, "/files", _ASK_S))
        wanted = {name: int(size) for name, size in files.items() if _plain(name) and (not live or Path(name).match(_LIVE))}
        return not [name for name, size in wanted.items() if self._grow(keeper, name, size)]

    def _grow(self, keeper: str, name: str, size: int) -> bool:
        """Copy one file up to ``size``; whether octets of it are still missing."""
        path, only_grows = self._into / name, live_file(name)
        here = path.stat().st_size if only_grows and path.exists() else 0
        if only_grows and path.exists() and here >= size:
            return False
        with path.open("ab" if only_grows else "wb") as copy:
            while here < size and (piece := self._ask(keeper, f"/file/{name}/{here}", _ASK_S)):
                copy.write(piece)
                here += len(piece)
        return here < size


def live_file(name: str) -> bool:
    """Whether a file only ever grows; the others (Locust's CSV) are written anew, so they are taken over when all has ended."""
    return Path(name).match(_LIVE)


def _plain(name: str) -> bool:
    return bool(name) and Path(name).name == name and not name.startswith(".")

"""Look-ups from inside the pods while the load runs: ``python -m harness.dns.lookups SPEC.json`` writes ``lookups.log``.

A thread for each pod enters the pod's network and asks the pod's own nameserver, open loop, one UDP query a look-up, TCP after
truncation, no retry: what a stub resolver would hide by asking again shows as a failure here. Names are drawn by Zipf's law from the zone
of the load's domains, as TXT, a type that nothing else asks for there: so its queries can be told from mail's in every counter.
Limits: the resolver library is not the pod's (dnspython; no search list, no cache); kind only, since nodes must be containers here.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode

from harness.dns.netns import inside
from harness.errors import MailgaleError, UsageError
from harness.model.zipf import Zipf, domain
from harness.store.log import LogWriter
from harness.support.clock import now_ns

LOG = "lookups.log"
TYPE = "TXT"
TIMEOUT_S = 5.0
_RATE_MAX = 200.0


@dataclass(frozen=True)
class Asker:
    """One pod that asks: the file of its network namespace, and its nameserver."""

    pod: str
    namespace: str
    server: str


@dataclass(frozen=True)
class LookupSpec:
    """One prober's orders.

    :param rate_per_s: look-ups of each pod. :param domains: how many names; :param exponent: of Zipf's law.
    """

    arm_dir: str
    seed: int
    askers: tuple[Asker, ...]
    rate_per_s: float = 4.0
    domains: int = 200
    exponent: float = 1.0

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> LookupSpec:
        """Back from JSON.

        :raises UsageError: not readable, a key unknown or missing, a rate that cannot be.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            made = cls(**{**data, "askers": tuple(Asker(**a) for a in data["askers"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"no usable spec: {error}", where=str(path)) from error
        if not 0 < made.rate_per_s <= _RATE_MAX:
            raise UsageError(f"{made.rate_per_s:g} look-ups a second; above 0, up to {_RATE_MAX:g}", where=str(path))
        return made


@dataclass(frozen=True)
class Looked:
    """One look-up: how long, how it ended (an rcode, ``timeout``, or the error's name), and whether TCP was needed."""

    ms: float
    outcome: str
    tcp: bool


async def look_up(name: str, kind: str, server: str, *, timeout_s: float = TIMEOUT_S) -> Looked:
    """Ask ``server`` once. What goes wrong is the outcome, never an exception."""
    begin = now_ns()
    try:
        reply, tcp = await dns.asyncquery.udp_with_fallback(dns.message.make_query(name, kind), server, timeout=timeout_s, ignore_unexpected=True)
        outcome = dns.rcode.to_text(reply.rcode())
    except dns.exception.Timeout:
        outcome, tcp = "timeout", False
    except (OSError, EOFError, dns.exception.DNSException) as error:
        outcome, tcp = type(error).__name__, False
    return Looked(round((now_ns() - begin) / 1e6, 3), outcome, tcp)


class Prober:
    """Every asker in a thread of its own, one log."""

    def __init__(self, spec: LookupSpec) -> None:
        self._spec, self._zipf = spec, Zipf(spec.domains, spec.exponent)
        self._log, self._lock = LogWriter(Path(spec.arm_dir) / LOG, "lookups"), threading.Lock()

    def run(self, stop: threading.Event) -> list[str]:
        """Ask until ``stop`` is set; why an asker could not."""
        failed: list[str] = []
        threads = [threading.Thread(target=self._guarded, args=(a, stop, failed), name=f"look-ups {a.pod}") for a in self._spec.askers]
        for one in threads:
            one.start()
        while not stop.wait(1.0):
            with self._lock:
                self._log.flush()
        for one in threads:
            one.join()
        self._log.close()
        return failed

    def _guarded(self, asker: Asker, stop: threading.Event, failed: list[str]) -> None:
        try:
            inside(Path(asker.namespace), lambda: asyncio.run(self._ask(asker, stop)))
        except (MailgaleError, OSError) as error:
            failed.append(f"{asker.pod}: {error}")
            self._event("incident", what=f"no look-ups: {error}", where=asker.pod)

    async def _ask(self, asker: Asker, stop: threading.Event) -> None:
        draw, loop = random.Random(f"lookups/{self._spec.seed}/{asker.pod}"), asyncio.get_running_loop()
        open_ = set[asyncio.Task[None]]()
        due = loop.time()
        while not stop.is_set():
            task = loop.create_task(self._one(asker, domain(self._zipf.rank(draw.random()))))
            open_.add(task)
            task.add_done_callback(open_.discard)
            due += 1 / self._spec.rate_per_s
            await asyncio.sleep(max(0.0, due - loop.time()))
        if open_:
            await asyncio.wait(open_, timeout=TIMEOUT_S + 1)

    async def _one(self, asker: Asker, name: str) -> None:
        found = await look_up(f"{name}.", TYPE, asker.server)
        self._event("lookup", pod=asker.pod, server=asker.server, name=name, **asdict(found))

    def _event(self, kind: str, **fields: Any) -> None:
        with self._lock:
            self._log.event(kind, **fields)


def repeated(asker: Asker, name: str, kind: str, times: int) -> int:
    """Ask the asker's nameserver the same ``times`` times, one after the other; how many were answered.

    :raises NotReady: its network cannot be entered.
    """

    async def ask() -> int:
        return sum([(await look_up(name, kind, asker.server)).outcome in ("NOERROR", "NXDOMAIN") for _ in range(times)])

    return inside(Path(asker.namespace), lambda: asyncio.run(ask()))


def main(argv: Sequence[str]) -> int:
    """Run one prober until SIGTERM or SIGINT; 0 when every asker could ask."""
    stop = threading.Event()

    def told(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    failed = Prober(LookupSpec.read(Path(argv[0]))).run(stop)
    sys.stderr.writelines(f"{line}\n" for line in failed)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

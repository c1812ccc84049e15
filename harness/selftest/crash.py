"""The crash test: the harness is struck at every step of a run with faults active; ``recover`` must bring everything back within a minute.

A run directory, the conductor's own pieces in a process (``crash_child``), a load that sends to a platform on loopback, and two faults that
overlap: a node cordoned for the whole time, the workload scaled meanwhile. The driver follows ``faults.log``; when the step is on record it
strikes, waits for what is left of the run to end, undoes as ``mailgale recover`` does, and looks: the workload and the nodes are as
before, nothing is pending, and every mail that the platform took is in the ledger.

Limits: a strike comes a few milliseconds after its step (``tests/servers/test_crash_points.py`` strikes at every record exactly). The API is
taken away by cutting a proxy on loopback, a full disk is a tmpfs, so it needs root.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from harness.chaos.tail import Tail
from harness.chaos.undo import pending
from harness.errors import CleanupIncomplete, MailgaleError, NotReady, NotSupported
from harness.model.plan import Arm, FaultSpec, LoadSpec, NodeFaults, Plan
from harness.model.target import Target
from harness.rehearse.leftovers import undo_faults, writers
from harness.selftest.cut import Proxy
from harness.selftest.platform import Platform
from harness.selftest.table import Row
from harness.store.ops import BLOCK_TYPES, INVOKE
from harness.store.reader import Directory, Rows, read_log
from harness.store.run import RunDir
from harness.support.clock import wait_for
from harness.support.progress import Progress, SilentProgress

WAYS = ("INT", "TERM", "KILL", "all killed", "API gone", "disk full")
STEPS = ("armed", "triggered", "begin", "evidence", "end", "undone")
RECOVERED_S = 60.0
_ENDED_S, _STEP_S, _DISK = 90.0, 60.0, "40m"
_TRACE = re.compile(rb"X-Mailgale-Trace: \S+\.(\d+)\r")


@dataclass(frozen=True)
class Ground:
    """Where the faults strike.

    :param owner: the run id on the namespace's labels.
    :param faults: the last one is followed step by step; the others are active meanwhile.
    :param changed: what is not as it was before the run, a line each.
    """

    target: Target
    namespace: str
    owner: str
    faults: tuple[FaultSpec, ...]
    changed: Callable[[], Sequence[str]]


def crash_rows(ground: Ground, progress: Progress, *, cases: Sequence[tuple[str, str]] = ()) -> Iterator[Row]:
    """One line a case: a way to strike and a step.

    :param cases: these instead of all. :raises MailgaleError: the ground is not whole before a strike.
    """
    chosen = cases or [(way, step) for step in STEPS for way in WAYS]
    with progress.stage(f"{len(chosen)} crashes"):
        for way, step in chosen:
            progress.waiting(f"{way} at '{step}'")
            yield _row(ground, way, step)


def _row(ground: Ground, way: str, step: str) -> Row:
    begin = time.monotonic()
    before = ground.changed()
    if before:
        raise NotReady(f"the ground of the crash test is not whole: {'; '.join(before)}", where=ground.namespace)
    try:
        wrong, reason = _Case(ground, way, step).run()
        seen = "left" if wrong else "restored"
    except NotSupported as lacking:
        wrong, reason, seen = [], f"not supported here: {lacking}", "not supported here"
    return Row("crash", f"{way} at '{step}'", "the harness struck with faults active", "recover", "restored", seen, not wrong, "; ".join(wrong) or reason,
               round(time.monotonic() - begin, 1))


class _Case:
    """One run, struck once."""

    def __init__(self, ground: Ground, way: str, step: str) -> None:
        self.ground, self.way, self.step = ground, way, step

    def run(self) -> tuple[list[str], str]:
        """(what is wrong, what happened).

        :raises NotSupported: this way to strike is not possible here.
        """
        with ExitStack() as scopes:
            root = Path(scopes.enter_context(tempfile.TemporaryDirectory(prefix="mailgale-crash-")))
            disk = scopes.enter_context(_small_disk(root)) if self.way == "disk full" else root
            proxy = scopes.enter_context(Proxy(self.ground.target, root)) if self.way == "API gone" else None
            platform = scopes.enter_context(Platform())
            run = RunDir.create(disk, _plan(self.ground.faults), {}, arms=[(1, "a")], plan_bytes=b"# crash test\n")
            child = scopes.enter_context(self._conductor(run, root, proxy.target if proxy else self.ground.target, platform.smtp))
            self._reached(run, child)
            self._strike(run, child, proxy, disk)
            took, undone = self._recovered(run, child, proxy)
            wrong = [*self._wrong(run, platform), *([f"it took {took:.0f} s"] if took > RECOVERED_S else [])]
        return wrong, f"{took:.1f} s; {len(undone)} undone by recover, the conductor ended with {child.returncode}"

    @contextmanager
    def _conductor(self, run: RunDir, root: Path, target: Target, smtp: int) -> Iterator[subprocess.Popen[bytes]]:
        secrets, spec = root / "secrets", root / "crash.json"
        secrets.mkdir(mode=0o700)
        said = {"run": str(run.path), "target": asdict(target), "namespace": self.ground.namespace, "owner": self.ground.owner}
        spec.write_text(json.dumps({**said, "secrets": str(secrets), "smtp": smtp}))
        with (root / "child.out").open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "harness.selftest.crash_child", str(spec)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield child
        finally:
            for pid in (child.pid, *writers(run)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.wait()

    def _reached(self, run: RunDir, child: subprocess.Popen[bytes]) -> None:
        """Wait until the followed fault's step is on record, with the others active."""
        name, tail, seen = self.ground.faults[-1].name, Tail(run.arm(1, "a").path / "faults.log"), set[tuple[str, str]]()
        others = {(f.name, "evidence") for f in self.ground.faults[:-1]} if self.step not in STEPS[:2] else set()

        def there() -> bool:
            seen.update((str(e["name"]), str(e["edge"])) for e in tail.events() if e["kind"] == "fault")
            if child.poll() is not None:
                raise NotReady(f"the conductor ended with {child.returncode} before '{self.step}'", where=str(run.path))
            return (name, self.step) in seen and others <= seen

        wait_for(there, deadline_s=_STEP_S, what=f"the step '{self.step}'", every_s=0.01)

    def _strike(self, run: RunDir, child: subprocess.Popen[bytes], proxy: Proxy | None, disk: Path) -> None:
        if proxy is not None:
            proxy.cut()
        if self.way == "disk full":
            _fill(disk)
        if self.way == "all killed":
            for pid in writers(run):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        kill = {"INT": signal.SIGINT, "KILL": signal.SIGKILL, "all killed": signal.SIGKILL}.get(self.way, signal.SIGTERM)
        with suppress(ProcessLookupError):
            child.send_signal(kill)
        child.wait(_ENDED_S)

    def _recovered(self, run: RunDir, child: subprocess.Popen[bytes], proxy: Proxy | None) -> tuple[float, list[str]]:
        """(seconds that recovering took, what it undid). What it cannot undo shows in :meth:`_wrong`."""
        if proxy is not None:
            proxy.mend()
        begin, undone = time.monotonic(), list[str]()
        with suppress(CleanupIncomplete):
            undone = undo_faults(run, self.ground.target, SilentProgress())
        took = time.monotonic() - begin
        filler = run.path.parent / "filler"
        if filler.exists():  # what could not be noted as undone is tried again
            filler.unlink()
            undone += undo_faults(run, self.ground.target, SilentProgress())
        return took, undone

    def _wrong(self, run: RunDir, platform: Platform) -> list[str]:
        arm = run.arm(1, "a").path
        left = [f"pending: {a.entry}" for a in pending(arm)]
        taken = {int(m[1]) for raw in platform.boxes.everything() if (m := _TRACE.search(raw))}
        missing = sorted(taken - _invoked(arm / "load-1.log"))
        return [*left, *self.ground.changed(), *([f"{len(missing)} mails were taken that the ledger does not know, mail {missing[0]} the first"] if missing else [])]


def _invoked(path: Path) -> set[int]:
    """Numbers of all mails that the ledger says were begun."""
    kind, found = next(n for n, dtype in BLOCK_TYPES.items() if dtype == INVOKE), set[int]()

    def add(block: int, rows: Rows) -> None:
        if block == kind:
            found.update(np.unique(rows["mail"]).tolist())

    if path.exists():
        read_log(path, Directory(), add, io.BytesIO())
    return found


def _plan(faults: tuple[FaultSpec, ...]) -> Plan:
    params = {"steady_rate_per_s": 40, "steady_arrivals": "constant", "probe_users": 0, "recipients_max": 1, "ipv6_share": 0}
    return Plan(
        name="crash", title="Crash test", question="Is everything brought back?", claims=(), profile="none", topology="single", seed=5, time_scale=10,
        users=20, load=LoadSpec("mx", params, 60, 10), arms=(Arm("a", ()),), checks=(), faults=faults, budget={"pods_killed": 2}, node_faults=NodeFaults(max=1),
        experiment={"title": "crash test", "description": "faults on a small stack", "method": [], "version": "1.0.0"}, source="crash test",
    )


def after(fault: FaultSpec, at_s: float) -> FaultSpec:
    """``fault``, triggered ``at_s`` seconds into the load."""
    return replace(fault, when={"at_s": at_s})


@contextmanager
def _small_disk(root: Path) -> Iterator[Path]:
    """A file system of its own.

    :raises NotSupported: it cannot be mounted.
    """
    path = root / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "mailgale-crash", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotSupported(f"mounting a tmpfs: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def _fill(disk: Path) -> None:
    """Leave nothing, though the run goes on writing meanwhile: what was free a moment ago need not be free now."""
    handle = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while os.write(handle, bytes(size)):
                    pass
    finally:
        os.close(handle)
    if (left := os.statvfs(disk).f_bavail) > 16:  # the run may have given some back
        raise MailgaleError(f"the disk could not be filled: {left} blocks are free", where=str(disk))

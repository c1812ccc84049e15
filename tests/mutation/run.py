"""Tries mutants inside of one pytest session: a fork for each, with everything loaded, that runs the tests which come to the changed line."""

from __future__ import annotations

import ast
import importlib
import json
import os
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.mutation.inplace import CannotSwapError, swap
from tests.mutation.lines import Lines, Tracer, fingerprint
from tests.mutation.mutants import Mutant
from tests.mutation.plan import MODULES

ROOT = Path(__file__).resolve().parents[2]
#: A mutant that makes its tests use so much more CPU time than they need is killed by that; likewise one that waits for so long without using any.
CPU_TIMES, CPU_LEAST_S, HANG_S = 10, 10, 60
#: CPU seconds for measuring what every test comes to.
MEASURE_S = 3600
UNCOVERED = "no test comes there"


@dataclass(frozen=True)
class Tried:
    """How one mutant ended: ``killed``, ``timeout`` (killed as well) or ``survived``. ``by``: the test that failed, or why none could."""

    mutant: Mutant
    how: str
    by: str
    cpu_s: float


class Session:
    """The plugin: takes the place of pytest's own loop over the tests."""

    def __init__(self, work: Callable[[Session], None], kept: Path | None) -> None:
        self._work, self._kept = work, kept / "lines.json" if kept else None
        self.items: dict[str, pytest.Item] = {}
        self.lines = Lines()
        self._killers: Counter[tuple[str, str]] = Counter()
        self._out: int | None = None
        self.ended = False

    def pytest_sessionstart(self) -> None:
        """No shrinking: that a mutant fails is enough. No examples of earlier mutants either."""
        from hypothesis import Phase, settings

        settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], database=None, deadline=None)
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measure, then work."""
        if session.testsfailed:
            raise pytest.UsageError("the tests cannot be collected")
        self.items = {i.nodeid: i for i in session.items}
        self._measure()
        self._work(self)
        self.ended = True
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a fork: the first failure ends it."""
        if self._out is not None and report.failed:
            os.write(self._out, report.nodeid.encode())
            os._exit(1)

    def _measure(self) -> None:
        """What each test comes to; those that are known and unchanged are not run again. Fails where a test does, or where one does
        with every module swapped for itself: then no kill by a swap could be believed."""
        below = fingerprint([*(ROOT / p for p in MODULES), ROOT / "tests/mutation/plan.py"])
        of_file = {i.path: f"{below}-{fingerprint([i.path])}" for i in self.items.values()}
        keys = {name: of_file[i.path] for name, i in self.items.items()}
        kept = Lines.read(self._kept) if self._kept else Lines()
        kept.forget(keys)
        todo = [t for t in self.items if t not in kept.key]
        print(f"{len(self.items)} tests, {len(todo)} of them to be measured", flush=True)
        how, said, _ = self._fork(lambda: self._trace(todo), MEASURE_S)
        if how != "survived":
            raise pytest.UsageError(f"the tests fail without any change: {said}")
        for test, cpu_s, lines in map(json.loads, said.splitlines()):
            kept.note(test, keys[test], cpu_s, lines)
        how, said, _ = self._fork(lambda: self._unchanged(todo), MEASURE_S)
        if how != "survived":
            raise pytest.UsageError(f"a module that was swapped for itself does not pass its tests: {said}")
        if self._kept:
            kept.write(self._kept)
        self.lines = kept

    def _trace(self, tests: Sequence[str]) -> None:
        tracer, found = Tracer(ROOT, MODULES), []
        for name, following in _with_next([self.items[t] for t in tests]):
            begin = tracer.begin()
            _run(name, following)
            found.append(json.dumps([name.nodeid, *tracer.end(begin)]))
        assert self._out is not None
        with os.fdopen(self._out, "w") as out:
            out.write("\n".join(found))

    def _unchanged(self, tests: Sequence[str]) -> None:
        for path in MODULES:
            swap(_module(path), _compiled(path), constants=True)
        for item, following in _with_next([self.items[t] for t in tests]):
            _run(item, following)

    def attempt(self, mutant: Mutant) -> Tried:
        """Try one mutant with the tests that come to it, those first that are quick, special and have killed others of its module."""
        tests = sorted(self.lines.of(mutant), key=lambda t: self.lines.price(t) / (1 + 4 * self._killers[mutant.path, t]))
        if not tests:
            return Tried(mutant, "survived", UNCOVERED, 0.0)
        try:
            code = _compiled(mutant.path, mutant.tree((ROOT / mutant.path).read_text()))
        except (ValueError, SyntaxError) as why:
            return Tried(mutant, "killed", f"does not compile: {why}", 0.0)
        how, by, cpu_s = self._changed(mutant.path, code, tests, constants=not mutant.inside)
        self._killers[mutant.path, by] += how == "killed"
        return Tried(mutant, how, by, cpu_s)

    def _changed(self, path: str, code: CodeType, tests: Sequence[str], *, constants: bool) -> tuple[str, str, float]:
        module = _module(path)

        def work() -> None:
            try:
                swap(module, code, constants=constants)
            except CannotSwapError as why:
                self._say(f"cannot be swapped: {why}")
            except Exception as why:  # noqa: BLE001 - whatever a mutant does when it is imported
                self._say(f"cannot be imported: {why!r}")
            for item, following in _with_next([self.items[t] for t in tests]):
                _run(item, following)

        return self._fork(work, max(CPU_LEAST_S, CPU_TIMES * sum(self.lines.cpu_s[t] for t in tests)))

    def _say(self, what: str) -> None:
        assert self._out is not None
        os.write(self._out, what.encode())
        os._exit(1)

    def _fork(self, work: Callable[[], None], cpu_s: float) -> tuple[str, str, float]:
        """(how it ended, what it wrote, CPU seconds) of ``work`` in a process of its own."""
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="mailgale-mutant-", dir=shm, ignore_cleanup_errors=True) as near, tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                self._out = said.fileno()
                self._child(work, Path(near), cpu_s)
            code, used = _wait(pid)
            said.seek(0)
            how = "survived" if code == 0 else "killed" if code == 1 else "timeout"
            return how, said.read().decode(errors="replace"), used

    def _child(self, work: Callable[[], None], near: Path, cpu_s: float) -> None:
        """Never returns."""
        _settle(near, cpu_s)
        try:
            work()
            os._exit(0)
        except BaseException as why:  # noqa: BLE001 - nothing of a fork may come back into the parent's loop
            self._say(repr(why))


def _module(path: str) -> ModuleType:
    return importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))


def _compiled(path: str, tree: ast.Module | None = None) -> CodeType:
    return compile(tree or (ROOT / path).read_text(), str(ROOT / path), "exec")


def _settle(near: Path, cpu_s: float) -> None:
    """In the fork: a process group and a temporary directory of its own, no output, a limit."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.environ["TMPDIR"] = tempfile.tempdir = str(near)
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 2))


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _with_next(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    yield from zip(items, [*items[1:], None], strict=False)


def _wait(pid: int) -> tuple[int, float]:
    """(exit code or negative signal, CPU seconds); one that neither ends nor uses the CPU is killed."""
    used, since = -1.0, time.monotonic()
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        now = _group_cpu(pid)
        if now != used:
            used, since = now, time.monotonic()
        elif time.monotonic() - since > HANG_S:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)


def _group_cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return -2.0
    return sum(map(int, fields[11:15]))


def run_session(files: Sequence[str], work: Callable[[Session], None], kept: Path | None) -> bool:
    """Collect ``files``, then ``work``. Whether it came to its end."""
    plugin = Session(work, kept)
    args = ["-q", "-s", "-p", "no:cacheprovider", "--no-header", "-m", "not cluster", "--timeout", "0", "--strict-markers"]
    pytest.main([*args, *files], plugins=[plugin])
    return plugin.ended

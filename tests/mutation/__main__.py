"""The driver; see the package. Exit 0 when at least ``--goal`` of the mutants tried were killed and the tests pass without any, else 1."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.plan import MODULES

ROOT = Path(__file__).resolve().parents[2]
#: A mutant that makes its tests run so much longer is killed by that.
TRY_S = 120
#: What every test of the plan imports: loaded once, before the forks. Nothing of the harness may be among it.
WARM = ("duckdb", "numpy", "pydantic", "yaml", "kubernetes.client", "jinja2")


@dataclass(frozen=True)
class Tried:
    """How one mutant ended: ``killed``, ``survived``, or ``timeout`` (killed as well)."""

    mutant: Mutant
    how: str
    cpu_s: float


class _InMemory:
    """Gives one module with a changed source to the import system."""

    def __init__(self, path: str, source: str) -> None:
        self.name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.path, self.source = ROOT / path, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        inside = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, self.path, loader=self, submodule_search_locations=inside)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self.source, str(self.path), "exec"), vars(module))


def any_fails(tests: Sequence[str], path: str = "", source: str = "", limit_s: float = TRY_S) -> tuple[bool, str, float]:
    """(whether one of ``tests`` fails, how it ended, CPU seconds) in a process of its own, the module at ``path`` being ``source`` there."""
    before, pid = _children_s(), os.fork()
    if pid == 0:
        os.setsid()
        _be_quiet()
        if path:
            sys.meta_path.insert(0, _InMemory(path, source))  # type: ignore[arg-type]
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-m", "not cluster", "--timeout", "60", *tests])
        os._exit(int(code))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code != 0, "killed" if code else "survived", _children_s() - before
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True, "timeout", _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _be_quiet() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def drawn(paths: Sequence[str], sample: int, seed: int) -> list[Mutant]:
    """``sample`` of all mutants (0: all), by the seed, in a random order: a run that is cut short is a sample as well."""
    every = [m for path in paths for m in mutants(path, (ROOT / path).read_text())]
    chosen = random.Random(seed).sample(every, min(sample or len(every), len(every)))
    print(f"{len(every)} mutants of {len(paths)} modules, {len(chosen)} drawn with seed {seed}", flush=True)
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants that the command line asks for."""
    options = _options(argv)
    os.chdir(ROOT)
    paths = options.only or list(MODULES)
    chosen = drawn(paths, options.sample, options.seed)
    if options.list:
        print("\n".join(m.name for m in chosen))
        return 0
    for name in WARM:
        importlib.import_module(name)
    assert not [m for m in sys.modules if m.startswith("harness")], "the harness is loaded before the fork"
    every = list(dict.fromkeys(test for m in chosen for test in MODULES[m.path]))
    if any_fails(every, limit_s=len(every) * TRY_S)[0]:
        print("the tests fail without any change")
        return 1
    return _report(_tried(chosen, options.cpu_minutes * 60), options)


def _tried(chosen: Sequence[Mutant], cpu_s: float) -> list[Tried]:
    done: list[Tried] = []
    for mutant in chosen:
        if sum(t.cpu_s for t in done) > cpu_s:
            print("the time is over")
            break
        _, how, took = any_fails(MODULES[mutant.path], mutant.path, mutant.source)
        done.append(Tried(mutant, how, took))
        print(f"{how:8} {took:5.1f} s  {mutant.name}", flush=True)
    return done


def _report(done: Sequence[Tried], options: argparse.Namespace) -> int:
    alive = [t.mutant.name for t in done if t.how == "survived"]
    share = 1 - len(alive) / len(done) if done else 0.0
    print(f"{len(done) - len(alive)} of {len(done)} mutants killed ({share:.0%}), {sum(t.cpu_s for t in done) / 60:.1f} CPU minutes")
    for name in alive:
        print(f"survived: {name}")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "tried": len(done), "killed": len(done) - len(alive), "survived": alive}, indent=1) + "\n")
    return 0 if share >= options.goal else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--sample", type=int, default=80, help="mutants to try, 0: all [80]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu-minutes", type=float, default=12, help="no mutant is begun after so much CPU time [12]")
    parser.add_argument("--goal", type=float, default=0.9, help="share killed that makes exit 0 [0.9]")
    parser.add_argument("--only", action="append", choices=list(MODULES), help="this module; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the mutants and try none")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

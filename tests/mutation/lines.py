"""Which test comes to which lines of the mutated modules, and what CPU time it takes: measured once, kept by the hash of the sources."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from types import FrameType
from typing import Any

from tests.mutation.mutants import Mutant

#: Tests that take longer are not tried on mutants; nor are those behind the first that take so long together. Who survives that counts as survivor.
LONGEST_S, TOGETHER_S = 3.0, 10.0


@dataclass
class Lines:
    """Test → what it runs. ``key`` says of which sources: those of the test's file and of everything below it."""

    key: dict[str, str] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that come to the statement that ``mutant`` changes (outside of functions: to its module), the quick and special ones first."""
        first, last = mutant.lines if mutant.inside else (0, sys.maxsize)
        found = [t for t, paths in self.lines.items() if self.cpu_s[t] <= LONGEST_S and any(first <= n <= last for n in paths.get(mutant.path, ()))]
        found.sort(key=self.price)
        sums = list(accumulate(self.cpu_s[t] for t in found))
        return [t for t, together in zip(found, sums, strict=True) if together <= TOGETHER_S]

    def price(self, test: str) -> float:
        """Its CPU time, times the modules it comes to: one that comes to few looks closer at them."""
        return self.cpu_s[test] * len(self.lines[test])

    def note(self, test: str, key: str, cpu_s: float, lines: dict[str, list[int]]) -> None:
        """One test was run."""
        self.key[test], self.cpu_s[test], self.lines[test] = key, cpu_s, lines

    def forget(self, keys: dict[str, str]) -> None:
        """Those of the tests in ``keys`` that were other ones when they were measured."""
        for test in [t for t, k in self.key.items() if keys.get(t, k) != k]:
            del self.key[test], self.cpu_s[test], self.lines[test]

    @classmethod
    def read(cls, file: Path) -> Lines:
        """What is kept in ``file``, if it is there."""
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def write(self, file: Path) -> None:
        """Keep it."""
        file.write_text(json.dumps(asdict(self)))


class Tracer:
    """Notes the lines of ``paths`` that run while it is on."""

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        self._of = {str(root / p): p for p in paths}
        self._seen: dict[str, set[int]] = {}

    def begin(self) -> float:
        """Forget, begin to note. Returned: CPU seconds of this process."""
        self._seen = {}
        sys.settrace(self._call)
        threading.settrace(self._call)
        return _cpu_s()

    def end(self, begin: float) -> tuple[float, dict[str, list[int]]]:
        """CPU seconds since ``begin``, and the lines."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        return _cpu_s() - begin, {p: sorted(n) for p, n in self._seen.items()}

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        path = self._of.get(frame.f_code.co_filename)
        if path is None:
            return None
        seen = self._seen.setdefault(path, set())

        def line(frame: FrameType, event: str, arg: Any) -> Any:
            seen.add(frame.f_lineno)
            return line

        return line(frame, event, arg)


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def fingerprint(files: Iterable[Path]) -> str:
    """A hash over the contents of ``files``."""
    sha = hashlib.sha256()
    for file in sorted(files):
        sha.update(file.name.encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]

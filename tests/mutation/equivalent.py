"""Mutants that change nothing which anybody is promised: they are not tried and do not count. Each by a rule, with the reason.

A rule names a module, a piece of the statement's source and the beginning of the change; one that fits no mutant any more is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.mutation.mutants import Mutant


@dataclass(frozen=True)
class Rule:
    """``text`` is in the statement, ``what`` begins the change."""

    path: str
    text: str
    what: str
    why: str

    def fits(self, mutant: Mutant) -> bool:
        """Whether ``mutant`` is left out by it."""
        return mutant.path == self.path and self.text in mutant.text and mutant.what.startswith(self.what)


_TIE = "two readings of a clock that are equal to the nanosecond"
RULES: tuple[Rule, ...] = (
    Rule("harness/chaos/restore.py", "time.monotonic() < end", "Lt -> LtE", _TIE),
    Rule("harness/kube/runlease.py", "found.age_s < found.duration_s", "Lt -> LtE", _TIE),
    Rule("harness/chaos/restore.py", "time.sleep(_LOOK_S)", "left out", "the same looks, only more of them"),
    Rule("harness/chaos/restore.py", "if TYPE_CHECKING:", "if False", "it is False when the program runs"),
    Rule("harness/chaos/undo.py", "p.stat().st_size >= len(MAGIC)", "GtE -> Gt", "a log that is its head alone has neither entries nor damage"),
)


def counted(every: Sequence[Mutant]) -> list[Mutant]:
    """Those that no rule leaves out."""
    return [m for m in every if not any(r.fits(m) for r in RULES)]


def stale(every: Sequence[Mutant]) -> list[Rule]:
    """Rules of the modules of ``every`` that leave out none of them."""
    paths = {m.path for m in every}
    return [r for r in RULES if r.path in paths and not any(r.fits(m) for m in every)]

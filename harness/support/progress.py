"""Progress of long work. Library code takes a Progress and never prints; cli decides how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Stages nest; ``waiting`` says what the innermost stage waits for right now."""

    def stage(self, title: str) -> AbstractContextManager[None]: ...

    def note(self, text: str) -> None: ...

    def waiting(self, what: str) -> None: ...


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        return

    def waiting(self, what: str) -> None:
        return

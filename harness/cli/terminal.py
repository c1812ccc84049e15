"""What a person sees: progress with elapsed time on a terminal, plain lines without one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

from harness.support.progress import Progress

#: Width of tables where there is no terminal to ask.
PIPED_COLUMNS = 160


def console(*, stderr: bool = True) -> Console:
    """A console for messages. Progress goes to standard error, so that standard output stays data."""
    piped = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=PIPED_COLUMNS if piped else None)


def make_progress() -> Progress:
    """Live on a terminal, plain lines otherwise."""
    return LiveProgress() if sys.stderr.isatty() else PlainProgress(sys.stderr)



class PlainProgress:
    """One line when a stage begins, one when it ends, and one each half minute while it waits."""

    EVERY_S = 30.0

    def __init__(self, out: TextIO) -> None:
        self._out, self._t0 = out, time.monotonic()
        self._depth, self._said, self._said_at = 0, "", 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        begin = time.monotonic()
        self._line(f"{title} …")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._line(f"{title}: stopped after {time.monotonic() - begin:.0f} s")
            raise
        self._depth -= 1
        self._line(f"{title}: done in {time.monotonic() - begin:.1f} s")

    def note(self, text: str) -> None:
        self._line(text)

    def waiting(self, what: str) -> None:
        now = time.monotonic()
        if what != self._said or now - self._said_at > self.EVERY_S:
            if what != self._said and now - self._said_at < 2.0:
                return
            self._said, self._said_at = what, now
            self._line(f"waiting for {what}")

    def _line(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._t0)
        self._out.write(f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {'  ' * self._depth}{text}\n")
        self._out.flush()


class LiveProgress:
    """Finished stages stay as lines; the open ones live in one status line with a spinner and the time they took."""

    def __init__(self) -> None:
        self._console = console()
        self._open: list[tuple[str, float]] = []
        self._what = ""
        self._status = self._console.status("")
        self._ticker: threading.Thread | None = None
        self._running = False

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self._open.append((title, time.monotonic()))
        self._what = ""
        self._start()
        try:
            yield
        except BaseException:
            self._end("[red]✗[/]")
            raise
        self._end("[green]✓[/]")

    def note(self, text: str) -> None:
        self._console.print(f"{'  ' * len(self._open)}{_plain(text)}", style="dim")

    def waiting(self, what: str) -> None:
        self._what = what

    def _end(self, mark: str) -> None:
        title, begin = self._open.pop()
        self._what = ""
        self._console.print(f"{'  ' * len(self._open)}{mark} {_plain(title)} [dim]{_took(begin)}[/]")
        if not self._open:
            self._running = False
            self._status.stop()

    def _start(self) -> None:
        if self._running:
            return
        self._running = True
        self._status.start()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def _tick(self) -> None:
        while self._running:
            stages = " › ".join(f"{_plain(t)} [dim]{_took(b)}[/]" for t, b in list(self._open))
            waits = f" [dim]· {_plain(self._what)}[/]" if self._what else ""
            self._status.update(stages + waits)
            time.sleep(0.25)


def _took(begin: float) -> str:
    seconds = time.monotonic() - begin
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _plain(text: str) -> str:
    """Text that rich shall not read as markup."""
    return text.replace("[", r"\[")

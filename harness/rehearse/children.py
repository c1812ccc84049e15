"""Processes that run beside an arm. Each writes its own file of the run's history, and is stopped by its own process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness.errors import MailgaleError
from harness.support.shell import kill_group, tail


class Child:
    """One process ``python -m MODULE SPEC`` in a session of its own.

    :param output: its standard output and error go there.
    """

    def __init__(self, module: str, arguments: Sequence[str | Path], output: Path) -> None:
        self.module, self.output = module, output
        with output.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, *, deadline_s: float) -> None:
        """Wait for its end.

        :raises MailgaleError: it ended non-zero, or not within ``deadline_s`` (it is killed then).
        """
        try:
            code = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            raise MailgaleError(f"no end after {deadline_s:.0f} s", where=self.module) from None
        if code != 0:
            raise MailgaleError(f"ended with {code}: {tail(self.output.read_text(errors='replace'))}", where=self.module)

    def stop(self, *, grace_s: float = 15.0) -> bool:
        """SIGTERM, then SIGKILL after ``grace_s`` or when the wait is interrupted. True when it ended well, so that its log is closed."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        try:
            return self._process.wait(max(0.1, grace_s)) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if self.alive:
                kill_group(self._process)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

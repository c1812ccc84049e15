"""External commands, with a deadline and a clear error."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CommandFailed

_TAIL_LINES = 15


@dataclass(frozen=True)
class Completed:
    """What a finished command left."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    check: bool = True,
    input: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv`` to its end.

    :param timeout_s: after this many seconds its whole process group is killed.
    :param env: variables added to this process's own.
    :raises CommandFailed: not found, out of time, or (with ``check``) a non-zero exit; the message ends with the
        last lines of its standard error.
    """
    words = tuple(str(a) for a in argv)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise CommandFailed(f"command not found: {words[0]}", todo="see 'mailgale doctor'") from error
    try:
        out, err = process.communicate(input, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise CommandFailed(f"no end after {timeout_s:.0f} s", where=shlex.join(words)) from None
    except BaseException:
        kill_group(process)
        raise
    if check and process.returncode != 0:
        raise CommandFailed(f"exit {process.returncode}: {tail(err or out)}", where=shlex.join(words))
    return Completed(words, process.returncode, out, err)


def stream(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    on_line: Callable[[str], None],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run ``argv`` and hand each line of its merged output to ``on_line``. Raises as :func:`run` does."""
    words = tuple(str(a) for a in argv)
    last: list[str] = []
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=cwd,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    timer = threading.Timer(timeout_s, kill_group, [process])
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-_TAIL_LINES:], line]
            on_line(line.rstrip("\n"))
        process.wait()
    except BaseException:
        kill_group(process)
        raise
    finally:
        timer.cancel()
    if process.returncode != 0:
        raise CommandFailed(f"exit {process.returncode}: {tail(''.join(last))}", where=shlex.join(words))


def tail(text: str) -> str:
    """The last lines of ``text``."""
    return "\n".join(text.rstrip().splitlines()[-_TAIL_LINES:])


def kill_group(process: subprocess.Popen[Any]) -> None:
    """SIGKILL to the process and all that it started, and wait for its end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

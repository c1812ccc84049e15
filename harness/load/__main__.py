"""``python -m harness.load SPEC.json [--steered]``: one engine, on uvloop where it runs.

Writes ``load-<n>.log`` into the spec's directory and reports as JSON lines on standard output. With ``--steered`` the end of
standard input means that the steering process is gone: the load stops. SIGTERM and SIGINT stop it too.
Exit codes: those of ``mailgale`` (0 the load ran to its end or was stopped, 3 the log could not be written, 4 spec, 7 guard).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import MailgaleError
from harness.load.engine import Engine
from harness.load.spec import LoadSpec

LAST_REPORT_S = 3.0
COLLECT_EVERY = 20_000  #: objects; a mail makes a dozen and no cycle
UNREAD_BYTES_MAX = 8 << 20  #: reports that nobody reads are dropped beyond this


class Reporter:
    """JSON lines to standard output that never block the loop: a pipe is written as it takes them, a file at once."""

    def __init__(self) -> None:
        self._pipe: asyncio.WriteTransport | None = None
        self._closed = asyncio.Event()

    async def open(self, gone: Any) -> None:
        """Attach; ``gone()`` is called when the reader has closed its end."""
        loop, closed = asyncio.get_running_loop(), self._closed

        class Closed(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                closed.set()
                gone()

        if _is_pipe(sys.stdout.fileno()):  # uvloop aborts the process on anything else
            self._pipe, _ = await loop.connect_write_pipe(Closed, sys.stdout)

    def __call__(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        if self._pipe is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif not self._pipe.is_closing() and self._pipe.get_write_buffer_size() < UNREAD_BYTES_MAX:
            self._pipe.write(text.encode())

    async def close(self) -> None:
        """Let the rest go out, for at most LAST_REPORT_S."""
        if self._pipe is not None:
            self._pipe.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), LAST_REPORT_S)


async def _run(spec: LoadSpec, steered: bool) -> None:
    loop = asyncio.get_running_loop()
    report = Reporter()
    engine = Engine(spec, report)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop)
    await report.open(engine.stop)
    if steered and _is_pipe(sys.stdin.fileno()):
        await loop.connect_read_pipe(lambda: _Steering(engine), sys.stdin)
    broken: list[dict[str, Any]] = []

    def on_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        broken.append(context)
        engine.ledger.event("incident", what=f"{context.get('message')}: {context.get('exception')!r}", where="load engine")
        engine.stop()

    loop.set_exception_handler(on_error)
    await engine.run()
    await report.close()
    if broken:
        error = broken[0].get("exception")
        raise MailgaleError(f"the engine broke: {broken[0].get('message')}: {error!r}", where="load engine") from error


class _Steering(asyncio.Protocol):
    """Standard input: nothing is expected on it but its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.stop()


def main(argv: list[str]) -> int:
    """Run one engine; returns the exit code."""
    words = [a for a in argv if a != "--steered"]
    if len(words) != 1:
        sys.stderr.write("usage: python -m harness.load SPEC.json [--steered]\n")
        return 4
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 50)
    try:
        spec = LoadSpec.read(Path(words[0]))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(spec, "--steered" in argv))
    except MailgaleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except FileExistsError as error:
        sys.stderr.write(f"{error.filename}: the log is there already (give each load a directory of its own)\n")
        return 4
    except OSError as error:
        sys.stderr.write(f"the load's log could not be written: {error}\n")
        return 3
    return 0


def _is_pipe(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _loop_factory() -> Any:
    """uvloop's where it is installed (Linux), asyncio's elsewhere."""
    try:
        return importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The conductor's handle on the load: Locust as a subprocess, headless, which starts the engine.

    process = start(spec, arm.path)
    process.wait(deadline_s=300)      # or .stop()

What the load does meanwhile is read from ``load-<n>.log`` (events ``load_state`` each second, ``load_end``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CommandFailed, NotReady, UsageError
from harness.load.spec import PASSWORD_ENV, LoadSpec
from harness.store.log import Damage, read_events
from harness.support.checkout import Checkout
from harness.support.shell import kill_group

STOP_WAIT_S = 40.0


@dataclass
class LoadProcess:
    """A running load, in a process group of its own."""

    process: subprocess.Popen[bytes]
    spec: LoadSpec
    output: Path
    problems: tuple[str, ...] = ()  #: what of the record could not be had: nothing, it is written here

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    @property
    def log(self) -> Path:
        """The first engine's log."""
        return Path(self.spec.out) / f"load-{self.spec.engine}.log"

    def wait(self, deadline_s: float) -> int:
        """Wait for its end; returns Locust's exit code (0: the engine ran to its end).

        :raises NotReady: it is still running after ``deadline_s`` seconds; it goes on, :meth:`stop` it.
        :raises CommandFailed: it ended with another code than 0; the message holds the last lines of its output.
        """
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise NotReady(f"the load has not ended after {deadline_s:.0f} s", where=str(self.output)) from None
        if code:
            raise CommandFailed(f"the load ended with code {code}: {self._tail()}", where=str(self.output))
        return code

    def stop(self, wait_s: float = STOP_WAIT_S) -> None:
        """Stop it cleanly: the engine closes its log. By force after ``wait_s`` seconds. No error if it has ended."""
        try:
            if self.alive:
                self.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(wait_s)
        finally:  # also when the wait is interrupted: nothing may go on sending
            kill_group(self.process)

    def state(self) -> dict[str, Any]:
        """The last ``load_state`` or ``load_end`` in the log; empty before the first."""
        last: dict[str, Any] = {}
        if self.log.exists():
            for event in read_events(self.log):
                if not isinstance(event, Damage) and event["kind"] in ("load_state", "load_end"):
                    last = event
        return last

    def _tail(self) -> str:
        """The end of its output without the frames of tracebacks."""
        lines = self.output.read_text(errors="replace").splitlines()
        told = [line for line in lines if line.strip() and not line.startswith((" ", "Traceback (most recent"))]
        return "\n".join(told[-15:])


def start(spec: LoadSpec, arm_dir: Path, *, secrets: Path | None = None, scenarios: Path | None = None) -> LoadProcess:
    """Start the load of one arm. Writes ``spec.json`` and Locust's files into ``arm_dir``.

    :param spec: its ``out`` is replaced by ``arm_dir``.
    :param secrets: directory outside the run for the copy of the spec that holds the password; without it the environment does.
    :param scenarios: directory of the locustfiles (default: the checkout's).
    :raises UsageError: no such scenario.
    :raises GuardRefused: an address that must not be loaded.
    """
    spec = spec.replace(out=str(arm_dir)).guarded()
    locustfile = (scenarios or Checkout.find().root / "scenarios") / f"{spec.scenario}.py"
    if not locustfile.is_file():
        raise UsageError(f"there is no scenario '{spec.scenario}'", where=str(locustfile.parent))
    (arm_dir / "spec.json").write_text(spec.to_json())
    output = arm_dir / "locust.out"
    environment = {
        **os.environ, "MAILGALE_LOAD_SPEC": str(arm_dir / "spec.json"), PASSWORD_ENV: spec.password, "MAILGALE_LOAD_PARENT": str(os.getpid()),
    }
    if secrets is not None:
        private = secrets / f"load-{spec.arm}.json"
        private.touch(0o600)
        private.write_text(spec.to_json(private=True))
        environment |= {"MAILGALE_LOAD_SPEC": str(private), PASSWORD_ENV: ""}
    with output.open("wb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--only-summary", "--csv", str(arm_dir / "locust")],
            stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=arm_dir,
        )
    return LoadProcess(process, spec, output)

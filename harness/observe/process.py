"""Starting and ending an observer from the conductor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from harness.errors import MailgaleError
from harness.observe.observer import LOG
from harness.observe.spec import ObserveSpec
from harness.stack.catalogue import components
from harness.stack.deployed import Stack
from harness.support.checkout import Checkout
from harness.support.clock import wait_for

SPEC = "observe.json"
_BEGIN_S = 15.0
HAPROXY_STATISTICS_PORT = 8404


def spec_for(stack: Stack, checkout: Checkout, arm_dir: Path, *, ends_at_ns: int = 0, interval_s: float = 2.0) -> ObserveSpec:
    """The orders for observing ``stack`` into ``arm_dir``; queues as the components say."""
    ports = {n: int(str(c.queue["port"])) for n, c in components(checkout).items() if "port" in c.queue}
    return ObserveSpec(
        kubeconfig=stack.target.kubeconfig, context=stack.target.context, namespace=stack.namespace, arm_dir=str(arm_dir), run_id=stack.run_id,
        interval_s=interval_s, ends_at_ns=ends_at_ns, queues=ports, edge=f"{stack.edge4}:{HAPROXY_STATISTICS_PORT}" if stack.edge4 else "",
    )


class ObserverProcess:
    """A running observer; a context manager that stops it.

    :raises MailgaleError: it did not begin within 15 s; the message has what it said.
    """

    def __init__(self, spec: ObserveSpec) -> None:
        self._arm = Path(spec.arm_dir)
        spec.write(self._arm / SPEC)
        with (self._arm / "observe.stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.observe", str(self._arm / SPEC)], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )
        try:
            wait_for(self._begun, deadline_s=_BEGIN_S, what="the observer to begin", every_s=0.1)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 15.0) -> int:
        """Tell it to end and wait; its exit code. Killed after ``timeout_s`` (its log then counts as cut off)."""
        if self.alive():
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _begun(self) -> bool:
        if not self.alive():
            said = (self._arm / "observe.stderr").read_text(errors="replace").strip()
            raise MailgaleError(f"the observer ended at once with {self._process.returncode}: {said[-600:]}", where=str(self._arm))
        return (self._arm / LOG).exists()

    def __enter__(self) -> ObserverProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

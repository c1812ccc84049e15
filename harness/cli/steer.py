"""``mailgale watch`` and ``mailgale abort``: a run under way, from another terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click
from rich.live import Live

from harness.cli.live import plain, render
from harness.cli.run import find_run
from harness.cli.terminal import console
from harness.errors import NotReady, UsageError
from harness.rehearse.leftovers import is_written
from harness.rehearse.live import LiveRun
from harness.store.asking import ask_to_end
from harness.store.run import RunDir
from harness.support.clock import wait_for

_EXIT_CODES = "Exit codes: see 'mailgale --help'."
#: Between a conductor's log and the seal lies the hashing of the whole run; so long nobody need write the log.
GONE_S = 60.0
#: Longer than any run.
WATCHED_S = 24 * 3600.0


@click.command("watch", epilog=_EXIT_CODES)
@click.argument("given", metavar="RUN", default="latest")
def watch_command(given: str) -> int:
    """Look at a run under way, from its files alone; ends when the run is sealed, with 8 when its conductor is gone without that.

    Without a terminal: one line whenever something changed.

    \b
    Example:
      mailgale watch latest
    """
    run = find_run(given)
    live = LiveRun(run)
    if sys.stdout.isatty():
        with Live(render(live.look()), console=console(stderr=False), refresh_per_second=4) as shown:
            _until_over(run, WATCHED_S, lambda: shown.update(render(live.look())))
    else:
        said = [""]

        def line() -> None:
            now = plain(live.look())
            if now != said[0]:
                said[0] = now
                click.echo(now)

        _until_over(run, WATCHED_S, line)
    return 0


@click.command("abort", epilog=_EXIT_CODES)
@click.argument("given", metavar="RUN", default="latest")
@click.option("--why", default="asked from another terminal", show_default=True, help="for the record")
@click.option("--wait", "wait_s", default=900.0, show_default=True, help="seconds to wait for the run's end")
def abort_command(given: str, why: str, wait_s: float) -> int:
    """End a run in order: its load is stopped, faults are undone, evidence is collected, the run is sealed.

    The run itself then ends with exit code 2 (or 1 if acknowledged mail was lost, 10 if something is left behind). This command ends with 0
    once the run is sealed, 4 when nobody runs it, 8 when it has not ended in time.

    \b
    Example:
      mailgale abort latest --why "the platform is needed"
    """
    run = find_run(given)
    if run.seal_digest or not _conducted(run):
        raise UsageError("this run is not under way", where=run.run_id, todo="'mailgale recover' puts back what a killed run left")
    ask_to_end(run, why)
    console().print(f"{run.run_id} is asked to end …", markup=False)
    _until_over(run, wait_s, lambda: None)
    click.echo(f"{run.run_id} has ended and is sealed: {run.seal_digest}")
    return 0


def _conducted(run: RunDir) -> bool:
    """Whether a process still writes the conductor's log."""
    return is_written(run.conductor_log)


def _until_over(run: RunDir, deadline_s: float, show: Callable[[], None]) -> None:
    """Wait until the run is sealed, showing it meanwhile.

    :raises NotReady: its conductor is gone, or it has not ended in time.
    """
    conducted = time.monotonic()

    def over() -> bool:
        nonlocal conducted
        show()
        if run.seal_digest:
            return True
        if _conducted(run):
            conducted = time.monotonic()
        elif time.monotonic() - conducted > GONE_S:
            raise NotReady("its conductor is gone, and the run is not sealed", where=run.run_id, todo="mailgale recover")
        return False

    wait_for(over, deadline_s=deadline_s, what="the run to end", every_s=0.5)

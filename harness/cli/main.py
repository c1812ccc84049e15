"""``mailgale``: the command group, the exit codes, and the border where unexpected errors end."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType

import click

from harness import __version__
from harness.cli.cluster import cluster, doctor, stack
from harness.cli.compare import baseline, compare_command
from harness.cli.plan import list_command, plan
from harness.cli.run import (
    judge_command,
    preflight_command,
    rehearse_command,
    report_command,
    run_command,
    runs,
)
from harness.cli.selftest import selftest
from harness.cli.terminal import console
from harness.errors import Interrupted, MailgaleError

_EPILOG = """\b
Exit codes: 0 pass, 1 criteria failed, 2 interrupted and undone, 3 fault of the harness, 4 plan or usage,
5 inconclusive, 6 regression only, 7 guard refused, 8 preflight or stack failed, 9 budget or stop condition,
10 clean-up incomplete."""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mailgale")
def cli() -> None:
    """Load and chaos testing of e-mail platforms on Kubernetes, with verdicts that can be trusted.

    \b
    Examples:
      mailgale doctor                                     what this machine has and lacks
      mailgale rehearse                                   from a fresh machine to a verdict
      mailgale run experiments/mx-pod-kill.yaml           one plan
      mailgale judge latest                               the same verdict again, without a cluster
    """


for _command in (
    doctor, cluster, stack, plan, preflight_command, run_command, rehearse_command, runs, judge_command, report_command,
    compare_command, baseline, selftest, list_command,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point. Ends the process with an exit code of the table in harness/errors.py."""
    if not sys.platform.startswith("linux"):
        console().print("mailgale runs on Linux only for now: it needs network namespaces, cgroups and kind's nodes.")
        sys.exit(4)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_guarded())


def _terminate(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends as Ctrl-C does: every scope is left in order."""
    raise KeyboardInterrupt


def _guarded() -> int:
    try:
        result = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 4
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _say(Interrupted("interrupted; what was started has been undone"))
    except MailgaleError as error:
        return _say(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception:  # noqa: BLE001 - border one of two: whatever is not ours is a fault of the harness, exit 3
        traceback.print_exc()
        console().print("[red]This is a fault of the harness[/], not of the mail platform. No verdict was given.")
        return 3
    return int(result or 0)


def _say(error: MailgaleError) -> int:
    console().print(f"[red bold]mailgale:[/] {str(error).replace('[', chr(92) + '[')}")
    return error.exit_code

"""``mailgale``: the command group, the exit codes, and the border where unexpected errors end."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from types import FrameType

import click

from harness import __version__
from harness.cli.cluster import cluster, doctor, stack
from harness.cli.compare import baseline, compare_command
from harness.cli.dns import dns
from harness.cli.load import load_command
from harness.cli.plan import list_command, plan
from harness.cli.run import (
    judge_command,
    preflight_command,
    recover_command,
    rehearse_command,
    report_command,
    run_command,
    runs,
)
from harness.cli.selftest import selftest
from harness.cli.steer import abort_command, watch_command
from harness.cli.terminal import console
from harness.errors import Interrupted, MailgaleError, RecordLost

#: What a disk says that takes no more.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
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
      mailgale load mx --smtp 127.0.0.1:2525 --rate 50/s  any mail server, without Kubernetes
      mailgale judge latest                               the same verdict again, without a cluster
    """


for _command in (
    doctor, cluster, stack, plan, preflight_command, run_command, rehearse_command, load_command, runs, judge_command, report_command, recover_command,
    abort_command, watch_command,
    compare_command, baseline, selftest, dns, list_command,
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
    except Exception as error:  # noqa: BLE001 - border one of two: whatever is not ours is a fault of the harness, exit 3
        if isinstance(error, OSError) and error.errno in _DISK:
            return _say(RecordLost.of(error))
        traceback.print_exc()
        console().print("[red]This is a fault of the harness[/], not of the mail platform. No verdict was given.")
        return 3
    return int(result or 0)


def _say(error: MailgaleError) -> int:
    console().print(f"[red bold]mailgale:[/] {str(error).replace('[', chr(92) + '[')}")
    return error.exit_code

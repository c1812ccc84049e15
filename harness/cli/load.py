"""``mailgale load``: any mail server by host and port, without Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from harness.cli.run import Judged, judged_run
from harness.cli.summary import print_summary
from harness.cli.terminal import console, make_progress
from harness.errors import Interrupted, MailgaleError, UsageError
from harness.load.options import access, parameter
from harness.load.spec import TLS_MODES
from harness.rehearse.conductor import Ended
from harness.rehearse.endpoints import load_endpoints
from harness.rehearse.load_task import LoadOptions, task_of
from harness.report.load_json import load_json
from harness.store.history import load
from harness.support.checkout import Checkout

_RATE = re.compile(r"^(?P<n>\d+(?:\.\d+)?)(?:/(?P<unit>s|sec|min|m|h))?$")
_TIME = re.compile(r"^(?P<n>\d+(?:\.\d+)?)(?P<unit>ms|s|m|min|h)?$")
_PER = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
#: A closed loop ends by itself; without --duration it gets so long.
CLOSED_LOOP_S = 600.0
OPEN_LOOP_S = 30.0


def per_second(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """``500/s``, ``30000/min``, ``10/h`` or a plain number per second.

    :raises click.BadParameter: anything else, and 0.
    """
    if value is None:
        return None
    found = _RATE.match(value)
    if not found or not float(found["n"]):
        raise click.BadParameter(f"'{value}' is no rate; e.g. 500/s or 600/min", ctx, param)
    return float(found["n"]) / _PER[found["unit"] or "s"]


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """``30s``, ``250ms``, ``5m``, ``1h`` or a plain number of seconds.

    :raises click.BadParameter: anything else.
    """
    if value is None:
        return None
    found = _TIME.match(value)
    if not found:
        raise click.BadParameter(f"'{value}' is no time; e.g. 30s, 250ms or 5m", ctx, param)
    return float(found["n"]) * _UNITS[found["unit"] or "s"]


_OPTIONS = (
    click.option("--smtp", metavar="HOST:PORT", help="where outside senders deliver (MX)"),
    click.option("--submission", metavar="HOST:PORT", help="where users log in and submit"),
    click.option("--imap", metavar="HOST:PORT", help="where mailboxes are read: readers, and the census after the load"),
    click.option("--pop3", metavar="HOST:PORT", help="likewise; with --imap a second opinion on a sample of the mailboxes"),
    click.option("--tls", type=click.Choice(TLS_MODES), default="none", show_default=True, help="of every endpoint that does not say otherwise by its scheme, as in imaps://HOST:PORT"),
    click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="PEM that certificates must chain to; without it none is checked"),
    click.option("--user-file", type=click.Path(exists=True, dir_okay=False), help="CSV address,password: the recipients, and whose mailboxes are read"),
    click.option("--rate", callback=per_second, metavar="N/s", help="open loop: mails due per second, whether the server keeps up or not"),
    click.option("--messages", type=click.IntRange(1), metavar="N", help="closed loop: so many mails as fast as they are accepted"),
    click.option("--connections", type=click.IntRange(1, 50_000), metavar="C", help="connections at a time (scenario users: readers)"),
    click.option("--size", type=click.IntRange(200, 64 << 20), default=2000, show_default=True, metavar="BYTES", help="of a mail's body"),
    click.option("--duration", callback=seconds, metavar="TIME", help="of the load [default: 30s; with --messages at most 10m]"),
    click.option("--settle", callback=seconds, default="60s", show_default=True, metavar="TIME", help="longest wait for accepted mail to arrive"),
    click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="same seed, same mails"),
    click.option("--allow", multiple=True, metavar="CIDR", help="address or network that may be loaded beside loopback; repeat it"),
    click.option("--source", "sources", multiple=True, metavar="ADDRESS", help="local address to connect from; repeat it for a pool"),
    click.option("--mail-domain", default="example.org", show_default=True, help="without --user-file: user1@DOMAIN … are the recipients"),
    click.option("--sender-domain", default="", metavar="DOMAIN", help="of the outside senders [default: example.net and example.com]"),
    click.option("--lag-budget", callback=seconds, default="250ms", show_default=True, metavar="TIME", help="schedule lag p99 beyond which the generator was the limit"),
    click.option("--set", "params", multiple=True, metavar="NAME=VALUE", help="any parameter of the scenario"),
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="the run's directory is made in it [default: reports/runs]"),
    click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("load", epilog="Exit codes: 0 pass, 1 criteria failed, 2 interrupted, 5 inconclusive; others: see 'mailgale --help'.")
@click.argument("scenario", metavar="SCENARIO")
@_options
def load_command(scenario: str, output: str, out: Path | None, **given: Any) -> int:
    """Load any mail server by host and port, account for every mail, and judge; no Kubernetes.

    \b
    SCENARIO is mx (inbound), submission, users (IMAP and POP3 readers), mixed, or friday (a step or a backlog).
    With --imap or --pop3 and a user file the mailboxes are read afterwards: every accepted mail must be there once,
    unharmed. Mail that was there before is neither read nor counted. Without them a PASS says that every mail was accepted.

    \b
    Examples:
      mailgale load mx --smtp 127.0.0.1:2525 --messages 20000 --connections 50
      mailgale load mx --smtp 127.0.0.1:25 --imap 127.0.0.1:143 --user-file users.csv --rate 500/s --duration 30s
      mailgale load submission --submission mail.lab:587 --tls starttls --imap imaps://mail.lab:993 --user-file users.csv \\
          --allow 192.0.2.7 --rate 20/s -o json
      mailgale load friday --smtp 127.0.0.1:25 --pop3 127.0.0.1:110 --user-file users.csv --messages 5000 --connections 40
      mailgale load users --imap 127.0.0.1:143 --user-file users.csv --connections 100 --duration 1m
    """
    checkout, progress, begin = Checkout.find(), make_progress(), time.monotonic()
    task = task_of(_read(scenario, given))
    ended = load_endpoints(task, out or checkout.runs, checkout, progress, command=shlex.join(["mailgale", *sys.argv[1:]]))
    judged = judged_run(ended.run.path, took_s=time.monotonic() - begin)
    if output == "json":
        click.echo(json.dumps(_result(ended, judged), indent=1))
    else:
        print_summary([*judged.lines, "", *_lines(_result(ended, judged))])
    if ended.problem is not None:
        console().print(f"mailgale: {ended.problem}", markup=False, style="red")
    return _exit_code(judged, ended.problem)


def _exit_code(judged: Judged, problem: MailgaleError | None) -> int:
    """An interrupted load says so whatever was seen until then; else a FAIL stands before what kept the run from its end."""
    if problem is None or (judged.verdict.exit_code == 1 and not isinstance(problem, Interrupted)):
        return judged.verdict.exit_code
    return problem.exit_code


def _lines(found: dict[str, Any]) -> list[str]:
    """The load's own figures, under the verdict."""
    if found.get("load_s") is None:
        return ["Load     nothing was accepted"]
    steps, lag = found["latency"], found["schedule_lag"] or {}
    name = next((n for n in ("smtp mail from due", "submission mail from due", "smtp mail", "submission mail") if n in steps), "")
    times = f" · {name} p50 {steps[name]['p50_ms']:.1f} ms, p99 {steps[name]['p99_ms']:.1f} ms" if name else ""
    cost = f"{found['client_cpu_s']} s of CPU ({found['mails_per_client_cpu_s'] or 0:.0f} mails per CPU second)"
    memory = f"peak memory {(found['peak_rss_bytes'] or 0) / 2**20:.0f} MiB"
    return [
        f"Load     {found['accepted']} of {found['offered']} accepted in {found['load_s']:.1f} s ({found['mails_per_s'] or 0:.0f}/s){times}",
        f"Client   {cost} · schedule lag p99 {lag.get('p99_ms', 0):.1f} ms · {memory}",
    ]


def _result(ended: Ended, judged: Judged) -> dict[str, Any]:
    with load(ended.run) as history:
        found = load_json(history, judged.verdict.to_json())
    return {**found, "exit_code": _exit_code(judged, ended.problem), "problem": str(ended.problem) if ended.problem else ""}


def _read(scenario: str, given: dict[str, Any]) -> LoadOptions:
    roles = {"mx": given["smtp"], "submission": given["submission"], "imap": given["imap"], "pop3": given["pop3"]}
    params = dict(parameter(word) for word in given["params"])
    if not any(roles.values()):
        raise UsageError("there is nothing to load", todo="name a server, e.g. --smtp 127.0.0.1:25")
    return LoadOptions(
        scenario=scenario, endpoints={role: access(where, given["tls"]) for role, where in roles.items() if where},
        rate_per_s=given["rate"] or 0.0, messages=given["messages"] or 0, connections=given["connections"] or 0, size_bytes=given["size"],
        duration_s=given["duration"] or (CLOSED_LOOP_S if given["messages"] else OPEN_LOOP_S), settle_s=given["settle"], seed=given["seed"],
        user_file=str(Path(given["user_file"]).resolve()) if given["user_file"] else "", mail_domain=given["mail_domain"],
        sender_domain=given["sender_domain"], allow=tuple(given["allow"]), sources=tuple(given["sources"]),
        ca_file=str(Path(given["ca_file"]).resolve()) if given["ca_file"] else "", lag_budget_ms=given["lag_budget"] * 1000, params=params,
    )

"""``mailgale rehearse``, ``preflight``, ``run``, ``runs``, ``judge`` and ``report``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.table import Table

from harness.cli.catalogue import find_plan
from harness.cli.summary import print_summary
from harness.cli.target import F, TargetOptions, target_for, target_options
from harness.cli.terminal import console, make_progress
from harness.errors import MailgaleError, UsageError
from harness.judge import RunVerdict, judge
from harness.preflight import preflight, prove_isolation
from harness.rehearse.conductor import rehearse
from harness.rehearse.order import Options
from harness.report import summary_lines
from harness.report import write as write_report
from harness.store.run import RunDir
from harness.support.checkout import Checkout

_EXIT_CODES = "Exit codes: see 'mailgale --help'."


def _run_options(command: F) -> F:
    for option in (
        click.option("--arms", default="main", show_default=True, help="'main', 'all', or names separated by commas"),
        click.option("--blocks", default=1, show_default=True, help="repeat all arms; intervals need at least 6"),
        click.option("--keep-stack", is_flag=True, help="leave the last arm's stack running"),
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
    ):
        command = option(command)
    return target_options(command)


@click.command("preflight", epilog=_EXIT_CODES)
@click.argument("given", metavar="PLAN")
@target_options
def preflight_command(given: str, **target_args: str | None) -> int:
    """Say exactly what a run would do, and prove that nothing can leave; exit 7 or 8 when it may not run.

    \b
    Example:
      mailgale preflight experiments/mx-pod-kill.yaml
    """
    checkout, progress = Checkout.find(), make_progress()
    plan = find_plan(checkout, given)
    target = target_for(checkout, progress, TargetOptions(**target_args), topology=plan.topology)
    found = preflight(plan, target, checkout, progress)
    with checkout.lock("run"):
        proof = prove_isolation(plan, target, checkout, progress)
    for line in replace(found, proofs=(*found.proofs, proof)).lines():
        click.echo(line)
    return 0


@click.command("run", epilog=_EXIT_CODES)
@click.argument("given", metavar="PLAN")
@_run_options
def run_command(given: str, arms: str, blocks: int, keep_stack: bool, output: str, **target_args: str | None) -> int:
    """Run a plan, judge it and write its report; the exit code says the verdict.

    \b
    Examples:
      mailgale run experiments/friday-burst.yaml
      mailgale run friday-burst --arms all --blocks 6
      mailgale run mx-pod-kill --target context --context staging
    """
    return _run(given, Options(arms, blocks, keep_stack), output, target_args)


@click.command("rehearse", epilog=_EXIT_CODES)
@click.argument("given", metavar="[PLAN]", default="friday-burst")
@_run_options
def rehearse_command(given: str, arms: str, blocks: int, keep_stack: bool, output: str, **target_args: str | None) -> int:
    """From a fresh machine to a verdict: engine, cluster, images, stack, and the plan (friday-burst unless named).

    \b
    Examples:
      mailgale rehearse
      mailgale rehearse friday-burst --arms all
    """
    return _run(given, Options(arms, blocks, keep_stack), output, target_args)


def _run(given: str, options: Options, output: str, target_args: dict[str, str | None]) -> int:
    checkout, progress = Checkout.find(), make_progress()
    begin = time.monotonic()
    plan = find_plan(checkout, given)
    target = target_for(checkout, progress, TargetOptions(**target_args), topology=plan.topology)
    preflight(plan, target, checkout, progress)
    ended = rehearse(plan, target, checkout, options, progress, setup_s=time.monotonic() - begin)
    judged = judged_run(ended.run.path, took_s=time.monotonic() - begin)
    _show(ended.run, judged, output)
    if ended.problem is not None:
        console().print(f"mailgale: {ended.problem}", markup=False, style="red")
    return _exit_code(judged.verdict, ended.problem)


def _exit_code(verdict: RunVerdict, problem: MailgaleError | None) -> int:
    """Clean-up incomplete overrides all; a run that was ended from outside says so unless mail was lost."""
    if problem is None or (verdict.exit_code == 1 and problem.exit_code != 10):
        return verdict.exit_code
    return problem.exit_code


@dataclass(frozen=True)
class Judged:
    """A judged run with its report written."""

    verdict: RunVerdict
    lines: list[str]


def judged_run(path: Path, *, took_s: float | None = None) -> Judged:
    """Judge the run at ``path`` and write its report."""
    verdict = judge(path)
    paths, sheet = write_report(path, json.loads((path / "verdict.json").read_text()))
    return Judged(verdict, summary_lines(sheet, paths.html, took_s=took_s))


def _show(run: RunDir, judged: Judged, output: str) -> None:
    if output == "json":
        click.echo((run.path / "verdict.json").read_text())
    else:
        print_summary(judged.lines)


@click.group()
def runs() -> None:
    """Past runs.

    \b
    Examples:
      mailgale runs ls
      mailgale runs show latest
    """


@runs.command("ls")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def runs_ls(output: str) -> None:
    """Every run under reports/runs, newest first, with its verdict."""
    rows = [_row(path) for path in _run_paths(Checkout.find().runs)]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("run", "plan", "verdict", "sealed", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["run"], row["plan"], row["verdict"], row["sealed"])
    console(stderr=False).print(table)


def _row(path: Path) -> dict[str, str]:
    verdict = path / "verdict.json"
    status = json.loads(verdict.read_text()).get("status", "?") if verdict.is_file() else "not judged"
    return {
        "run": path.name,
        "plan": RunDir.open(path).plan.name,
        "verdict": str(status),
        "sealed": "yes" if (path / "seal.json").is_file() else "no",
    }


@runs.command("show")
@click.argument("given", metavar="RUN", default="latest")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def runs_show(given: str, output: str) -> None:
    """The summary of one run, as it was judged last."""
    run = find_run(given)
    _show(run, judged_run(run.path), output)


@click.command("judge", epilog=_EXIT_CODES)
@click.argument("given", metavar="RUN", default="latest")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def judge_command(given: str, output: str) -> int:
    """Judge a run again from its directory alone: no cluster, no network; the same verdict and exit code.

    \b
    Examples:
      mailgale judge latest
      mailgale judge reports/runs/20261123T220000Z-friday-burst-1a2b
    """
    run = find_run(given)
    judged = judged_run(run.path)
    _show(run, judged, output)
    return judged.verdict.exit_code


@click.command("report")
@click.argument("given", metavar="RUN", default="latest")
def report_command(given: str) -> None:
    """Write report.html, summary.md and junit.xml of a run again.

    \b
    Example:
      mailgale report latest
    """
    run = find_run(given)
    judged_run(run.path)
    for name in ("report.html", "summary.md", "junit.xml", "verdict.json"):
        click.echo(str(run.path / name))


def find_run(given: str) -> RunDir:
    """The run in the directory ``given``, the newest in it, the one called so under reports/runs, or the ``latest``.

    :raises UsageError: there is none.
    """
    checkout = Checkout.find()
    if given == "latest":
        paths = _run_paths(checkout.runs)
        if not paths:
            raise UsageError("there is no run yet", where=str(checkout.runs), todo="mailgale rehearse")
        return RunDir.open(paths[0])
    path = Path(given) if Path(given).is_dir() else checkout.runs / given
    inside = _run_paths(path) if path.is_dir() and not (path / "run.json").is_file() else []
    return RunDir.open(inside[0] if inside else path)


def _run_paths(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("*") if (p / "run.json").is_file()), reverse=True)

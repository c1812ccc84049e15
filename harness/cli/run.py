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
from harness.errors import CleanupIncomplete, MailgaleError, RecordLost, StopCondition, UsageError
from harness.judge import RunVerdict, judge, judge_history
from harness.kube import runlease
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.preflight import described, preflight, prove_isolation
from harness.rehearse.conductor import Ended, rehearse
from harness.rehearse.leftovers import clear, forget_secrets
from harness.rehearse.order import Options, arms_in_order
from harness.rehearse.resume import said_unfinished, told
from harness.report import read as read_report
from harness.report import summary_lines
from harness.report import write as write_report
from harness.store.history import load
from harness.store.run import RunDir
from harness.support.checkout import Checkout

_EXIT_CODES = "Exit codes: see 'mailgale --help'."


def _run_options(command: F) -> F:
    for option in (
        click.option("--arms", default="main", show_default=True, help="'main', 'all', or names separated by commas"),
        click.option("--blocks", default=1, show_default=True, help="repeat all arms; intervals need at least 6"),
        click.option("--keep-stack", is_flag=True, help="leave the last arm's stack running"),
        click.option("--fresh", is_flag=True, help="begin a new run, also where an unfinished one could be gone on with"),
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
    checkout.refuse_if_held("run")
    target = target_for(checkout, progress, TargetOptions(**target_args), topology=plan.topology)
    found = preflight(plan, target, checkout, progress)
    with checkout.lock("run"), runlease.held(Gateway(Cluster(target), checkout.id), checkout.id):
        proof = prove_isolation(plan, target, checkout, progress)
    for line in replace(found, proofs=(*found.proofs, *proof)).lines():
        click.echo(line)
    return 0


@click.command("run", epilog=_EXIT_CODES)
@click.argument("given", metavar="PLAN")
@click.option("--dry-run", is_flag=True, help="say what would be done and touch nothing: no cluster, no image, no file")
@_run_options
def run_command(
    given: str, dry_run: bool, arms: str, blocks: int, keep_stack: bool, fresh: bool, output: str, **target_args: str | None
) -> int:
    """Run a plan, judge it and write its report; the exit code says the verdict.

    A run of the same plan that stopped half way (Ctrl-C, a full disk, a cluster that went away) is gone on with: arms whose census
    was taken stay as they are, the others run again. --fresh begins a new run.

    \b
    Examples:
      mailgale run experiments/friday-burst.yaml
      mailgale run friday-burst --arms all --blocks 6
      mailgale run mx-pod-kill --target context --context staging
      mailgale run mx-pod-kill --dry-run
    """
    if dry_run:
        return _dry_run(given, Options(arms, blocks, keep_stack, fresh))
    return _run(given, Options(arms, blocks, keep_stack, fresh), output, target_args)


@click.command("rehearse", epilog=_EXIT_CODES)
@click.argument("given", metavar="[PLAN]", default="friday-burst")
@_run_options
def rehearse_command(
    given: str, arms: str, blocks: int, keep_stack: bool, fresh: bool, output: str, **target_args: str | None
) -> int:
    """From a fresh machine to a verdict: engine, cluster, images, stack, and the plan (friday-burst unless named).

    \b
    Examples:
      mailgale rehearse
      mailgale rehearse friday-burst --arms all
    """
    return _run(given, Options(arms, blocks, keep_stack, fresh), output, target_args)


def _run(given: str, options: Options, output: str, target_args: dict[str, str | None]) -> int:
    checkout, progress = Checkout.find(), make_progress()
    begin = time.monotonic()
    plan = find_plan(checkout, given)
    checkout.refuse_if_held("run")  # a run's faults make its nodes look unwell, and an unwell cluster is replaced
    target = target_for(checkout, progress, TargetOptions(**target_args), topology=plan.topology)
    preflight(plan, target, checkout, progress)
    ended = rehearse(plan, target, checkout, options, progress, setup_s=time.monotonic() - begin)
    return _told(ended, output, took_s=time.monotonic() - begin)


def _dry_run(given: str, options: Options) -> int:
    """From the plan's file alone: what would be asked of a cluster is said by 'mailgale preflight'."""
    plan = find_plan(Checkout.find(), given)
    for line in described(plan, arms_in_order(plan, options)):
        click.echo(line)
    return 0


def _told(ended: Ended, output: str, *, took_s: float) -> int:
    """Judge, show, say what kept the run from its end and how to go on with it; the exit code."""
    problem = ended.problem
    try:
        judged = judged_run(ended.run.path, took_s=took_s)
    except OSError as error:
        problem = problem or RecordLost.of(error, ended.run.run_id)
        judged = _only_judged(ended.run.path, error, took_s=took_s)
    _show(judged, output)
    if problem is not None:
        console().print(f"mailgale: {problem}", markup=False, style="red")
        if how := told(ended.run):
            console().print(f"mailgale: {how}", markup=False)
    return _exit_code(judged.verdict, problem)


def _exit_code(verdict: RunVerdict, problem: MailgaleError | None) -> int:
    """Clean-up incomplete overrides all, then a stop condition; a run that was ended from outside says so unless mail was lost."""
    if problem is None or (verdict.exit_code == 1 and not isinstance(problem, CleanupIncomplete | StopCondition)):
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


def _only_judged(path: Path, error: OSError, *, took_s: float) -> Judged:
    """The verdict where the disk takes neither it nor the report."""
    with load(RunDir.open(path)) as history:
        verdict = judge_history(history)
        lines = summary_lines(read_report(history, verdict.to_json()), took_s=took_s)
    return Judged(verdict, [*lines, f"Report   not written: {error.strerror} (mailgale report {path.name}, once there is room)"])


def _show(judged: Judged, output: str) -> None:
    if output == "json":
        click.echo(judged.verdict.to_bytes())
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
    """Every run under reports/runs, newest first, with its verdict; 'unfinished' where arms are still to be run."""
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
    run = RunDir.open(path)
    return {
        "run": path.name,
        "plan": run.plan.name,
        "verdict": "unfinished" if said_unfinished(run) else str(status),
        "sealed": "yes" if (path / "seal.json").is_file() else "no",
    }


@runs.command("show")
@click.argument("given", metavar="RUN", default="latest")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def runs_show(given: str, output: str) -> None:
    """The summary of one run, as it was judged last."""
    run = find_run(given)
    _show(judged_run(run.path), output)


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
    _show(judged, output)
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


@click.command("recover", epilog=_EXIT_CODES)
@click.argument("given", metavar="RUN", default="latest")
@target_options
def recover_command(given: str, **target_args: str | None) -> int:
    """Put back what a stopped or killed run left: faults that are not undone, a stack that is not taken down.

    Exit 10 lists what is still left; the same command tries exactly that again.

    \b
    Example:
      mailgale recover latest
    """
    checkout, progress = Checkout.find(), make_progress()
    checkout.refuse_if_held("run")  # what it finds paused may be a fault under way
    target = target_for(checkout, progress, TargetOptions(**target_args), start=False, wake=True)
    run = find_run(given)
    with checkout.lock("run"), runlease.held(Gateway(Cluster(target), checkout.id), checkout.id):
        done = clear(run, target, checkout, progress)
        forget_secrets(checkout)
    click.echo("\n".join(done) or "nothing was left")
    return 0


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

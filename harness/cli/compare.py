"""``mailgale compare`` and ``mailgale baseline``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from harness.cli.run import find_run
from harness.cli.terminal import console
from harness.errors import UsageError
from harness.judge.compare import EFFECT_MIN, Comparison, compare
from harness.judge.extract import Extract, extract, read_extract
from harness.support.checkout import Checkout

BASELINE = "baseline"


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", default="latest")
@click.option("--effect-min", default=EFFECT_MIN, show_default=True, help="smallest change for the worse that counts, as a share")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def compare_command(a: str, b: str, effect_min: float, output: str) -> int:
    """What changed from run A to run B, with effect size and interval; exit 6 on a regression.

    A and B are runs; A may be 'baseline': what 'mailgale baseline set' kept for B's plan. Exit 0: no regression. 5: nothing could be told from
    chance, since a side has fewer than 6 blocks with sound evidence. 6: something got worse beyond chance, or a promise was broken
    that was kept before.

    \b
    Examples:
      mailgale compare baseline latest
      mailgale compare 20261123T220000Z-friday-burst-1a2b latest --effect-min 0.1
      mailgale compare baseline latest -o json
    """
    second = extract(find_run(b))
    first = _baseline(second.plan) if a == BASELINE else extract(find_run(a))
    found = compare(first, second, effect_min=effect_min)
    if output == "json":
        click.echo(found.to_json(), nl=False)
    else:
        _print(found)
    return found.exit_code


@click.group("baseline")
def baseline() -> None:
    """The run that later runs of the same plan are compared with.

    \b
    Examples:
      mailgale baseline set latest
      mailgale baseline show friday-burst
    """


@baseline.command("set")
@click.argument("run", metavar="RUN")
def baseline_set(run: str) -> None:
    """Keep what RUN measured as the baseline of its plan: reports/baselines/PLAN.json, to be committed."""
    kept = extract(find_run(run))
    if not any(arm.blocks for arm in kept.arms.values()):
        raise UsageError("no block of this run has sound evidence, so it cannot be a baseline", where=kept.run_id, todo="mailgale judge " + kept.run_id)
    path = _path(kept.plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(kept.to_json())
    click.echo(f"{path}: {kept.run_id}, {', '.join(f'{n} n={len(a.blocks)}' for n, a in kept.arms.items())}")


@baseline.command("show")
@click.argument("plan", metavar="PLAN")
def baseline_show(plan: str) -> None:
    """Say which run is the baseline of PLAN, and with how many blocks."""
    kept = _baseline(plan)
    for name, arm in kept.arms.items():
        click.echo(f"{kept.run_id} {name}: {len(arm.blocks)} blocks, {arm.left_out} left out, {arm.faults} faults")


def _path(plan: str) -> Path:
    return Checkout.find().root / "reports" / "baselines" / f"{plan}.json"


def _baseline(plan: str) -> Extract:
    path = _path(plan)
    if not path.is_file():
        raise UsageError(f"the plan '{plan}' has no baseline", where=str(path), todo="mailgale baseline set RUN")
    return read_extract(path)


_STYLES = {"REGRESSION": "bold red", "worse?": "yellow", "better": "green", "n too small": "dim", "same": "dim", "changed": ""}


def _print(found: Comparison) -> None:
    out = console(stderr=False)
    out.print(f"A {found.a}\nB {found.b}", markup=False)
    for line in (*(f"not the same: {d}" for d in found.differs), *found.left_out):
        out.print(line, markup=False, style="yellow")
    table = Table("arm", "figure", "A", "B", "B for one of A (95 %)", "", box=None, header_style="bold")
    for d in found.differences:
        table.add_row(d.arm, d.figure, _number(d.a), _number(d.b), d.text, d.verdict, style=_STYLES[d.verdict])
    out.print(table)
    for bound in found.bounds:
        out.print(bound.text, markup=False)
    if found.intervals:
        chance = f"{found.intervals * 0.05:.1f} of them lie beyond 1 by chance"
        out.print(f"{found.intervals} intervals: {chance}; a regression must hold for all together.", style="dim")
    out.print(found.sentence, markup=False, style="bold red" if found.regressions else "bold")


def _number(value: float) -> str:
    return f"{value:.4g}"

"""``mailgale plan`` and ``mailgale list``."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click
from rich.table import Table

from harness.cli.catalogue import Entry, entries, find_plan
from harness.cli.terminal import console
from harness.plan.schema import PlanBlock
from harness.support.checkout import Checkout


@click.group()
def plan() -> None:
    """Validate, render and describe plans.

    \b
    Examples:
      mailgale plan validate experiments/friday-burst.yaml
      mailgale plan render mx-pod-kill --arm queue-on-pvc
      mailgale plan schema > plan.schema.json
    """


@plan.command()
@click.argument("plans", nargs=-1, required=True, metavar="PLAN…")
def validate(plans: tuple[str, ...]) -> None:
    """Check plans without touching anything; exit 4 with file, line and the nearest valid name."""
    for given in plans:
        found = find_plan(Checkout.find(), given)
        click.echo(f"{found.source}: valid, {len(found.arms)} arms, {len(found.checks)} checks, {len(found.faults)} faults")


@plan.command()
@click.argument("given", metavar="PLAN")
@click.option("--arm", default=None, help="only this arm")
def render(given: str, arm: str | None) -> None:
    """Print the manifests that each arm would deploy (nothing is touched, no image is built)."""
    from harness.stack.render import render_preview

    checkout = Checkout.find()
    found = find_plan(checkout, given)
    for one in found.arms if arm is None else (found.arm(arm),):
        click.echo(f"# arm {one.name}: {', '.join(one.variants)}")
        click.echo(render_preview(checkout, profile=found.profile, variants=one.variants))


@plan.command()
def schema() -> None:
    """Print the JSON Schema of the extension 'mailgale', for an editor's completion."""
    click.echo(json.dumps(PlanBlock.model_json_schema(), indent=2))


@click.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
@click.argument("kind", required=False)
def list_command(output: str, kind: str | None) -> None:
    """Everything that can be named in a plan: plans, scenarios, variants, checks, claims, faults.

    \b
    Examples:
      mailgale list
      mailgale list check
      mailgale list -o json
    """
    found = [e for e in entries(Checkout.find()) if kind in (None, e.kind)]
    if output == "json":
        click.echo(json.dumps([vars(e) for e in found], indent=2))
        return
    if output == "markdown":
        click.echo(markdown(found))
        return
    table = Table("kind", "name", "what it is", box=None, header_style="bold")
    for entry in found:
        table.add_row(entry.kind, entry.name, entry.text)
    console(stderr=False).print(table)


def markdown(found: Iterable[Entry]) -> str:
    """The catalogue as the table in the README."""
    rows = [f"| {e.kind} | `{e.name}` | {e.text.replace('|', '/')} |" for e in found]
    return "\n".join(["| kind | name | is |", "|---|---|---|", *rows])

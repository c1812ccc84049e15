"""``mailgale doctor``, ``mailgale cluster`` and ``mailgale stack``."""

from __future__ import annotations

import json

import click
from rich.table import Table

from harness.cli.target import TargetOptions, target_for, target_options
from harness.cli.terminal import console, make_progress
from harness.cluster import kind as kind_cluster
from harness.cluster.doctor import examine
from harness.stack import lifecycle
from harness.support.checkout import Checkout

_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "not-supported": "[dim]not supported here[/]"}


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(output: str) -> None:
    """What this machine has, lacks, and cannot do; touches nothing.

    \b
    Example:
      mailgale doctor
    """
    found = examine(Checkout.find())
    if output == "json":
        click.echo(json.dumps([vars(e) for e in found], indent=2, default=str))
        return
    table = Table("what", "state", "detail", box=None, header_style="bold")
    for one in found:
        table.add_row(one.name, _MARKS.get(one.state, one.state), f"{one.detail}{'; ' + one.todo if one.todo else ''}")
    console(stderr=False).print(table)


@click.group()
def cluster() -> None:
    """The kind cluster of this checkout.

    \b
    Examples:
      mailgale cluster up
      mailgale cluster up --topology ha
      mailgale cluster down
    """


@cluster.command("up")
@click.option("--topology", default="single", show_default=True, help="a file in deploy/kind/")
def cluster_up(topology: str) -> None:
    """Bring the cluster up; does nothing where it is up and well."""
    checkout, progress = Checkout.find(), make_progress()
    checkout.refuse_if_held("run")
    with checkout.lock("cluster"):
        target = kind_cluster.up(checkout, topology, progress)
    click.echo(f"{target.name}: {len(target.nodes)} nodes; kubeconfig {target.kubeconfig}, context {target.context}")


@cluster.command("status")
def cluster_status() -> None:
    """What there is of the cluster; exit 8 when it is not up."""
    checkout = Checkout.find()
    target = kind_cluster.current(checkout)
    if target is None:
        click.echo(f"no cluster that is up and well: {kind_cluster.status(checkout).problem}")
        raise click.exceptions.Exit(8)
    table = Table("node", "role", "addresses", "edge", box=None, header_style="bold")
    for node in target.nodes:
        table.add_row(node.name, node.role, ", ".join(node.addresses), "yes" if node.edge else "")
    console(stderr=False).print(table)
    for ability, why in target.unsupported.items():
        click.echo(f"not supported here: {ability}: {why}")


@cluster.command("down")
def cluster_down() -> None:
    """Delete the cluster of this checkout, and nothing else."""
    checkout = Checkout.find()
    checkout.refuse_if_held("run")
    with checkout.lock("cluster"):
        kind_cluster.down(checkout, make_progress())


@click.group()
def stack() -> None:
    """The mail stack by itself, without a run.

    \b
    Examples:
      mailgale stack up --variant mx-2x
      mailgale stack status
      mailgale stack down
    """


@stack.command("up")
@target_options
@click.option("--profile", default="minimal", show_default=True)
@click.option("--variant", "variants", multiple=True, help="a folder in deploy/variants/; may be given several times")
@click.option("--users", default=200, show_default=True)
@click.option("--time-scale", default=30.0, show_default=True, help="divides the stack's back-offs and lags")
def stack_up(profile: str, variants: tuple[str, ...], users: int, time_scale: float, **target_args: str | None) -> None:
    """Build the images, deploy the stack and wait until mail passes through it."""
    checkout, progress = Checkout.find(), make_progress()
    with checkout.lock("run"):
        target = target_for(checkout, progress, TargetOptions(**target_args))
        made = lifecycle.up(
            target, checkout, profile=profile, variants=variants, users=users, time_scale=time_scale,
            suffix="stack", run_id="none", overrides={}, progress=progress,
        )
    click.echo(f"namespace {made.namespace}; edge {made.edge4} {made.edge6}")
    click.echo(f"users user1@{made.mail_domain} … user{made.users}@{made.mail_domain}, password {made.password}")


@stack.command("status")
@target_options
def stack_status(**target_args: str | None) -> None:
    """The stacks that this checkout has deployed, and their pods."""
    checkout = Checkout.find()
    target = target_for(checkout, make_progress(), TargetOptions(**target_args), start=False)
    lines = lifecycle.status(target, checkout)
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("no stack")


@stack.command("down")
@target_options
def stack_down(**target_args: str | None) -> None:
    """Delete every stack that this checkout has deployed."""
    checkout, progress = Checkout.find(), make_progress()
    with checkout.lock("run"):
        target = target_for(checkout, progress, TargetOptions(**target_args), start=False)
        lifecycle.down_all(target, checkout, progress)

"""``mailgale recover``."""

from __future__ import annotations

import click

from harness.cli.run import find_run
from harness.cli.target import TargetOptions, target_for, target_options
from harness.cli.terminal import make_progress
from harness.cluster import kind as kind_cluster
from harness.errors import CleanupIncomplete, NotReady
from harness.model.target import Target
from harness.rehearse.recover import recover
from harness.support.checkout import Checkout


@click.command("recover")
@click.argument("given", metavar="[RUN]", required=False)
@target_options
def recover_command(given: str | None, **target_args: str | None) -> int:
    """Bring everything back after a run was killed: faults undone and verified, stacks taken down, the run sealed as interrupted.

    Safe at any time and again; refuses (exit 7) while a run is alive. Exit 10 with a list when something could not be brought back.

    \b
    Examples:
      mailgale recover
      mailgale recover 20261123T220000Z-mx-pod-kill-1a2b
    """
    checkout, progress = Checkout.find(), make_progress()

    def target() -> Target | None:
        try:
            return target_for(checkout, progress, TargetOptions(**target_args), start=False)
        except NotReady:
            if target_args["context"] is None and kind_cluster.gone(checkout):
                return None  # no cluster, so no stack either
            raise

    found = recover(checkout, target, progress, run=find_run(given) if given else None)
    for line in found.done:
        click.echo(line)
    if found.left:
        raise CleanupIncomplete(f"{len(found.left)} things are left:\n  " + "\n  ".join(found.left), todo="mailgale recover")
    click.echo("nothing is left" if found.done else "there is nothing to recover")
    return 0

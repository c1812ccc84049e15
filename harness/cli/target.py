"""Which cluster a command acts on. There is no implicit current context; ``mailgale cluster`` knows this checkout's own only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from harness.cluster import kind as kind_cluster
from harness.cluster.context import target_for_context
from harness.errors import NotReady, UsageError
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])


def target_options(command: F) -> F:
    """Adds ``--target`` and ``--context``."""
    command = click.option("--context", default=None, help="a context of your kubeconfig that your configuration allows")(command)
    return click.option(
        "--target", "target_kind", type=click.Choice(["kind", "context"]), default="kind", show_default=True,
        help="kind: this checkout's own cluster",
    )(command)


@dataclass(frozen=True)
class TargetOptions:
    """What the options of :func:`target_options` say."""

    target_kind: str | None = "kind"
    context: str | None = None


def target_for(checkout: Checkout, progress: Progress, wanted: TargetOptions, *, topology: str = "single", start: bool = True, wake: bool = False) -> Target:
    """The target that the options name.

    :param start: bring a kind cluster up where there is none; else it is taken as it is, cordoned and stopped nodes included.
    :param wake: without ``start``: where its API server does not answer, start what has stopped of it; nothing is replaced.
    :raises UsageError: ``--context`` without ``--target context`` or the other way round.
    :raises GuardRefused: a context that the user's configuration does not allow.
    """
    if (wanted.target_kind == "context") != (wanted.context is not None):
        raise UsageError("--target context and --context NAME go together")
    if wanted.context is not None:
        return target_for_context(wanted.context, checkout, progress)
    if start:
        with checkout.lock("cluster"):
            return kind_cluster.up(checkout, topology, progress)
    found = kind_cluster.current(checkout, well=False)
    if found is None and wake:
        kind_cluster.wake(checkout, progress)
        found = kind_cluster.current(checkout, well=False)
    if found is None:
        raise _not_ready(checkout)
    return found


def _not_ready(checkout: Checkout) -> NotReady:
    if not kind_cluster.status(checkout).nodes:
        return NotReady("there is no cluster", where=checkout.cluster_name, todo="mailgale cluster up")
    # An engine that was started again may give nodes other addresses; then kind's API server never comes back.
    todo = "'mailgale cluster up' brings it back or makes it anew, 'mailgale cluster down' deletes it with all that is in it"
    return NotReady("the cluster is there, but its API server does not answer", where=checkout.cluster_name, todo=todo)

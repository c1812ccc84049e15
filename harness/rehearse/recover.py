"""Bringing everything back after the death of a run: what ``mailgale recover`` does.

Under the lock that every run holds (so whoever has it knows that no run is alive), in this order: processes of the dead run that live on are ended;
its undo logs are worked off, last in first out, each entry verified by reading back; stacks of dead runs are taken down; private files are
deleted; the run is sealed as interrupted. An error in one does not keep the others from being tried, and calling it again tries
exactly what is left. A run with something left is not sealed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.chaos import runner, undo
from harness.chaos import spec as chaos_spec
from harness.chaos.spec import ChaosSpec
from harness.cluster import kind as kind_cluster
from harness.errors import MailgaleError
from harness.kube.client import Cluster
from harness.model.target import Target
from harness.rehearse.orphans import end_orphans
from harness.stack import lifecycle
from harness.store.run import SEAL, RunDir
from harness.support.checkout import Checkout
from harness.support.progress import Progress

INTERRUPTED = "interrupted: the process that conducted it died; brought back by 'mailgale recover'"
FindTarget = Callable[[], Target | None]


@dataclass
class Recovered:
    """What was done, and what is left, one line each."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def attempt(self, where: str, act: Callable[[], Iterable[str]]) -> bool:
        """Carry out ``act``; its lines are done, its error is left."""
        try:
            self.done += [f"{where}: {line}" for line in act()]
        except (MailgaleError, OSError) as error:
            self.left.append(f"{where}: {error}")
            return False
        return True


def recover(checkout: Checkout, find_target: FindTarget, progress: Progress, *, run: RunDir | None = None) -> Recovered:
    """Bring back what dead runs of this checkout left.

    :param find_target: the cluster whose stacks are looked at; None where there is none.
    :param run: only this run's faults (stacks of all dead runs are taken down all the same).
    :raises GuardRefused: a run of this checkout is alive.
    """
    found = Recovered()
    with checkout.lock("run"):
        runs = [run] if run is not None else unfinished(checkout.runs, found)
        whole = [one for one in runs if _bring_back(one, checkout, found, progress)]
        found.attempt("stacks", lambda: _take_down(checkout, find_target, progress, found))
        found.attempt("private files", lambda: _forget_secrets(checkout))
        for one in whole:
            if not (one.path / SEAL).exists():
                found.attempt(one.run_id, partial(_seal, one, found.done))
    return found


def unfinished(runs: Path, found: Recovered) -> list[RunDir]:
    """Runs without a seal, or with something to be undone, the latest first; what does not read is left."""
    chosen: list[RunDir] = []

    def look(path: Path) -> list[str]:
        one = RunDir.open(path)
        if not (path / SEAL).exists() or any(undo.pending(a) or undo.unreadable(a) for a in _arms(one)):
            chosen.append(one)
        return []

    for path in sorted((p for p in runs.glob("*") if (p / "run.json").is_file()), reverse=True):
        found.attempt(path.name, partial(look, path))
    return chosen


def _arms(run: RunDir) -> list[Path]:
    """Directories of the arms in the order they were begun."""
    order = {f"{block}-{name}": n for n, (block, name) in enumerate(run.planned_arms)}
    return sorted((p for p in (run.path / "arms").glob("*") if p.is_dir()), key=lambda p: (order.get(p.name, len(order)), p.name))


def _bring_back(run: RunDir, checkout: Checkout, found: Recovered, progress: Progress) -> bool:
    with progress.stage(f"recover {run.run_id}"):
        well = found.attempt(run.run_id, lambda: end_orphans(run.path))
        for arm in reversed(_arms(run)):
            well &= found.attempt(f"{run.run_id} {arm.name}", partial(_undone, arm, checkout))
    return well


def _undone(arm: Path, checkout: Checkout) -> Sequence[str]:
    """What was undone in one arm; of a cluster that is gone nothing is left to undo."""
    waiting = undo.pending(arm)
    try:
        return runner.recover(arm)
    except MailgaleError:
        if not waiting or not _cluster_is_gone(arm, checkout):
            raise
        return undo.forgo(arm, "the cluster is gone")


def _cluster_is_gone(arm: Path, checkout: Checkout) -> bool:
    """Whether this checkout's kind cluster, on which the arm ran, was deleted since (another may be there in its place)."""
    target = ChaosSpec.load(arm / chaos_spec.FILE).target_object()
    if target.kind != "kind":
        return False
    try:
        return Cluster(target).uid() != target.uid
    except MailgaleError:
        return kind_cluster.gone(checkout)


def _take_down(checkout: Checkout, find_target: FindTarget, progress: Progress, found: Recovered) -> list[str]:
    target = find_target()
    if target is None:
        return []
    for namespace, run_id in sorted(lifecycle.owners(target, checkout).items()):
        if _of_a_dead_run(checkout, run_id):
            found.attempt(namespace, partial(_down, namespace, target, checkout, progress))
    return []


def _down(namespace: str, target: Target, checkout: Checkout, progress: Progress) -> list[str]:
    lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress)
    return ["taken down"]


def _of_a_dead_run(checkout: Checkout, run_id: str) -> bool:
    """A stack made by hand stays; so does one that a run which came to its end was told to keep."""
    return run_id != "none" and not (checkout.runs / run_id / SEAL).exists()


def _forget_secrets(checkout: Checkout) -> list[str]:
    paths = sorted(checkout.state.glob("secrets-*"))
    for path in paths:
        shutil.rmtree(path)
    return [f"deleted {path.name}" for path in paths]


def _seal(run: RunDir, done: Sequence[str]) -> list[str]:
    mine = [line for line in done if line.startswith(run.run_id)]
    run.update_meta(problem=INTERRUPTED, problem_code=2, recovered=mine)
    return [f"sealed as interrupted: {run.seal()}"]

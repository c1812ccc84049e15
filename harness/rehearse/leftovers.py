"""What a stopped or killed conductor may have left: running writers, faults, a deployed stack. Cleared before anything is resumed.

The writers are found by their open files under the run's directory (proc(5)), so a load that outlives its conductor cannot send
mail with the traces of a resumed arm. Limit: processes of another user are seen only by root.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.chaos.runner import recover_run
from harness.errors import CleanupIncomplete, GuardRefused, MailgaleError, NotReady
from harness.kube.api import selector
from harness.kube.client import Cluster
from harness.kube.guards import Owner
from harness.model.target import Target
from harness.stack import lifecycle
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress

#: A load ends within its own stop time once it sees that its conductor is gone.
WRITERS_GO_S = 60.0


def clear(run: RunDir, target: Target, checkout: Checkout, progress: Progress) -> list[str]:
    """Undo what is left of ``run``; what was done, a line each. The caller holds the checkout's lock ``run``.

    :raises GuardRefused: a process still writes into the run.
    :raises CleanupIncomplete: something cannot be brought back or taken down.
    """
    done = undo_faults(run, progress)
    for namespace in _namespaces(run, target, checkout):
        with taking_down(namespace):
            lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress)
        done.append(f"taken down: {namespace}")
    return done


def undo_faults(run: RunDir, progress: Progress) -> list[str]:
    """The first half of :func:`clear`: wait for what still writes into the run, then undo its faults. Raises as that does."""
    _writers_gone(run, progress)
    return _faults(run)


def forget_secrets(checkout: Checkout) -> None:
    """Delete the private directories that killed conductors left. The caller holds the checkout's lock ``run``."""
    for path in checkout.state.glob("secrets-*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def taking_down(namespace: str) -> Iterator[None]:
    """Whatever keeps a stack from being taken down ends as CleanupIncomplete that names it: a dead API server, a second Ctrl-C.

    :raises CleanupIncomplete: it may still be there.
    """
    try:
        yield
    except CleanupIncomplete:
        raise
    except (MailgaleError, OSError) as error:
        raise CleanupIncomplete(f"not taken down: {error}", where=f"namespace {namespace}", todo="mailgale recover") from error
    except KeyboardInterrupt:
        raise CleanupIncomplete("interrupted before it was taken down", where=f"namespace {namespace}", todo="mailgale recover") from None


def writers(run: RunDir) -> dict[int, str]:
    """Process id → a file of the run that it has open for writing."""
    root, found = f"{run.path.resolve()}{os.sep}", {}
    for process in (p for p in Path("/proc").glob("[0-9]*") if int(p.name) != os.getpid()):
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                path = _written(process, handle.name)
                if path.startswith(root):
                    found[int(process.name)] = path
    return found


def _written(process: Path, number: str) -> str:
    """What a process has open under this number, "" where it only reads it or it is gone."""
    try:
        flags = next(line.split()[1] for line in (process / "fdinfo" / number).read_text().splitlines() if line.startswith("flags:"))
        return os.readlink(process / "fd" / number) if int(flags, 8) & os.O_ACCMODE else ""
    except (OSError, StopIteration):
        return ""


def _writers_gone(run: RunDir, progress: Progress) -> None:
    if not writers(run):
        return
    progress.waiting("processes of the interrupted run to end")
    try:
        wait_for(lambda: not writers(run), deadline_s=WRITERS_GO_S, what="them to end")
    except NotReady:
        still = ", ".join(f"{pid} ({Path(path).name})" for pid, path in sorted(writers(run).items()))
        raise GuardRefused(f"processes of the interrupted run still write into it: {still}", where=run.run_id, todo="end them, then run again") from None


def _faults(run: RunDir) -> list[str]:
    try:
        return recover_run(a.path for a in run.arm_dirs())
    except CleanupIncomplete:
        raise
    except (MailgaleError, OSError) as error:
        raise CleanupIncomplete(f"faults of an interrupted arm cannot be undone: {error}", where=run.run_id, todo="mailgale recover") from error


def _namespaces(run: RunDir, target: Target, checkout: Checkout) -> list[str]:
    owner = Owner(checkout.id, run.run_id)
    found = Cluster(target).namespaces(selector(owner.labels))
    return sorted(str(n["metadata"]["name"]) for n in found if owner.owns(n["metadata"]))

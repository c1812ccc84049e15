"""What a stopped or killed conductor may have left: running writers, faults, a deployed stack. Cleared before anything is resumed.

The writers are found by their open files under the run's directory (proc(5)), so a load that outlives its conductor cannot send
mail with the traces of a resumed arm. Limit: processes of another user are seen only by root.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.chaos.runner import recover_run
from harness.errors import CleanupIncomplete, GuardRefused, MailgaleError, NotReady
from harness.kube.api import selector
from harness.kube.client import Cluster
from harness.kube.guards import Owner
from harness.model.target import Target
from harness.stack import lifecycle
from harness.stack.clearing import taking_down
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
    done = undo_faults(run, target, progress)
    for namespace in _namespaces(run, target, checkout):
        with taking_down(namespace):
            lifecycle.down(namespace, target=target, checkout_id=checkout.id, progress=progress)
        done.append(f"taken down: {namespace}")
    return done


def undo_faults(run: RunDir, target: Target, progress: Progress) -> list[str]:
    """The first half of :func:`clear`: wait for what still writes into the run, then undo its faults. Raises as that does."""
    _writers_gone(run, progress)
    return _faults(run, target)


def forget_secrets(checkout: Checkout) -> None:
    """Delete the private directories that killed conductors left. The caller holds the checkout's lock ``run``."""
    for path in checkout.state.glob("secrets-*"):
        shutil.rmtree(path, ignore_errors=True)


def all_left(error: CleanupIncomplete, *, ended: str = "") -> CleanupIncomplete:
    """One error for everything that was left behind while scopes were left.

    :param ended: what had ended the arm.
    """
    left = "; ".join(dict.fromkeys(_left(error)))
    return CleanupIncomplete(f"{left}{'; the arm had ended with: ' + ended if ended and ended not in left else ''}")


def _left(error: BaseException | None) -> Iterator[str]:
    """Every clean-up that failed, the last one first."""
    while error is not None:
        if isinstance(error, CleanupIncomplete):
            yield str(error)
        error = error.__context__


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


def is_written(path: Path) -> bool:
    """Whether some process has ``path`` open for writing."""
    wanted = str(path.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(_written(process, handle.name) == wanted for handle in (process / "fd").iterdir()):
                return True
    return False


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


def _faults(run: RunDir, target: Target) -> list[str]:
    try:
        return recover_run((a.path for a in run.arm_dirs()), target)
    except CleanupIncomplete:
        raise
    except (MailgaleError, OSError) as error:
        raise CleanupIncomplete(f"faults of an interrupted arm cannot be undone: {error}", where=run.run_id, todo="mailgale recover") from error


def _namespaces(run: RunDir, target: Target, checkout: Checkout) -> list[str]:
    owner = Owner(checkout.id, run.run_id)
    found = Cluster(target).namespaces(selector(owner.labels))
    return sorted(str(n["metadata"]["name"]) for n in found if owner.owns(n["metadata"]))

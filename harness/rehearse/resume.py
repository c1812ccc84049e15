"""Whether a run is there that stopped half way and that this command may go on with.

Arms are comparable only under the same conditions, so everything that ``run.json`` says of them must be the same: the plan's
hash, the arms and blocks, the cluster, the images, the source and the versions, and the boot of this host (the clock of a run
counts from it). A run whose files changed since its seal is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import MailgaleError
from harness.model.plan import Plan
from harness.store.log import Damage
from harness.store.run import RunDir
from harness.store.sessions import label, unfinished
from harness.support.checkout import Checkout
from harness.support.clock import boot_id
from harness.support.progress import Progress

Order = Sequence[tuple[int, str]]


def resumable(plan: Plan, meta: Mapping[str, Any], order: Order, checkout: Checkout, progress: Progress) -> RunDir | None:
    """The newest run of the same plan under the same conditions, if it is unfinished and some of its arms are finished.

    Says in ``progress`` why an unfinished run of this plan is not gone on with.

    :param meta: what is tested now, as of ``rehearse.meta`` with ``images``.
    """
    for n, run in enumerate(_runs(checkout.runs, plan)):
        why = difference(run, plan, meta, order)
        if why:
            if n == 0 and said_unfinished(run):
                progress.note(f"{run.run_id} is unfinished and stays so: {why}")
            continue
        left = unfinished(run)
        if not left or len(left) == len(order):
            return None
        changed = _changed(run, left)
        if changed:
            progress.note(f"{run.run_id} is unfinished and stays so: {changed[0].path}: {changed[0].what}")
            return None
        return run
    return None


def _changed(run: RunDir, left: Order) -> list[Damage]:
    """What is not as it was sealed, but for unfinished arms: these are put aside anyway, and ``mailgale recover`` takes notes there."""
    aside = tuple(f"arms/{label(key)}/" for key in left)
    return [d for d in run.verify() if not d.path.startswith(aside)] if run.seal_digest else []


def difference(run: RunDir, plan: Plan, meta: Mapping[str, Any], order: Order) -> str:
    """What is not as it was in ``run``; "" = nothing."""
    before, anchor = run.meta, run.head.get("anchor")
    boot = anchor.get("boot") if isinstance(anchor, Mapping) else None
    same = {
        "the plan has changed": run.head.get("sha256") == plan.sha256,
        "other arms or blocks are asked for": run.planned_arms == tuple(order),
        "the host was started again since, so its clock is another": bool(boot) and boot == boot_id(),
        "it ran on another cluster": _uid(before) == _uid(meta) != "",
        "the images are others": before.get("images") == meta.get("images"),
        "the source has changed": _source(before) == _source(meta) != "",
        "the versions are others": before.get("versions") == meta.get("versions"),
    }
    return next((what for what, holds in same.items() if not holds), "")


def said_unfinished(run: RunDir) -> bool:
    """Whether the run's head says so, or no conductor came to its end. Cheap; ``store.sessions.unfinished`` looks at the arms."""
    return bool(run.meta.get("unfinished")) or not run.seal_digest


def told(run: RunDir) -> str:
    """How far an unfinished run got, for a person; "" = it is finished, or nothing of it is."""
    left, planned = unfinished(run), run.planned_arms
    if not left or len(left) == len(planned):
        return ""
    return f"{len(planned) - len(left)} of {len(planned)} arms are done; the same command goes on with {', '.join(map(label, left))} (--fresh begins anew)"


def _runs(folder: Path, plan: Plan) -> list[RunDir]:
    """Runs of a plan of this name, newest first; what does not read is no run to go on with."""
    found = []
    for path in folder.glob(f"*-{plan.name}-*"):
        with suppress(MailgaleError):
            run = RunDir.open(path)
            if run.plan.name == plan.name:
                found.append(run)
    return sorted(found, key=_begun, reverse=True)


def _begun(run: RunDir) -> int:
    """Names tell the second only."""
    anchor = run.head.get("anchor")
    return int(anchor.get("wall_ns", 0)) if isinstance(anchor, Mapping) else 0


def _source(meta: Mapping[str, Any]) -> str:
    """The hash of what a run is made of; a commit that changes only words or tests is no other source."""
    source = meta.get("source")
    return str(source.get("sha256", "")) if isinstance(source, Mapping) else ""


def _uid(meta: Mapping[str, Any]) -> str:
    target = meta.get("target")
    return str(target.get("uid", "")) if isinstance(target, Mapping) else ""

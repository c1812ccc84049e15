"""The conductor: from a plan and a target to a sealed run directory. It reads like the README.

Every scope is a context manager, so that faults are undone, evidence is collected and the run is sealed on every way out,
Ctrl-C included. Judging and reporting come after it and need no cluster.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Interrupted, MailgaleError
from harness.model.plan import Plan
from harness.model.target import Target
from harness.rehearse.arm import ArmRun, run_arm
from harness.rehearse.budget import Allowance
from harness.rehearse.meta import what_is_tested
from harness.rehearse.order import Options, arms_in_order
from harness.stack import lifecycle
from harness.stack.images import Image
from harness.store.log import LogWriter
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.progress import Progress

__all__ = ["Ended", "Options", "rehearse"]


@dataclass(frozen=True)
class Ended:
    """A sealed run, and what kept it from its end (None: nothing)."""

    run: RunDir
    seal: str
    problem: MailgaleError | None


def rehearse(plan: Plan, target: Target, checkout: Checkout, options: Options, progress: Progress, *, setup_s: float = 0.0) -> Ended:
    """Run every arm of a plan, in seeded order, each on a stack of its own, and seal the evidence.

    :param setup_s: seconds that engine and cluster took before, for the report.
    :raises MailgaleError: before there was a run (guards, images, another run on this cluster).
    """
    order = arms_in_order(plan, options)
    with checkout.lock("run"), progress.stage(f"{plan.name}: {len(order)} arms"):
        images_begin = time.monotonic()
        images = lifecycle.prepare(target, checkout, profile=plan.profile, progress=progress)
        timings = {"setup": round(setup_s, 1), "images": round(time.monotonic() - images_begin, 1)}
        meta = {**what_is_tested(plan, target, checkout, options), "images": {i.ref: i.id for i in images.values()}}
        run = RunDir.create(checkout.runs, plan, meta, arms=order)
        problem: MailgaleError | None = None
        try:
            _arms(plan, target, checkout, options, progress, run, order, timings, images)
        except MailgaleError as error:
            problem = error
        except KeyboardInterrupt:
            problem = Interrupted("interrupted; what was started has been undone", where=run.run_id)
        return Ended(run, seal(run, timings, problem, progress), problem)


def _arms(
    plan: Plan, target: Target, checkout: Checkout, options: Options, progress: Progress,
    run: RunDir, order: list[tuple[int, str]], timings: dict[str, float], images: Mapping[str, Image],
) -> None:
    allowance = Allowance(plan, options.blocks)
    with LogWriter(run.conductor_log, "conductor") as log, private_directory(checkout) as private:
        for n, (block, name) in enumerate(order):
            allowance.check()
            log.event("arm", block=block, arm=name, edge="begin")
            log.flush()
            arm = ArmRun(
                plan, plan.arm(name), block, run.run_id, run.arm(block, name), target, checkout, private,
                prove_isolation=n == 0, progress=progress, images=images, keep_stack=options.keep_stack and n == len(order) - 1,
            )
            with progress.stage(f"arm {name} ({n + 1} of {len(order)})"):
                try:
                    run_arm(arm)
                finally:
                    timings.update({f"{block}-{name}/{k}": v for k, v in arm.timings.items()})
                    allowance.spend(arm.offered)
            log.event("arm", block=block, arm=name, edge="end")
            log.flush()


def seal(run: RunDir, timings: dict[str, float], problem: MailgaleError | None, progress: Progress) -> str:
    """Write what is known only now, and seal the run; the seal's digest."""
    run.update_meta(timings=timings, problem=str(problem) if problem else "", problem_code=problem.exit_code if problem else 0)
    digest = run.seal()
    progress.note(f"sealed {run.run_id}: {digest}")
    return digest


@contextmanager
def private_directory(checkout: Checkout) -> Iterator[Path]:
    """A private directory for files that hold the run's password; they never lie in the run itself."""
    path = checkout.state / f"secrets-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)

"""The conductor: from a plan and a target to a sealed run directory. It reads like the README.

Every scope is a context manager, so that faults are undone, evidence is collected and the run is sealed on every way out,
Ctrl-C included. Judging and reporting come after it and need no cluster. A run that stopped half way is gone on with: its
finished arms stay as they are (harness.rehearse.resume).
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CleanupIncomplete, Interrupted, MailgaleError, RecordLost
from harness.kube import runlease
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.kube.runlease import Holder, RunLease
from harness.load.pods import COMPONENT as LOAD
from harness.model.plan import Plan
from harness.model.target import Target
from harness.rehearse import leftovers
from harness.rehearse.arm import ArmRun, run_arm
from harness.rehearse.budget import Allowance
from harness.rehearse.footprint import as_before
from harness.rehearse.journal import Journal
from harness.rehearse.leftovers import all_left
from harness.rehearse.meta import what_is_tested
from harness.rehearse.order import Options, arms_in_order
from harness.rehearse.resume import resumable
from harness.rehearse.stops import Stops
from harness.stack import access, lifecycle
from harness.stack.access import Access
from harness.stack.images import Image
from harness.store.run import RunDir
from harness.store.sessions import label, reopen, sessions, unfinished
from harness.support.checkout import Checkout
from harness.support.progress import Progress

__all__ = ["Ended", "Options", "rehearse"]


@dataclass(frozen=True)
class Ended:
    """A run, and what kept it from its end (None: nothing). ``seal`` is "" where the disk did not even take that."""

    run: RunDir
    seal: str
    problem: MailgaleError | None


@dataclass
class _Session:
    """What one command does of a run."""

    plan: Plan
    target: Target
    checkout: Checkout
    options: Options
    progress: Progress
    run: RunDir
    todo: tuple[tuple[int, str], ...]
    images: Mapping[str, Image]
    timings: dict[str, float]
    lease: RunLease
    taken_over: list[Holder]


def rehearse(
    plan: Plan, target: Target, checkout: Checkout, options: Options, progress: Progress, *, setup_s: float = 0.0,
) -> Ended:
    """Run every arm of a plan, in seeded order, each on a stack of its own, and seal the evidence.

    The newest run of the same plan under the same conditions that stopped half way is gone on with, unless ``options.fresh``.

    :param setup_s: seconds that engine and cluster took before, for the report.
    :raises MailgaleError: before there was a run (guards, images, another run on this cluster).
    """
    order, taken_over = arms_in_order(plan, options), list[Holder]()
    gateway = Gateway(Cluster(target), checkout.id)
    with (
        checkout.lock("run"), progress.stage(f"{plan.name}: {len(order)} arms"),
        runlease.held(gateway, checkout.id, on_takeover=taken_over.append) as lease,
    ):
        for holder in taken_over:
            progress.note(f"the cluster's lease was taken over; its holder is dead: {holder}")
        leftovers.forget_secrets(checkout)
        images_begin = time.monotonic()
        images = lifecycle.prepare(
            target, checkout, profile=plan.profile, variants=[plan.arm(name).variants for _, name in order], progress=progress,
            more=[LOAD] if plan.load.in_cluster else [],
        )
        timings = {"setup": round(setup_s, 1), "images": round(time.monotonic() - images_begin, 1)}
        meta = {**what_is_tested(plan, target, checkout, options), "images": {i.ref: i.id for i in images.values()}}
        run = _begun(plan, target, checkout, options, progress, order, meta)
        lease.name_run(run.run_id)
        session = _Session(
            plan, target, checkout, options, progress, run, unfinished(run), images, _with_before(run, timings), lease, taken_over,
        )
        problem: MailgaleError | None = None
        try:
            _arms(session)
        except MailgaleError as error:
            problem = error
        except OSError as error:
            problem = RecordLost.of(error, run.run_id)
        except KeyboardInterrupt:
            problem = Interrupted("interrupted; what was started has been undone", where=run.run_id)
        return sealed(run, session.timings, problem, progress)


def _begun(
    plan: Plan, target: Target, checkout: Checkout, options: Options, progress: Progress, order: list[tuple[int, str]], meta: Mapping[str, Any]
) -> RunDir:
    """A run that can be gone on with, opened again, or a new one.

    :raises RecordLost: the disk takes no run.
    """
    try:
        run = None if options.fresh else resumable(plan, meta, order, checkout, progress)
        if run is not None:
            for line in leftovers.clear(run, target, checkout, progress):
                progress.note(line)
            run, session = reopen(run)
            progress.note(f"going on with {run.run_id} ({session.why}): {', '.join(session.kept)} finished before (--fresh begins anew)")
        else:
            run = RunDir.create(checkout.runs, plan, meta, arms=order)
        run.set_aside()
    except OSError as error:
        raise RecordLost.of(error, str(checkout.runs)) from error
    return run


def _with_before(run: RunDir, timings: Mapping[str, float]) -> dict[str, float]:
    """Timings of the finished arms, and set-up times summed over all sessions."""
    before = {k: float(v) for k, v in dict(run.meta.get("timings", {})).items()}
    again = {label(key) for key in unfinished(run)}
    kept = {k: v for k, v in before.items() if k.rpartition("/")[0] not in again}
    return {**kept, **{k: round(before.get(k, 0.0) + v, 1) for k, v in timings.items()}}


def _arms(session: _Session) -> None:
    plan, run, progress = session.plan, session.run, session.progress
    allowance = Allowance(plan, session.options.blocks)
    stops = Stops(run, allowance, plan.stop_when, session.lease)
    with Journal(run.conductor_log) as log, private_directory(session.checkout) as private, _roles(session, private) as given:
        _say_resumed(run, log)
        _say_lease(session, log)
        for n, (block, name) in enumerate(session.todo):
            allowance.check()
            stops.asked()
            log.event("arm", block=block, arm=name, edge="begin")
            log.check()
            arm = ArmRun(
                plan, plan.arm(name), block, run.run_id, run.arm(block, name), session.target, session.checkout, private,
                prove_isolation=n == 0, progress=progress, images=session.images, stops=stops, access=given,
                keep_stack=session.options.keep_stack and n == len(session.todo) - 1,
            )
            with progress.stage(f"arm {name} ({n + 1} of {len(session.todo)})"):
                try:
                    with nullcontext() if arm.keep_stack else as_before(session.target, session.checkout):
                        run_arm(arm)
                finally:
                    session.timings.update({f"{block}-{name}/{k}": v for k, v in arm.timings.items()})
                    allowance.spend(arm.offered)
            log.event("arm", block=block, arm=name, edge="end")


@contextmanager
def _roles(session: _Session, private: Path) -> Iterator[Access]:
    """The roles of the run; what was left behind while they were in use and what they leave behind themselves are told together."""
    try:
        with access.granted(session.target, session.checkout, session.run.run_id, private, progress=session.progress) as given:
            yield given
    except CleanupIncomplete as error:
        raise all_left(error) from error


def _say_lease(session: _Session, log: Journal) -> None:
    for holder in session.taken_over:
        log.event("lease", edge="taken_over", holder=holder.identity, run=holder.run, renewed=holder.renewed)
    log.event("lease", edge="held", holder=session.lease.identity, run=session.run.run_id, renewed="")


def _say_resumed(run: RunDir, log: Journal) -> None:
    for last in sessions(run)[-1:]:
        log.event("resumed", session=last.number, why=last.why, seal=last.seal, kept=list(last.kept), again=list(last.again))


def sealed(run: RunDir, timings: Mapping[str, float], problem: MailgaleError | None, progress: Progress, *, can_go_on: bool = True) -> Ended:
    """Write what is known only now and seal the run; where the disk does not take the seal, that is what is said.

    :param can_go_on: a later command may run the arms that are not finished.
    """
    try:
        run.release()
        run.update_meta(
            timings=dict(timings), problem=str(problem) if problem else "", problem_code=problem.exit_code if problem else 0,
            unfinished=[label(key) for key in unfinished(run)] if can_go_on else [],
        )
        digest = run.seal()
    except OSError as error:
        lost = RecordLost.of(error, run.run_id)
        progress.note(f"the run could not be sealed: {lost}")
        return Ended(run, "", problem or lost)
    progress.note(f"sealed {run.run_id}: {digest}")
    return Ended(run, digest, problem)


@contextmanager
def private_directory(checkout: Checkout) -> Iterator[Path]:
    """A private directory for files that hold the run's password; they never lie in the run itself."""
    path = checkout.state / f"secrets-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)

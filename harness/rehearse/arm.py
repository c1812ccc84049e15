"""One arm: deploy, load with faults beside it, heal, settle, census."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.census.quiet import Quiet, wait_for_quiet
from harness.census.spec import CensusSpec
from harness.chaos import lease
from harness.chaos import runner as chaos_runner
from harness.chaos.runner import ChaosProcess
from harness.chaos.targets import faults_of, resolve
from harness.dns.lab import prove_names
from harness.dns.lookups import LOG as LOOKUPS
from harness.errors import (
    CleanupIncomplete,
    ClusterFailed,
    CommandFailed,
    MailgaleError,
    NotReady,
    NotSupported,
    StackFailed,
)
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.gateway import Mutation
from harness.model.plan import Arm, Plan
from harness.model.target import Target
from harness.rehearse import dnslab, placing, specs
from harness.rehearse.children import Child
from harness.rehearse.counting import LOG as DNS_LOG
from harness.rehearse.counting import counting, lacking
from harness.rehearse.dnswatch import looking_up, prove_path
from harness.rehearse.journal import Journal
from harness.rehearse.leftovers import taking_down
from harness.stack import isolation, lifecycle, relief
from harness.stack.catalogue import components
from harness.stack.deployed import Stack
from harness.stack.images import Image
from harness.store.run import ArmDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress
from harness.support.shell import tail

CENSUS_DEADLINE_S = 300.0
#: The load has its own deadline; this much later it is taken for hung.
LOAD_GRACE_S = 60.0
#: An API server that does not answer for this long after the load is taken for gone.
CLUSTER_BACK_S = 60.0
TEARDOWN = "teardown"


@dataclass
class ArmRun:
    """Everything that one arm needs. ``secrets`` is a directory outside the run for files that hold the password."""

    plan: Plan
    arm: Arm
    block: int
    run_id: str
    directory: ArmDir
    target: Target
    checkout: Checkout
    secrets: Path
    prove_isolation: bool
    progress: Progress
    images: Mapping[str, Image]
    keep_stack: bool = False

    def __post_init__(self) -> None:
        self.timings: dict[str, float] = {}
        self.offered = 0.0  #: mails that the load offered, for the budget
        self.ended = ""  #: what ended the arm before its time
        self.log = Journal(self.directory.conductor_log)

    @property
    def suffix(self) -> str:
        """Ends the namespace's name."""
        return f"{self.block}-{self.arm.name}"[:30].rstrip("-.").replace(".", "-")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase in the arm's history, with progress and its duration.

        :raises RecordLost: the history takes no more, so that nothing new begins; what undoes goes ahead all the same.
        """
        begin = time.monotonic()
        self.log.event("phase", name=name, edge="begin")
        if name != TEARDOWN:
            self.log.check()
        try:
            with self.progress.stage(name):
                yield
        finally:
            self.timings[name] = round(time.monotonic() - begin, 1)
            self.log.event("phase", name=name, edge="end")

    def incident(self, what: str, where: str = "") -> None:
        """An error that did not end the run."""
        self.progress.note(f"incident: {what}")
        self.log.event("incident", what=what, where=where)


def run_arm(arm: ArmRun) -> None:
    """Run one arm from an empty namespace to its census, and take everything down again on every way out.

    :raises MailgaleError: the arm could not be brought to its end; what was recorded stays.
    :raises CleanupIncomplete: something is left behind; the message lists it.
    """
    try:
        _run(arm)
    except CleanupIncomplete as error:
        left = "; ".join(dict.fromkeys(_left(error)))
        raise CleanupIncomplete(f"{left}{'; the arm had ended with: ' + arm.ended if arm.ended and arm.ended not in left else ''}") from error


def _left(error: BaseException | None) -> Iterator[str]:
    """Every clean-up that failed while scopes were left, the last one first."""
    while error is not None:
        if isinstance(error, CleanupIncomplete):
            yield str(error)
        error = error.__context__


def _run(arm: ArmRun) -> None:
    _announce_writers(arm)
    with ExitStack() as scopes:
        scopes.callback(arm.log.close)
        observer = scopes.enter_context(_observing(arm))
        stack = scopes.enter_context(_deployed(arm))
        if arm.prove_isolation:
            with arm.phase("isolation"):
                _isolated(arm, stack)
        _pods(arm, stack, "pods_at_start")
        if arm.plan.load.kind == "dns":
            dnslab.measure(arm, stack)
        else:
            _mail(arm, stack)
        _pods(arm, stack, "pods_at_end")
        if not observer.stop():
            arm.incident("the observer did not end well: its last samples may be missing", "observe")
        arm.log.check()


def _mail(arm: ArmRun, stack: Stack) -> None:
    """The load with the faults beside it, and what became of its mail."""
    census = specs.census(arm, stack, queue_components=with_queues(arm.checkout))
    prove_path(arm, stack)
    with counting(arm, stack) as dns, looking_up(arm, stack):
        with faults_beside(arm, stack) as faults:
            with arm.phase("load"):
                _load(arm, stack)
            with arm.phase("heal"):
                heal(arm, faults)
        with arm.phase("settle"):
            _answers(arm, stack)
            _settle(arm, census)
        dns.finish()
    with arm.phase("census"):
        for slow in relief.lift_cpu_limits(stack, record=_recorder(arm)):
            arm.progress.note(slow)
        _census(arm, census)


def _announce_writers(arm: ArmRun) -> None:
    names = ["conductor.log", "observe.log", *(f"load-{n + 1}.log" for n in range(arm.plan.load.workers)), "census.log"]
    if arm.plan.load.kind == "dns":
        names += dnslab.WRITERS
    if faults_of(arm.plan, arm.arm.name):
        names.append("faults.log")
    if specs.about_dns(arm.plan) and arm.target.ours:
        names.append(LOOKUPS)
    if arm.plan.counts_dns(arm.arm.name) and not lacking(arm):
        names.append(DNS_LOG)
    arm.log.event("expected_writers", names=names)


@contextmanager
def _observing(arm: ArmRun) -> Iterator[Child]:
    spec = arm.secrets / f"observe-{arm.directory.label}.json"
    specs.observe(arm, namespace_of(arm)).write(spec)
    with Child("harness.observe", [spec], arm.directory.path / "observe.out") as child:
        yield child


@contextmanager
def _deployed(arm: ArmRun) -> Iterator[Stack]:
    """The arm's stack. Setting up is tried twice, and the second try is on record; a verdict never is."""
    try:
        with arm.phase("deploy"):
            try:
                stack = _up(arm)
            except StackFailed as error:
                arm.incident(f"set-up failed and is tried once more: {error}", "deploy")
                _down(arm, namespace_of(arm))
                stack = _up(arm)
        yield stack
    except (MailgaleError, OSError) as error:
        arm.ended = str(error)
        arm.incident(f"the arm ended before its time: {error}", arm.directory.label)
        raise
    finally:
        if not arm.keep_stack:
            with arm.phase(TEARDOWN), taking_down(namespace_of(arm)):
                _down(arm, namespace_of(arm))


def _down(arm: ArmRun, namespace: str) -> None:
    lifecycle.down(namespace, target=arm.target, checkout_id=arm.checkout.id, progress=arm.progress)


def namespace_of(arm: ArmRun) -> str:
    """The namespace of the arm's stack."""
    return arm.checkout.namespace(arm.suffix)


def with_queues(checkout: Checkout) -> tuple[str, ...]:
    """Names of the components that keep a queue."""
    return tuple(name for name, one in components(checkout).items() if one.queue)


def _up(arm: ArmRun) -> Stack:
    return lifecycle.up(
        arm.target, arm.checkout, profile=arm.plan.profile, variants=arm.arm.variants, users=arm.plan.users,
        time_scale=arm.plan.time_scale, suffix=arm.suffix, run_id=arm.run_id, overrides=dnslab.stack_params(arm.plan),
        progress=arm.progress, record=_recorder(arm), prepared=arm.images, generators=placing.networks(arm),
    )


def _recorder(arm: ArmRun) -> Callable[[Mutation], None]:
    """Every change to the cluster stands in the arm's history."""

    def record(change: Mutation) -> None:
        arm.log.event("mutation", verb=change.verb, what=change.what, namespace=change.namespace, outcome=change.outcome)

    return record


def _isolated(arm: ArmRun, stack: Stack) -> None:
    """Nothing runs unless it is proven that nothing can leave (exit 7)."""
    asked = prove_names(stack)
    proof = isolation.prove_nothing_leaves(stack, arm.checkout, progress=arm.progress)
    arm.log.event("isolation", dns=asked, canary=list(proof.canary), nodes=list(proof.nodes), tried=proof.tried, unproven=list(proof.unproven))


def _pods(arm: ArmRun, stack: Stack, kind: str) -> None:
    pods = stack.cluster.pods(stack.namespace)
    arm.log.event(kind, pods=[specs.pod(p) for p in pods])


class Placed(Protocol):
    """Where faults strike: a stack, or less than one."""

    @property
    def cluster(self) -> Cluster: ...

    @property
    def namespace(self) -> str: ...


@contextmanager
def faults_beside(arm: ArmRun, stack: Placed) -> Iterator[ChaosProcess | None]:
    """The arm's faults, waiting for their triggers beside the load; undone on every way out."""
    if not faults_of(arm.plan, arm.arm.name):
        yield None
        return
    known = components(arm.checkout)
    try:
        resolved = resolve(arm.plan, arm.arm.name, stack.cluster, stack.namespace, known)
    except NotSupported as lacking:
        arm.incident(f"not supported here: {lacking}", "faults")
        yield None
        return
    for one in resolved:
        arm.progress.note(one.line())
    with lease.held(arm.secrets / "lease", run_id=arm.run_id, namespace=stack.namespace) as held:
        process = chaos_runner.start(
            arm.plan, arm.arm.name, resolved, target=arm.target, namespace=stack.namespace, arm_dir=arm.directory.path,
            arm_label=arm.directory.label, run_id=arm.run_id, checkout=arm.checkout, components=known, lease=held,
        )
        try:
            yield process
        finally:
            process.stop()


def _load(arm: ArmRun, stack: Stack) -> None:
    spec = specs.load(arm, stack)
    longest = sum(float(spec.params.get(k, 0)) for k in ("warmup_s", "burst_max_s", "tail_s", "watch_max_s")) + LOAD_GRACE_S
    process = placing.start(arm, stack, spec, longest, record=_recorder(arm))
    try:
        process.wait(deadline_s=longest)
    except (NotReady, CommandFailed) as error:
        arm.incident(str(error), "load")
    finally:
        process.stop()
        for problem in process.problems:
            arm.incident(problem, "load")
        arm.offered = float(process.state().get("offered", 0))


def heal(arm: ArmRun, faults: ChaosProcess | None) -> None:
    """Wait until the faults are over; a trigger that never came ends with the load."""
    if faults is None:
        return
    code = faults.wait(max(f.deadline_s for f in faults_of(arm.plan, arm.arm.name)))
    if code != 0:
        arm.incident(f"the faults ended with {code}: {tail(faults.output())}", "faults")
    for what in faults.stop():
        arm.incident(f"undone by the conductor: {what}", "faults")


def _answers(arm: ArmRun, stack: Stack) -> None:
    """Without an API server neither queues nor pods can be read to the end, and waiting for them is in vain.

    :raises ClusterFailed: it does not answer, or another cluster does.
    """

    def uid() -> str | None:
        with suppress(ApiFailed):
            return stack.cluster.uid()
        return None

    try:
        found = wait_for(uid, deadline_s=CLUSTER_BACK_S, what="the API server to answer after the load", every_s=1.0)
    except NotReady as error:
        raise ClusterFailed(f"the cluster is gone: {error.what}", where=arm.target.name, todo="mailgale cluster status") from error
    if found != arm.target.uid:
        raise ClusterFailed(f"another cluster answers since the load: {found}", where=arm.target.name, todo="mailgale cluster status")


def _settle(arm: ArmRun, spec: CensusSpec) -> None:
    def look(quiet: Quiet) -> None:
        arm.progress.waiting(f"the queues to empty, {quiet.left} mails left")

    quiet = wait_for_quiet(spec, deadline_s=arm.plan.load.settle_s, on_look=look)
    arm.log.event("settled", quiet=quiet.quiet, counts=quiet.counts, waited_s=quiet.waited_s, errors=list(quiet.errors))
    if not quiet.quiet:
        arm.incident(f"queues were not empty after {quiet.waited_s:.0f} s: {quiet.left} mails", "settle")


def _census(arm: ArmRun, census: CensusSpec) -> None:
    spec = arm.secrets / f"census-{arm.directory.label}.json"
    census.save(spec)
    with Child("harness.census", [spec], arm.directory.path / "census.out") as child:
        try:
            child.wait(deadline_s=CENSUS_DEADLINE_S)
        except MailgaleError:
            arm.log.check()  # where the disk is full, that is the reason, and the census could not even say so
            raise

"""One arm: deploy, load with faults beside it, heal, settle, census."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.census.quiet import Quiet, wait_for_quiet
from harness.census.spec import CensusSpec
from harness.chaos.targets import faults_of
from harness.dns.lab import prove_names
from harness.dns.lookups import LOG as LOOKUPS
from harness.errors import (
    CleanupIncomplete,
    ClusterFailed,
    Interrupted,
    MailgaleError,
    NotReady,
    StackFailed,
)
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Mutation
from harness.model.plan import Arm, Plan
from harness.model.target import Target
from harness.rehearse import dnslab, placing, specs
from harness.rehearse.children import Child
from harness.rehearse.counting import LOG as DNS_LOG
from harness.rehearse.counting import counting, lacking
from harness.rehearse.dnswatch import looking_up, prove_path
from harness.rehearse.journal import Journal
from harness.rehearse.leftovers import all_left
from harness.rehearse.loading import run_load
from harness.rehearse.stops import Stops
from harness.rehearse.striking import faults_beside, heal
from harness.stack import isolation, lifecycle, relief
from harness.stack.access import Access
from harness.stack.catalogue import components
from harness.stack.clearing import taking_down
from harness.stack.deployed import Stack
from harness.stack.images import Image
from harness.store.run import ArmDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress

#: An API server that does not answer for this long after the load is taken for gone.
CLUSTER_BACK_S = 60.0
TEARDOWN = "teardown"
#: Phases that begin something new; after them the arm collects what became of it.
BEGINNING = frozenset({"deploy", "isolation", "load"})
#: Who asks a run to end does not wait as long as the plan would.
ABORT_SETTLE_S = 30.0


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
    stops: Stops | None = None
    access: Access | None = None

    def __post_init__(self) -> None:
        self.timings: dict[str, float] = {}
        self.offered = 0.0  #: mails that the load offered, for the budget
        self.ended = ""  #: what ended the arm before its time
        self.torn_down = False
        self.stopped: MailgaleError | None = None  #: what stopped its load before its time
        self.log = Journal(self.directory.conductor_log)

    @property
    def suffix(self) -> str:
        """Ends the namespace's name."""
        return f"{self.block}-{self.arm.name}"[:30].rstrip("-.").replace(".", "-")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase in the arm's history, with progress and its duration.

        :raises RecordLost: the history takes no more, so that nothing new begins; what undoes goes ahead all the same.
        :raises Interrupted: somebody asked the run to end, and this phase would begin something new.
        """
        begin = time.monotonic()
        self.log.event("phase", name=name, edge="begin")
        if name != TEARDOWN:
            self.log.check()
        if name in BEGINNING and self.stops is not None:
            self.stops.asked()
        try:
            with self.progress.stage(name):
                yield
        finally:
            self.timings[name] = round(time.monotonic() - begin, 1)
            self.log.event("phase", name=name, edge="end")

    def target_as(self, role: str) -> Target:
        """The target by the rights of a role (harness.stack.access)."""
        return self.access.target_as(role) if self.access is not None else self.target

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
        raise all_left(error, ended=arm.ended) from error


def _run(arm: ArmRun) -> None:
    _announce_writers(arm)
    with ExitStack() as scopes:
        scopes.callback(arm.log.close)
        scopes.enter_context(_opened(arm))
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
        if arm.stopped is not None:
            raise arm.stopped


def _mail(arm: ArmRun, stack: Stack) -> None:
    """The load with the faults beside it, and what became of its mail."""
    census = specs.census(arm, stack, queue_components=with_queues(arm.checkout))
    prove_path(arm, stack)
    with counting(arm, stack) as dns:
        # Not while queues empty: look-ups are a load of their own, and what DNS held up shall go now.
        with looking_up(arm, stack), faults_beside(arm, stack) as faults:
            with arm.phase("load"):
                run_load(arm, stack, _recorder(arm))
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
def _opened(arm: ArmRun) -> Iterator[None]:
    """The arm's namespace with the run's roles, before the observer; what is deployed into it takes it down again."""
    if arm.access is None:
        yield
        return
    gateway = Gateway(Cluster(arm.target), arm.checkout.id, arm.run_id, _recorder(arm))
    lifecycle.open_namespace(gateway, namespace_of(arm), arm.access)
    try:
        arm.access.until_in_force(namespace_of(arm))
        yield
    except BaseException:
        if not arm.torn_down:
            with taking_down(namespace_of(arm)):
                _down(arm, namespace_of(arm))
        raise


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
        arm.torn_down = True
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
        time_scale=arm.plan.time_scale, suffix=arm.suffix, run_id=arm.run_id, overrides=dnslab.stack_params(arm.plan), access=arm.access,
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

    aborted = isinstance(arm.stopped, Interrupted)
    quiet = wait_for_quiet(spec, deadline_s=min(arm.plan.load.settle_s, ABORT_SETTLE_S if aborted else float("inf")), on_look=look)
    arm.log.event("settled", quiet=quiet.quiet, counts=quiet.counts, waited_s=quiet.waited_s, errors=list(quiet.errors))
    if not quiet.quiet:
        arm.incident(f"queues were not empty after {quiet.waited_s:.0f} s: {quiet.left} mails", "settle")


def _census(arm: ArmRun, census: CensusSpec) -> None:
    spec = arm.secrets / f"census-{arm.directory.label}.json"
    census.save(spec)
    with Child("harness.census", [spec], arm.directory.path / "census.out") as child:
        try:
            child.wait(deadline_s=census.longest_s)
        except MailgaleError:
            arm.log.check()  # where the disk is full, that is the reason, and the census could not even say so
            raise

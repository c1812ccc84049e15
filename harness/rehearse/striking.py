"""The faults of an arm beside its load: chosen, begun, waited for, undone on every way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from harness.chaos import lease
from harness.chaos import runner as chaos_runner
from harness.chaos.runner import ChaosProcess
from harness.chaos.targets import faults_of, resolve
from harness.errors import NotSupported
from harness.kube.client import Cluster
from harness.stack.catalogue import components, deployed
from harness.stack.deployed import Stack
from harness.support.shell import tail

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

JANITOR = "janitor"


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
    if isinstance(stack, Stack):
        known = deployed(known, stack.workloads)
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
            holder=_holder(arm, stack), acts_as=arm.target_as("chaos"),
        )
        try:
            yield process
        finally:
            process.stop()


def heal(arm: ArmRun, faults: ChaosProcess | None) -> None:
    """Wait until the faults are over; a trigger that never came ends with the load."""
    if faults is None:
        return
    # A stopped load's faults are undone now; who waits for a trigger would wait in vain.
    code = None if arm.stopped else faults.wait(max(f.deadline_s for f in faults_of(arm.plan, arm.arm.name)))
    if code != 0 and not arm.stopped:
        arm.incident(f"the faults ended with {code}: {tail(faults.output())}", "faults")
    for what in faults.stop():
        arm.incident(f"undone by the conductor: {what}", "faults")
    for what in faults.janitor_did():
        arm.incident(f"the janitor took this host for gone: {what}", "faults")


def _holder(arm: ArmRun, stack: Placed) -> str:
    """The identity of the run's lease, where a janitor is there to watch it."""
    held = arm.stops.lease if arm.stops is not None else None
    return held.identity if held is not None and isinstance(stack, Stack) and f"Deployment/{JANITOR}" in stack.workloads else ""

"""DNS counted beside an arm, where the plan asks for it: a process of its own (harness.dns), from before the load until all is quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.dns.counting import LOG
from harness.dns.netns import why_not
from harness.dns.spec import CountSpec
from harness.errors import NotReady
from harness.rehearse.children import Child
from harness.stack.deployed import Stack
from harness.support.clock import wait_for
from harness.support.shell import tail

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

__all__ = ["LOG", "Counting", "counting", "lacking"]
#: Look-ups of every resolver and the opening of the captures, at the most.
READY_S = 240.0
#: Waiting for quiet, and reading what was captured.
FINISH_S = 180.0


def lacking(arm: ArmRun) -> str:
    """Why DNS cannot be counted on this target; "" when it can."""
    if not arm.target.ours:
        return f"the nodes of {arm.target.name} are not on this machine, so its pods' networks cannot be entered"
    return why_not()


class Counting:
    """The process, or none where the plan or the target has no counting."""

    def __init__(self, arm: ArmRun, child: Child | None) -> None:
        self._arm, self._child = arm, child

    def finish(self) -> None:
        """Let it count what it captured. Nothing is asked of the lab's DNS on the run's behalf after this."""
        if self._child is None:
            return
        child, self._child = self._child, None
        if not child.stop(grace_s=FINISH_S):
            self._arm.incident(f"DNS was not counted: {tail(child.output.read_text(errors='replace')) or 'its process did not end well'}", "dns")


@contextmanager
def counting(arm: ArmRun, stack: Stack) -> Iterator[Counting]:
    """Counting from here on, stopped on every way out. Where it does not begin, the arm goes on without it and says so."""
    if not arm.plan.counts_dns(arm.arm.name) or arm.plan.dns is None:
        yield Counting(arm, None)
        return
    if why := lacking(arm):
        arm.log.event("not_supported", what="dns", why=why)
        arm.progress.note(f"not supported here: counting DNS: {why}")
        yield Counting(arm, None)
        return
    ready = arm.secrets / f"dns-{arm.directory.label}.ready"
    spec, rights, inside = arm.secrets / f"dns-{arm.directory.label}.json", arm.target_as("observe"), arm.target_as("census")
    CountSpec(
        kubeconfig=rights.kubeconfig, context=rights.context, namespace=stack.namespace, cluster_domain=stack.cluster_domain,
        mail_domain=stack.mail_domain, capture=arm.plan.dns.capture, look_ups=arm.plan.dns.look_ups, arm_dir=str(arm.directory.path), ready=str(ready),
        nonce=f"n{arm.run_id[-4:]}-{arm.block}-{arm.arm.name}"[:40].rstrip("-."), inside=(inside.kubeconfig, inside.context),
    ).write(spec)
    with Child("harness.dns", [spec], arm.directory.path / "dns.out") as child:
        with arm.phase("dns"):
            _wait(arm, child, ready)
        yield Counting(arm, child)


def _wait(arm: ArmRun, child: Child, ready: Path) -> None:
    try:
        wait_for(lambda: ready.exists() or not child.alive, deadline_s=READY_S, what="DNS to be captured", every_s=0.2)
    except NotReady as error:
        arm.incident(str(error), "dns")

"""Where an arm's load runs: as processes on this host, or as pods in the cluster. Either way it has the same handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.kube.gateway import Record
from harness.load import in_cluster, pods
from harness.load import runner as local
from harness.load.in_cluster import ClusterLoad
from harness.load.runner import LoadProcess
from harness.load.spec import LoadSpec
from harness.stack.deployed import Stack

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

#: Beside the load's own time: Locust starts, its workers meet, and its last statistics are written.
_AROUND_S = 120.0


def networks(arm: ArmRun) -> tuple[str, ...]:
    """Networks of the load beside those of this host."""
    return pods.generator_networks(arm.target) if arm.plan.load.in_cluster else ()


def start(arm: ArmRun, stack: Stack, spec: LoadSpec, longest_s: float, *, record: Record) -> LoadProcess | ClusterLoad:
    """Begin the load of ``arm``.

    :param longest_s: whoever waits for it waits no longer.
    :raises MailgaleError: as :func:`harness.load.runner.start` and :func:`harness.load.in_cluster.start`.
    """
    if not arm.plan.load.in_cluster:
        return local.start(spec, arm.directory.path, secrets=arm.secrets)
    ports = tuple(sorted({access.port for access in spec.endpoints.values()}))
    placed = pods.Placed(
        image=arm.images[pods.COMPONENT].ref, workers=arm.plan.load.workers, edges=stack.edges, ports=ports, dns_address=stack.dns_address,
        cluster_domain=stack.cluster_domain, lives_s=longest_s + _AROUND_S, prefers=arm.target.edge.name,
    )
    load = in_cluster.start(spec, arm.directory.path, stack, placed, root=arm.checkout.root, progress=arm.progress, record=record)
    for number, clock in load.clocks.items():
        if number:
            arm.log.event("clock", log=f"load-{number}.log", offset_ns=clock.offset_ns, within_ns=clock.within_ns)
    return load

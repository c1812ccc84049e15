"""After the load: CPU limits that made a component the bottleneck are lifted, so that reading everything takes seconds.

The small limits belong to the experiment (the pod shall saturate, not the machine); the census is no part of it. Where a cluster
cannot resize pods in place, the census is only slower.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.kube.api import ApiFailed
from harness.kube.gateway import Record
from harness.stack.deployed import Stack

READERS = ("mailbox", "mailbox-proxy", "edge")
CPU = "1"


def lift_cpu_limits(stack: Stack, components: Sequence[str] = READERS, *, record: Record | None = None) -> list[str]:
    """Give every running container of ``components`` one core.

    :param record: told of every change.
    :returns: what could not be resized, a sentence each; [] = all were.
    """
    gateway, failed = stack.gateway(record), []
    for pod in (p for c in components for p in stack.cluster.pods(stack.namespace, component=c)):
        for container in (c for c in pod.containers if not c.init):
            try:
                gateway.resize(pod.name, stack.namespace, container.name, cpu=CPU)
            except ApiFailed as error:
                failed.append(f"{pod.name}/{container.name} keeps its CPU limit: {error}")
    return failed

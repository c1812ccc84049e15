"""The observer itself: watchers, followers, and a round of samples at an interval until it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import MailgaleError
from harness.kube.client import Cluster
from harness.observe.dnscounters import DnsSampler
from harness.observe.podlogs import LogCollector
from harness.observe.samplers import EdgeSampler, HostSampler, QueueSampler, parent_lives, sample_all
from harness.observe.sink import Sink
from harness.observe.spec import ObserveSpec
from harness.observe.throttle import CadvisorSampler, ThrottleSampler, cpu_root
from harness.observe.watches import EndpointWatcher, PodWatcher
from harness.support.clock import now_ns

LOG = "observe.log"


class Observer:
    """Everything that observes one namespace; without a kubeconfig in the spec, this host alone.

    :raises NotReady: the kubeconfig cannot be read.
    :raises FileExistsError: there is an observe.log already.
    """

    def __init__(self, spec: ObserveSpec) -> None:
        self.spec = spec
        arm = Path(spec.arm_dir)
        self.sink = Sink(arm / LOG, "observe")
        self._samplers: list[Any] = [HostSampler(self.sink)]
        self._parts: list[Any] = []
        self._pools: list[Any] = []
        if spec.kubeconfig:
            self._watch(spec, arm)

    def _watch(self, spec: ObserveSpec, arm: Path) -> None:
        """Everything that asks a cluster."""
        cluster = Cluster(spec.target())
        self._logs = LogCollector(self.sink, cluster, spec.namespace, arm / "logs", spec.log_bytes_max)
        self._pods = PodWatcher(self.sink, cluster, spec.namespace, self._logs.on_pod)
        self._endpoints = EndpointWatcher(self.sink, cluster, spec.namespace)
        self._queues = QueueSampler(self.sink, cluster, spec.namespace, spec.queues, self._pods.pods)
        self._samplers += [self._queues, self._throttle(cluster)]
        self._parts, self._pools = [self._pods, self._endpoints], [self._queues]
        if spec.dns:
            self._pools.append(DnsSampler(self.sink, cluster, self._pods.pods, inside=Cluster(spec.inside_target())))
            self._samplers.append(self._pools[-1])
        if spec.edge:
            self._samplers.append(EdgeSampler(self.sink, spec.edge, self._pods.pods))

    def run(self, stop: threading.Event) -> None:
        """Observe until ``stop`` is set, the spec's time is over, or the parent is gone; then close the log."""
        parent = os.getppid()
        try:
            for part in self._parts:
                part.start()
            due = time.monotonic()
            while not stop.is_set() and not self._over() and parent_lives(parent):
                sample_all(self._samplers)
                self.sink.flush()
                # Samples that took longer than the interval are not made up for.
                due = max(due + self.spec.interval_s, time.monotonic())
                stop.wait(due - time.monotonic())
        finally:
            self._close()

    def _over(self) -> bool:
        return bool(self.spec.ends_at_ns) and now_ns() >= self.spec.ends_at_ns

    def _throttle(self, cluster: Cluster) -> ThrottleSampler | CadvisorSampler:
        """cgroup files where this host has the nodes' trees, else cadvisor."""
        root = Path(self.spec.cgroup_root)
        if _nodes_are_here(cpu_root(root)):
            return ThrottleSampler(self.sink, root, self._pods.pods)
        return CadvisorSampler(self.sink, cluster, self.spec.namespace, self._pods.pods)

    def _close(self) -> None:
        for part in self._parts:
            part.stop()
        if self._parts:
            self._logs.stop()
        for pool in self._pools:
            pool.close()
        self.sink.close()


def _nodes_are_here(root: Path) -> bool:
    """Whether a kubelet's cgroups are below ``root``: systemd names (``kubelet.slice``) or plain ones (``kubelet``)."""
    patterns = ("*/*/kubelet*", "*/kubelet*", "*/*/*/kubelet*", "kubepods*")
    return any(any(root.glob(pattern)) for pattern in patterns)


def main(spec_path: Path) -> int:
    """Run one observer; exit code 0 when its log was closed well.

    :raises MailgaleError: it could not begin.
    """
    stop = threading.Event()

    def told(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    observer = Observer(ObserveSpec.read(spec_path))
    try:
        observer.run(stop)
    except OSError as error:
        raise MailgaleError(f"cannot write: {error}", where=observer.spec.arm_dir) from error
    return 0

"""``dns_counters``: what each DNS server of the stack has counted since it began: CoreDNS, node caches, unbound, fault proxies.

Read by :mod:`harness.stack.dnsservers`; names and limits of the counters stand in :mod:`harness.model.dnscounters`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from harness.errors import NotReady
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.observe.sink import Sink
from harness.stack.dnsservers import COUNTING, PART, counters_of, instance_of

_EVERY = 2


class DnsSampler:
    """Every second round one event for each running DNS pod.

    As with queues, a pod that was ready or has answered before and does not answer now is a missed sample, one that is only starting or going is none.

    :param pods: the pods as known now.
    :param inside: the cluster by the rights of who may run a command in a pod (default: ``cluster``).
    """

    def __init__(self, sink: Sink, cluster: Cluster, pods: Callable[[], Iterable[Pod]], *, inside: Cluster | None = None) -> None:
        self._sink, self._cluster, self._pods, self._inside = sink, cluster, pods, inside or cluster
        self._pool = ThreadPoolExecutor(4)
        self._known: set[str] = set()
        self._round = 0

    def sample(self) -> None:
        """Ask every DNS pod that runs."""
        self._round += 1
        if self._round % _EVERY == 1:
            asked = [p for p in self._pods() if p.labels.get(PART) in COUNTING and p.phase == "Running"]
            list(self._pool.map(self._one, asked))

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, pod: Pod) -> None:
        try:
            counters = counters_of(self._cluster, pod, inside=self._inside)
        except (ApiFailed, NotReady, ValueError, KeyError) as error:
            if (pod.ready or pod.uid in self._known) and not pod.deleting:
                self._sink.missed(f"dns {pod.name}", f"{type(error).__name__}: {error}")
            return
        self._known.add(pod.uid)
        self._sink.event("dns_counters", pod=pod.name, part=pod.labels[PART], node=pod.node, instance=instance_of(pod), counters=counters)

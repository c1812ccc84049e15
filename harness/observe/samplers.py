"""Samplers that ask at an interval: host, queues, edge."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.observe.sink import Sink

QUEUE_FIELDS = ("incoming", "active", "deferred", "hold", "corrupt", "oldest_s")
EDGE = "edge"
_TIMEOUT_S = 1.5
_EVERYTHING_EVERY = 15


class HostSampler:
    """``host``: share of all CPUs in use since the last sample, memory that is available.

    Source: proc(5). Time waiting for I/O counts as idle, stolen time as used.
    """

    def __init__(self, sink: Sink, proc: Path = Path("/proc")) -> None:
        self._sink, self._proc = sink, proc
        self._before: tuple[int, int] | None = None

    def sample(self) -> None:
        """Take one; the first only sets the mark."""
        try:
            busy, total = self._cpu()
            available = self._available()
        except (OSError, ValueError, IndexError) as error:
            self._sink.missed("host", error)
            return
        before, self._before = self._before, (busy, total)
        if before and total > before[1]:
            share = (busy - before[0]) / (total - before[1])
            self._sink.event("host", cpu_share=round(share, 4), mem_available_bytes=available)

    def _cpu(self) -> tuple[int, int]:
        first = (self._proc / "stat").read_text().split("\n", 1)[0].split()
        # user nice system idle iowait irq softirq steal; guest times are in user already
        ticks = [int(v) for v in first[1:9]]
        total = sum(ticks)
        return total - ticks[3] - ticks[4], total

    def _available(self) -> int:
        for line in (self._proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        raise ValueError("no MemAvailable in meminfo")


class QueueSampler:
    """``queue``: depth of each queue of each pod, by the pod's own status page, through the API server's proxy.

    A pod that has answered or was ready once and does not answer now is a missed sample; one that is only starting, or
    being deleted, is none.

    :param ports: component → port; the page is ``/queue``.
    :param pods: the pods as known now.
    """

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str, ports: Mapping[str, int], pods: Callable[[], Iterable[Pod]]) -> None:
        self._sink, self._cluster, self._namespace, self._ports, self._pods = sink, cluster, namespace, ports, pods
        self._pool = ThreadPoolExecutor(4)
        self._known: set[str] = set()

    def sample(self) -> None:
        """Ask every running pod that has a queue."""
        asked = [p for p in self._pods() if p.component in self._ports and p.phase == "Running"]
        list(self._pool.map(self._one, asked))

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, pod: Pod) -> None:
        try:
            body = self._cluster.proxy_get(self._namespace, pod.name, self._ports[pod.component], "/queue", timeout_s=_TIMEOUT_S)
            answer = json.loads(body)
            figures = {name: answer[name] for name in QUEUE_FIELDS}
        except (ApiFailed, ValueError, KeyError, TypeError) as error:
            if (pod.ready or pod.uid in self._known) and not pod.deleting:
                self._sink.missed(f"queue {pod.name}", f"{type(error).__name__}: {error}")
            return
        self._known.add(pod.uid)
        self._sink.event("queue", pod=pod.name, component=pod.component, **figures)


class EdgeSampler:
    """``edge``: sessions and state of HAProxy's servers and frontends, when they change, and all of them every 15th time.

    :param address: ``host:port`` of its statistics (an IPv6 host in brackets).
    :param pods: the pods as known now; while none is a running edge there is nothing to ask.
    """

    def __init__(self, sink: Sink, address: str, pods: Callable[[], Iterable[Pod]]) -> None:
        self._sink, self._address, self._pods = sink, address, pods
        self._answered = False
        self._known: dict[tuple[str, str], tuple[int, str]] = {}
        self._count = 0

    def sample(self) -> None:
        """Ask once. As with queues, an edge that has never been ready or answered is not missed."""
        edges = [p for p in self._pods() if p.component == EDGE and p.phase == "Running" and not p.deleting]
        if not edges and not self._answered:
            return
        try:
            rows = parse_statistics(self._get())
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            if self._answered or any(p.ready for p in edges):
                self._sink.missed("edge", f"{type(error).__name__}: {error}")
            return
        self._answered = True
        everything = self._count % _EVERYTHING_EVERY == 0
        self._count += 1
        for key, value in rows.items():
            if everything or self._known.get(key) != value:
                self._sink.event("edge", proxy=key[0], server=key[1], sessions=value[0], status=value[1])
        self._known = rows

    def _get(self) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/stats;csv")
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            return answer.read().decode()
        finally:
            connection.close()


def parse_statistics(text: str) -> dict[tuple[str, str], tuple[int, str]]:
    """(proxy, server) → (sessions, status) of HAProxy's CSV statistics. Source: HAProxy management guide, 9.1.

    :raises ValueError: no such CSV.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    if not reader.fieldnames or "pxname" not in reader.fieldnames:
        raise ValueError("no statistics")
    return {(row["pxname"], row["svname"]): (int(row["scur"] or 0), row["status"]) for row in reader}


def parent_lives(parent: int) -> bool:
    """Whether the process that started this one is still its parent."""
    return os.getppid() == parent


def sample_all(samplers: Iterable[Any]) -> None:
    """One round."""
    for one in samplers:
        one.sample()

"""CPU throttling of pods: cgroup files on this host where the nodes are containers here, else cadvisor through the API.

A pod is shown by its first container: the mail daemon, not its sidecars.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Container, Pod
from harness.observe.sink import Sink

_DEPTH_MAX = 12
_CADVISOR_EVERY = 5
_SERIES = re.compile(r'^(container_cpu_\w+|container_spec_cpu_\w+)\{([^}]*)\} (\S+)')
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Usage:
    """Counters of one container since it began. ``quota_cores`` is 0 when it has no limit."""

    periods: int
    throttled: int
    throttled_ns: int
    usage_ns: int
    quota_cores: float


class ThrottleSampler:
    """``throttle`` events from cgroups v1 or v2.

    :param root: ``/sys/fs/cgroup``.
    """

    def __init__(self, sink: Sink, root: Path, pods: Callable[[], Iterable[Pod]]) -> None:
        self._sink, self._pods = sink, pods
        self._root = cpu_root(root)
        self._accounting = self._root.parent / "cpuacct" if self._root != root else self._root
        self._folders: dict[str, Path] = {}
        self._unread: set[str] = set()

    def sample(self) -> None:
        """One of each running pod."""
        running = [(p, c) for p in self._pods() if (c := main_container(p)) is not None]
        self._find({c.id for _, c in running})
        for pod, container in running:
            folder = self._folders.get(container.id)
            try:
                if folder is None:
                    raise FileNotFoundError("no cgroup of this container on this host")
                found = self._read(folder)
            except (OSError, ValueError, KeyError) as error:
                self._folders.pop(container.id, None)
                # Once is a container that ended a moment ago, which the watch has not told yet.
                if container.id in self._unread and not pod.deleting:
                    self._sink.missed(f"throttle {pod.name}", f"{type(error).__name__}: {error}")
                self._unread.add(container.id)
                continue
            self._unread.discard(container.id)
            _emit(self._sink, pod, container, found)

    def _find(self, ids: set[str]) -> None:
        for gone in set(self._folders) - ids:
            del self._folders[gone]
        missing = ids - set(self._folders)
        if missing:
            self._folders.update(_search(self._root, missing))

    def _read(self, folder: Path) -> Usage:
        if (folder / "cpu.max").exists():
            return read_v2(folder)
        return read_v1(folder, self._accounting / folder.relative_to(self._root))


class CadvisorSampler:
    """``throttle`` events from the kubelets' cadvisor: coarser, since it looks every 10 s or so by itself."""

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str, pods: Callable[[], Iterable[Pod]]) -> None:
        self._sink, self._cluster, self._namespace, self._pods = sink, cluster, namespace, pods
        self._count = 0

    def sample(self) -> None:
        """Every fifth call one of each running pod."""
        self._count += 1
        if self._count % _CADVISOR_EVERY != 1:
            return
        running = [(p, c) for p in self._pods() if (c := main_container(p)) is not None]
        usages: dict[tuple[str, str], Usage] = {}
        for node in sorted({p.node for p, _ in running}):
            try:
                text = self._cluster.api.read("GET", f"/api/v1/nodes/{node}/proxy/metrics/cadvisor", accept="*/*")
                usages |= parse_cadvisor(text.decode(), self._namespace)
            except (ApiFailed, ValueError) as error:
                self._sink.missed(f"throttle {node}", error)
        for pod, container in running:
            if (found := usages.get((pod.name, container.name))) is not None:
                _emit(self._sink, pod, container, found)


def cpu_root(root: Path) -> Path:
    """Where the CPU controller's tree begins: the root itself on v2, ``cpu`` or ``cpu,cpuacct`` on v1."""
    for name in ("cpu", "cpu,cpuacct"):
        if (root / name / "cpu.cfs_quota_us").exists() or (root / name / "cpu.shares").exists():
            return root / name
    return root


def main_container(pod: Pod) -> Container | None:
    """The pod's first running container that is none of init; None when it does not run."""
    first = next((c for c in pod.containers if not c.init), None)
    return first if first is not None and first.state == "running" and first.id else None


def read_v2(folder: Path) -> Usage:
    """Source: Linux Documentation/admin-guide/cgroup-v2.rst, ``cpu.stat`` and ``cpu.max``."""
    stat = _pairs(folder / "cpu.stat")
    quota, period = (folder / "cpu.max").read_text().split()
    return Usage(
        stat.get("nr_periods", 0), stat.get("nr_throttled", 0), stat.get("throttled_usec", 0) * 1000, stat["usage_usec"] * 1000,
        0.0 if quota == "max" else int(quota) / int(period),
    )


def read_v1(folder: Path, accounting: Path) -> Usage:
    """Source: Linux Documentation/scheduler/sched-bwc.rst; ``throttled_time`` is in nanoseconds there."""
    stat = _pairs(folder / "cpu.stat")
    quota, period = (int((folder / f"cpu.cfs_{n}_us").read_text()) for n in ("quota", "period"))
    used = int((accounting / "cpuacct.usage").read_text())
    return Usage(stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"], used, quota / period if quota > 0 else 0.0)


def parse_cadvisor(text: str, namespace: str) -> dict[tuple[str, str], Usage]:
    """(pod, container) → Usage from cadvisor's metrics (Prometheus text format)."""
    seen: dict[tuple[str, str], dict[str, float]] = {}
    for name, labels, value in _series(text):
        if labels.get("namespace") == namespace and labels.get("container"):
            seen.setdefault((labels["pod"], labels["container"]), {})[name] = value
    return {key: _usage(values) for key, values in seen.items() if "container_cpu_usage_seconds_total" in values}


def _series(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for line in text.splitlines():
        if found := _SERIES.match(line):
            yield found[1], dict(_LABEL.findall(found[2])), float(found[3])


def _usage(values: Mapping[str, float]) -> Usage:
    quota, period = values.get("container_spec_cpu_quota", 0.0), values.get("container_spec_cpu_period", 0.0)
    return Usage(
        int(values.get("container_cpu_cfs_periods_total", 0)), int(values.get("container_cpu_cfs_throttled_periods_total", 0)),
        int(values.get("container_cpu_cfs_throttled_seconds_total", 0) * 1e9), int(values["container_cpu_usage_seconds_total"] * 1e9),
        quota / period if period else 0.0,
    )


def _emit(sink: Sink, pod: Pod, container: Container, found: Usage) -> None:
    sink.event(
        "throttle", pod=pod.name, component=pod.component, container=container.name, periods=found.periods, throttled=found.throttled,
        throttled_ns=found.throttled_ns, usage_ns=found.usage_ns, quota_cores=round(found.quota_cores, 4),
    )


def _pairs(path: Path) -> dict[str, int]:
    return {k: int(v) for k, v in (line.split() for line in path.read_text().splitlines())}


def _search(root: Path, ids: set[str]) -> dict[str, Path]:
    """Folders whose names hold a container's id, e.g. ``cri-containerd-<id>.scope`` or plain ``<id>``."""
    found: dict[str, Path] = {}
    depth = len(root.parts)
    for folder, below, _ in os.walk(root):
        name = os.path.basename(folder)
        for one in ids:
            if one in name:
                found[one] = Path(folder)
                below.clear()
        if len(found) == len(ids) or len(Path(folder).parts) - depth >= _DEPTH_MAX:
            below.clear()
    return found

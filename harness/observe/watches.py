"""Watchers: pods and endpoints, an event on every change that matters, and none in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import EndpointSlice, Pod, pod_of, slice_of
from harness.kube.watch import Change, Watch
from harness.observe.sink import Sink


class Watcher:
    """A watch in a thread of its own. Subclasses say what a change means."""

    what = ""

    def __init__(self, sink: Sink, cluster: Cluster, path: str) -> None:
        self._sink = sink
        self._watch = Watch(cluster, path, on_break=self._broken)
        self._thread = threading.Thread(target=self._run, name=f"watch {self.what}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; the thread is waited for."""
        self._watch.stop()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        for change in self._watch:
            self.on_change(change)

    def on_change(self, change: Change) -> None:
        """What a change means."""
        raise NotImplementedError

    def _broken(self, error: ApiFailed) -> None:
        self._sink.missed(self.what, error)


class PodWatcher(Watcher):
    """``pod`` events; knows the pods for the samplers.

    A pod that is gone has phase ``Deleted``.

    :param on_pod: told of each pod as it is now (the log followers).
    """

    what = "pods"

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str, on_pod: Callable[[Pod], None]) -> None:
        super().__init__(sink, cluster, f"/api/v1/namespaces/{namespace}/pods")
        self._on_pod = on_pod
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._said: dict[str, dict[str, Any]] = {}

    def pods(self) -> list[Pod]:
        """The pods as known now."""
        with self._lock:
            return list(self._pods.values())

    def on_change(self, change: Change) -> None:
        """Remember, say what changed, tell the followers."""
        pod, gone = pod_of(change.object), change.type == "DELETED"
        with self._lock:
            if gone:
                self._pods.pop(pod.uid, None)
            else:
                self._pods[pod.uid] = pod
        now = {
            "pod": pod.name, "component": pod.component, "uid": pod.uid, "node": pod.node, "phase": "Deleted" if gone else pod.phase,
            "ready": pod.ready and not gone, "restarts": pod.restarts, "ips": list(pod.ips), "deleting": pod.deleting or gone,
        }
        if self._said.get(pod.uid) != now:
            self._said[pod.uid] = now
            self._sink.event("pod", **now)
        if not gone:
            self._on_pod(pod)


class EndpointWatcher(Watcher):
    """``endpoints`` events: the ready addresses of each Service, both families, whenever they change."""

    what = "endpoints"

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str) -> None:
        super().__init__(sink, cluster, f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
        self._slices: dict[str, EndpointSlice] = {}
        self._said: dict[str, list[str]] = {}

    def on_change(self, change: Change) -> None:
        """Join the slices of the Service concerned."""
        found = slice_of(change.object)
        if change.type == "DELETED":
            self._slices.pop(found.name, None)
        else:
            self._slices[found.name] = found
        ready = sorted(e.address for s in self._slices.values() if s.service == found.service for e in s.endpoints if e.ready)
        if self._said.get(found.service) != ready:
            self._said[found.service] = ready
            self._sink.event("endpoints", service=found.service, ready=ready)

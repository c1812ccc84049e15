"""Whether a stack is ready: every workload says so, and then mail passes through it end to end."""

from __future__ import annotations

import calendar
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import StackFailed
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Pod, pod_of
from harness.kube.watch import Change, Watch
from harness.support.progress import Progress

#: States of a container that waiting does not cure.
_HOPELESS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"})
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
#: The API may say NotFound for a Secret that was applied a moment ago, so hopeless states must last.
_HOPELESS_AFTER_S = 10.0
_LOG_LINES = 15


@dataclass(frozen=True)
class Expected:
    """How many ready pods a workload must have; ``labels`` select them."""

    name: str  #: ``Kind/name``
    labels: Mapping[str, str]
    pods: int

    def ready(self, pods: Sequence[Pod]) -> bool:
        """Whether enough of ``pods`` are its own and ready."""
        return sum(p.ready and not p.deleting for p in pods if self.labels.items() <= p.labels.items()) >= self.pods


def expected_of(manifests: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, str]] = ()) -> list[Expected]:
    """What the workloads in ``manifests`` promise.

    :param nodes: labels of each node, for DaemonSets.
    """
    found = []
    for manifest in manifests:
        kind = str(manifest.get("kind"))
        if kind in _WORKLOADS:
            spec = manifest["spec"]
            wants = (spec["template"]["spec"].get("nodeSelector") or {}).items()
            pods = sum(wants <= n.items() for n in nodes) if kind == "DaemonSet" and wants else int(spec.get("replicas", 1))
            found.append(Expected(f"{kind}/{manifest['metadata']['name']}", spec["selector"]["matchLabels"], max(pods, 0)))
    return found


def wait_ready(cluster: Cluster, namespace: str, expected: Sequence[Expected], *, deadline_s: float, progress: Progress) -> None:
    """Wait until every workload has its ready pods. Watches; does not poll.

    :raises StackFailed: after ``deadline_s``, or at once when an image cannot be had or a Secret is missing. The message
        says which pods are not ready, why, and what they logged last.
    """
    pods: dict[str, Pod] = {}
    missing = list(expected)
    for _ in _changes(cluster, namespace, pods, deadline_s):
        missing = [e for e in expected if not e.ready(list(pods.values()))]
        if not missing:
            return
        progress.waiting(", ".join(m.name for m in missing))
        _hopeless(pods.values(), namespace)
    raise StackFailed(
        f"not ready after {deadline_s:.0f} s: {', '.join(m.name for m in missing)}\n{describe(cluster, namespace)}", where=namespace,
        todo="mailgale stack status",
    )


def describe(cluster: Cluster, namespace: str) -> str:
    """Why pods are not ready: states, last log lines, last warnings. For an error message."""
    try:
        pods = [p for p in cluster.pods(namespace) if not p.ready and p.phase != "Succeeded"]
        lines = [line for pod in pods[:6] for line in _why(cluster, pod)]
        warnings = [e for e in cluster.events(namespace) if e.get("type") == "Warning"][-8:]
    except ApiFailed as error:
        return f"and the API server does not say why: {error}"
    lines += [f"  event: {e['involvedObject'].get('name')}: {e.get('reason')}: {str(e.get('message'))[:300]}" for e in warnings]
    return "\n".join(lines) or "every pod that exists is ready"


def _changes(cluster: Cluster, namespace: str, pods: dict[str, Pod], deadline_s: float) -> Iterator[None]:
    """Keep ``pods`` as they are; a turn at the beginning, after each change, and every other second, until the deadline."""
    watch = Watch(cluster, f"/api/v1/namespaces/{namespace}/pods")
    told: queue.SimpleQueue[Change] = queue.SimpleQueue()

    def tell() -> None:
        for change in watch:
            told.put(change)

    thread = threading.Thread(target=tell, name="watch pods", daemon=True)
    thread.start()
    end = time.monotonic() + deadline_s
    try:
        yield
        while (left := end - time.monotonic()) > 0:
            try:
                change = told.get(timeout=min(2.0, left))
            except queue.Empty:
                # Nothing changes any more once an image cannot be had, so its age has to be looked at without a change.
                yield
                continue
            pod = pod_of(change.object)
            if change.type == "DELETED":
                pods.pop(pod.uid, None)
            else:
                pods[pod.uid] = pod
            yield
    finally:
        watch.stop()
        thread.join(3)


def _hopeless(pods: Iterable[Pod], namespace: str) -> None:
    for pod in pods:
        for container in pod.containers:
            if container.state == "waiting" and container.reason in _HOPELESS and _age_s(pod) > _HOPELESS_AFTER_S:
                raise StackFailed(
                    f"pod {pod.name} cannot start: {container.name}: {container.reason} ({container.image or _image(pod, container.name)})",
                    where=namespace, todo="are the images on the nodes? mailgale stack up brings them",
                )


def _age_s(pod: Pod) -> float:
    created = str(pod.raw["metadata"].get("creationTimestamp", ""))
    try:
        return time.time() - calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0.0


def _image(pod: Pod, container: str) -> str:
    return next((str(c.get("image")) for c in pod.raw["spec"]["containers"] if c["name"] == container), "")


def _why(cluster: Cluster, pod: Pod) -> Iterator[str]:
    yield f"  pod {pod.name}: {pod.phase}{', being deleted' if pod.deleting else ''}, node {pod.node or 'none yet'}"
    for container in (c for c in pod.containers if not c.ready and not (c.init and c.exit_code == 0)):
        yield f"    {container.name}: {container.state} {container.reason}, {container.restarts} restarts"
        try:
            text = cluster.logs(pod.namespace, pod.name, container.name, tail_lines=_LOG_LINES, previous=container.state == "waiting" and container.restarts > 0)
        except ApiFailed:
            continue
        yield from (f"      | {line[:300]}" for line in text.splitlines()[-_LOG_LINES:])

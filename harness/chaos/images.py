"""The image in a workload's pod template: read, replaced, brought back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.chaos.nodes import FaultFailed
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.kube.objects import Pod

#: Ends the name of an image that no registry and no node has.
MISSING = "-does-not-exist"
#: Why a container waits whose image cannot be had.
REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})


def of(workload: Mapping[str, Any], container: str = "") -> tuple[str, str]:
    """(name, image) of the container called ``container``, or of the first one.

    :raises FaultFailed: there is none of that name.
    """
    containers = workload["spec"]["template"]["spec"]["containers"]
    for one in containers:
        if container in ("", one["name"]):
            return str(one["name"]), str(one["image"])
    raise FaultFailed(f"has no container '{container}'", where=str(workload["metadata"]["name"]))


def put(gateway: Gateway, namespace: str, workload: str, container: str, image: str) -> None:
    """Have the workload ``Kind/name`` roll out ``image``."""
    kind, _, name = workload.partition("/")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}}
    gateway.patch("apps/v1", kind, name, namespace, patch, how="strategic")


def waits(pod: Pod) -> bool:
    """Whether a container of the pod waits for an image that cannot be had."""
    return any(c.state == "waiting" and c.reason in REASONS for c in pod.containers)


def restore(cluster: Cluster, gateway: Gateway, namespace: str, entry: Mapping[str, Any]) -> str:
    """Undo: the old image back in the template, read back, and pods that wait for the missing one deleted. "" or what is left."""
    workload, container, image = str(entry["workload"]), str(entry["container"]), str(entry["image"])
    kind, _, name = workload.partition("/")
    found = cluster.find("apps/v1", kind, name, namespace)
    if found is None:
        return ""
    if of(found, container)[1] != image:
        put(gateway, namespace, workload, container, image)
    now = cluster.find("apps/v1", kind, name, namespace) or found
    if of(now, container)[1] != image:
        return f"{workload} still has the image {of(now, container)[1]}"
    for pod in cluster.pods(namespace):
        if pod.name.startswith(f"{name}-") and waits(pod):
            gateway.delete_pod(pod.name, namespace, uid=pod.uid)
    return ""

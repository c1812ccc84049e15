"""How faults of storage, resources and dependencies are undone. Each is idempotent and reads back what it did; "" or what is left.

Kept apart from the faults, since ``mailgale recover`` undoes without a fault under way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.chaos.undo import Entry
from harness.cluster import filesystems
from harness.errors import CommandFailed, NotSupported
from harness.kube.api import ApiFailed
from harness.support.shell import run

if TYPE_CHECKING:
    from harness.chaos.world import Hands

#: Set aside while an attach is refused.
ASIDE = ".detached"
_LOOK_S, _BACK_S, _AWAY_S, _DOCKER_S = 0.2, 60.0, 120.0, 30.0


def _thaw_volume(hands: Hands, entry: Entry) -> str:
    path = Path(str(entry["path"]))
    if not path.is_dir() or not filesystems.own(path):
        return ""  # it went with its stack
    filesystems.thaw(path)
    return f"{path} is still frozen" if filesystems.frozen(path) else ""


def _volume_repair(hands: Hands, entry: Entry) -> str:
    path, workload, replicas = Path(str(entry["path"])), str(entry["workload"]), int(entry["replicas"])
    namespace = hands.spec.namespace
    if hands.cluster.namespace(namespace) is None or not path.is_dir():
        return ""
    if not filesystems.own(path) or not filesystems.writable(path):
        hands.gateway.scale(workload, namespace, 0)
        if left := _until(lambda: _users_of(hands, path.name), _AWAY_S):
            return left
        filesystems.repair(hands.cluster.target, namespace, path.name)
    hands.gateway.scale(workload, namespace, replicas)
    return hands.until_whole(workload, replicas, _AWAY_S)


def _users_of(hands: Hands, claim: str) -> str:
    """"" when no pod has ``claim`` any more, else which one."""
    for pod in hands.cluster.pods(hands.spec.namespace):
        for volume in pod.raw.get("spec", {}).get("volumes") or []:
            if (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim:
                return f"pod {pod.name} still uses {claim}"
    return ""


def _unlink(hands: Hands, entry: Entry) -> str:
    path = Path(str(entry["path"]))
    path.unlink(missing_ok=True)
    return f"{path} is still there" if path.exists() else ""


def _reattach(hands: Hands, entry: Entry) -> str:
    path = Path(str(entry["path"]))
    aside = path.with_name(path.name + ASIDE)
    if aside.is_dir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file():
            path.unlink()
        if not path.exists():
            aside.rename(path)
    return f"the volume is still set aside as {aside}" if aside.exists() else ""


def _pod_gone(hands: Hands, entry: Entry) -> str:
    name, namespace = str(entry["pod"]), hands.spec.namespace
    if hands.cluster.namespace(namespace) is None:
        return ""
    hands.gateway.delete_pod(name, namespace, 0)
    return _until(lambda: "" if hands.cluster.pod(namespace, name) is None else f"pod {name} is still there")


def _service_selector(hands: Hands, entry: Entry) -> str:
    name, wanted, namespace = str(entry["service"]), dict(entry["selector"]), hands.spec.namespace
    found = hands.cluster.find("v1", "Service", name, namespace)
    if found is None:
        return ""  # it went with its namespace
    if found["spec"].get("selector") != wanted:
        hands.gateway.patch("v1", "Service", name, namespace, [{"op": "replace", "path": "/spec/selector", "value": wanted}], how="json")
    return _until(lambda: _own_endpoints(hands, name, wanted))


def _own_endpoints(hands: Hands, service: str, selector: dict[str, str]) -> str:
    """"" when every endpoint of ``service`` is a pod that its selector means."""
    found = hands.cluster.find("v1", "Service", service, hands.spec.namespace)
    if found is None or found["spec"].get("selector") != selector:
        return f"service {service} still has another selector"
    meant = {p.name for p in hands.cluster.pods(hands.spec.namespace) if selector.items() <= dict(p.labels).items()}
    strangers = {e.pod for s in hands.cluster.endpointslices(hands.spec.namespace, service) for e in s.endpoints} - meant
    return f"service {service} still leads to {', '.join(sorted(strangers))}" if strangers else ""


def _node_cores(hands: Hands, entry: Entry) -> str:
    node = str(entry["node"])
    known(hands, node)
    run(["docker", "update", "--cpu-quota", str(entry["quota"]), node], timeout_s=_DOCKER_S)
    return "" if (now := cpu_quota(node)) == int(entry["quota"]) else f"node {node} still has a CPU quota of {now} µs"


def _fd_limits(hands: Hands, entry: Entry) -> str:
    """Every process that the container has by now gets its old soft limit back: those begun meanwhile have inherited the small one."""
    node, container = str(entry["node"]), str(entry["container"])
    found = hands.nodes.processes(node, container)
    for process in found:
        run(["docker", "exec", node, "prlimit", "--pid", str(process.pid), f"--nofile={entry['soft']}:"], timeout_s=_DOCKER_S, check=False)
    small = [p.pid for p in hands.nodes.alive(node, found) if 0 < fd_limit(node, p.pid) < int(entry["soft"])]
    return f"processes on {node} with few files still: {small}" if small else ""


def _container_start(hands: Hands, entry: Entry) -> str:
    """A container of the cluster that was paused or stopped (a control-plane node, the API's load balancer) runs again, and the API answers."""
    name = str(entry["container"])
    if container_state(name) == "paused":
        run(["docker", "unpause", name], timeout_s=_DOCKER_S)
    if container_state(name) != "running":
        run(["docker", "start", name], timeout_s=_DOCKER_S)
    if (state := container_state(name)) != "running":
        return f"{name} is {state}"
    return _until(lambda: _control_plane_back(hands, name), 120.0)


def _control_plane_back(hands: Hands, name: str) -> str:
    try:
        nodes = {n.name: n.ready for n in hands.cluster.nodes()}
    except ApiFailed as error:
        return f"the API does not answer yet: {error.what}"
    return f"node {name} is not ready" if not nodes.get(name, True) else ""


def _static_pod(hands: Hands, entry: Entry) -> str:
    node, name = str(entry["node"]), str(entry["name"])
    known(hands, node)
    script = '[ ! -e "/kind/aside-$1.yaml" ] || mv "/kind/aside-$1.yaml" "/etc/kubernetes/manifests/$1.yaml"; [ -e "/etc/kubernetes/manifests/$1.yaml" ]'
    run(["docker", "exec", node, "sh", "-c", script, "sh", name], timeout_s=_DOCKER_S)
    return _until(lambda: "" if static_pod_runs(node, name) else f"{name} does not run on {node} yet", 120.0)


UNDO: dict[str, Callable[[Hands, Entry], str]] = {
    "thaw_volume": _thaw_volume, "volume_repair": _volume_repair, "unlink": _unlink, "reattach": _reattach, "pod_gone": _pod_gone, "service_selector": _service_selector,
    "node_cores": _node_cores, "fd_limits": _fd_limits, "container_start": _container_start, "static_pod": _static_pod,
}  # fmt: skip


def known(hands: Hands, node: str) -> None:
    """Refuse a node that is none of our own kind cluster.

    :raises NotSupported: no kind cluster. :raises CommandFailed: the target has no such node.
    """
    target = hands.cluster.target
    if target.kind != "kind":
        raise NotSupported("nodes can be reached on kind clusters only")
    if node not in {n.name for n in target.nodes}:
        raise CommandFailed("the target has no such node", where=node)


def cpu_quota(node: str) -> int:
    """The CPU quota of a node's container in µs for each 100 ms; 0 or -1 = none. As the engine has it."""
    return int(run(["docker", "inspect", "--format", "{{.HostConfig.CpuQuota}}", node], timeout_s=_DOCKER_S).stdout)


def fd_limit(node: str, pid: int) -> int:
    """The soft limit of open files of a process on ``node``; 0 when it is gone."""
    found = run(["docker", "exec", node, "prlimit", "--pid", str(pid), "--nofile", "--output", "SOFT", "--noheadings"], timeout_s=_DOCKER_S, check=False)
    return int(found.stdout) if found.code == 0 and found.stdout.strip().isdigit() else 0


def container_state(name: str) -> str:
    """What the engine says of a container: ``running``, ``paused``, ``exited``, …"""
    return run(["docker", "inspect", "--format", "{{.State.Status}}", name], timeout_s=_DOCKER_S).stdout.strip()


def static_pod_runs(node: str, name: str) -> bool:
    """Whether a process called ``name`` (etcd, kube-apiserver, …) runs on ``node``."""
    return run(["docker", "exec", node, "pgrep", "-x", name[:15]], timeout_s=_DOCKER_S, check=False).code == 0


def _until(left: Callable[[], str], limit_s: float = _BACK_S) -> str:
    end = time.monotonic() + limit_s
    while (what := left()) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return what


def free_octets(path: Path) -> int:
    """What an ordinary process may still write to the file system at ``path``."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize

"""A neighbour that uses its node up, beside a component (T36), and what a container of the component runs out of.

The hog is a pod of its own with limits, made of the victim's image, bound to the victim's node. On kind all nodes share one machine, so the node's
container is given a CPU quota first: what the hog takes, it takes from the pods of that node, not from the load. Sources: cgroups(7), proc(5),
docker update.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from harness.chaos import restore
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed
from harness.errors import CommandFailed, NotSupported
from harness.kube.objects import COMPONENT, Pod
from harness.support.shell import run

RESOURCES = ("cpu", "memory", "io")
_TICKS = 100  # USER_HZ: the kernel's unit in /proc/PID/stat, the same on every architecture
_PAGE = 4096
_DOCKER_S = 30.0
#: Less than this share of what was asked for is no hog.
_SHARE_MIN = 0.1
_PERIOD_US = 100_000
_SCRIPTS = {
    "cpu": 'for i in $(seq "$1"); do while :; do :; done & done; wait',
    "memory": 'head -c "${1}M" /dev/zero | tail -c "${1}M" | sleep 3600',
    "io": 'n=0; while :; do dd if=/dev/zero of=/hog/file bs=1M count="$1" conv=fsync status=none; n=$((n + 1)); echo $n >/hog/rounds; sleep 1; done',
}
_READ = {
    "cpu": "cat /proc/[0-9]*/stat 2>/dev/null", "memory": "cat /proc/[0-9]*/statm 2>/dev/null", "io": "cat /hog/rounds 2>/dev/null || echo 0",
}


def hog(
    component: str, pods: int = 1, resource: str = "cpu", cores: float = 1.0, mib: int = 128, node_cores: float = 1.0, for_s: float = 20.0,
    victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Start a heavy pod on the nodes of the pods ``victims`` for ``for_s`` seconds.

    :param resource: ``cpu`` (as much as ``cores`` of it), ``memory`` (``mib`` of it), ``io`` (``mib`` written and synced again and again).
    :param node_cores: on kind, what the node's container may use in all while it lasts; elsewhere nodes are machines, and it means nothing.
    Evidence: what the hog's processes used, read in its pod: CPU seconds, resident octets, rounds of writing. Undone when the pod is gone and the
    node's quota as before. Known limits: on kind the disk and its cache are the host's; memory is bounded by the pod's limit only.
    """
    act = partial(_hog, resource=resource, cores=cores, mib=mib, node_cores=node_cores, for_s=for_s)
    return carry_out("hog", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _hog(f: Fault, resource: str, cores: float, mib: int, node_cores: float, for_s: float) -> None:
    if resource not in RESOURCES:
        raise FaultFailed(f"there is no hog of '{resource}'", where=f.name, todo=f"one of {', '.join(RESOURCES)}")
    hit = {f"hog-{f.name}-{n}"[:60]: f.pod(v) for n, v in enumerate(f.victims)}
    quotas = _bound_nodes(f, sorted({p.node for p in hit.values()}), node_cores) if resource == "cpu" else {}
    cores = min(cores, node_cores) if quotas else cores  # no control group may have more than the one it is in
    for name in hit:
        f.arm("pod_gone", pod=name)
    f.say("begin", resource=resource, for_s=for_s, nodes={n: p.node for n, p in hit.items()}, node_quota_us=quotas)
    manifests = [_manifest(n, p, resource, cores, mib) for n, p in hit.items()]
    f.world.gateway.apply(manifests, f.world.spec.namespace)
    for name in hit:
        f.until(partial(_runs, f, name), f"the hog {name} runs")
    before, begun = {n: _used(f, n, resource) for n in hit}, time.monotonic()
    f.hold(for_s)
    for name, pod in hit.items():
        lasted = time.monotonic() - begun
        used = _used(f, name, resource) - (before[name] if resource != "memory" else 0)
        _enough(name, resource, used, {"cpu": cores * lasted, "memory": mib * 2**20, "io": 1.0}[resource])
        f.say("evidence", hog=name, node=pod.node, beside=pod.name, resource=resource, used=round(used, 3), unit=_unit(resource), lasted_s=round(lasted, 2))
    f.say("end")


def _unit(resource: str) -> str:
    return {"cpu": "CPU seconds", "memory": "octets resident", "io": "rounds"}[resource]


def _enough(name: str, resource: str, used: float, asked: float) -> None:
    if used < _SHARE_MIN * asked:
        raise FaultFailed(f"used {used:.1f} {_unit(resource)} where {asked:.1f} were asked for: nothing was shown", where=name)


def _bound_nodes(f: Fault, nodes: list[str], cores: float) -> dict[str, int]:
    """Give each node's container a CPU quota, the old one written down first; the quotas. Nothing is done where nodes are machines.

    :raises NotSupported: the kernel refuses, since a container on the node may use more by itself.
    """
    if f.world.cluster.target.kind != "kind":
        return {}
    quota = int(cores * _PERIOD_US)
    for node in nodes:
        restore.known(f.world, node)
        f.arm("node_cores", node=node, quota=restore.cpu_quota(node) or -1)
        try:
            run(["docker", "update", "--cpu-period", str(_PERIOD_US), "--cpu-quota", str(quota), node], timeout_s=_DOCKER_S)
        except CommandFailed as error:
            raise NotSupported(f"{node} cannot be bounded to {cores} cores, perhaps since one of its containers may use more: {error}") from error
        if (now := restore.cpu_quota(node)) != quota:
            raise FaultFailed(f"has a quota of {now} µs instead of {quota}", where=node)
    return dict.fromkeys(nodes, quota)


def _manifest(name: str, beside: Pod, resource: str, cores: float, mib: int) -> dict[str, Any]:
    milli = f"{int(cores * 1000)}m"
    memory = f"{mib + 64}Mi" if resource == "memory" else "64Mi"
    argument = str(max(1, round(cores + 0.499)) if resource == "cpu" else mib)
    wanted = {"cpu": milli if resource == "cpu" else "100m", "memory": memory}
    container = {
        "name": "hog", "image": beside.raw["spec"]["containers"][0]["image"], "imagePullPolicy": "IfNotPresent",
        "command": ["bash", "-c", _SCRIPTS[resource], "hog", argument], "resources": {"requests": wanted, "limits": wanted},
        "volumeMounts": [{"name": "hog", "mountPath": "/hog"}],
    }
    spec = {
        "nodeName": beside.node, "containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
        "enableServiceLinks": False, "automountServiceAccountToken": False, "volumes": [{"name": "hog", "emptyDir": {}}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {COMPONENT: "hog"}}, "spec": spec}


def _runs(f: Fault, name: str) -> bool:
    pod = f.world.pod(name)
    if pod is not None and pod.phase == "Failed":
        why = pod.raw.get("status", {}).get("reason") or ", ".join(c.reason for c in pod.containers)
        raise FaultFailed(f"the hog ended before its time: {why}", where=name)
    return pod is not None and pod.phase == "Running" and pod.ready


def _used(f: Fault, name: str, resource: str) -> float:
    """What the processes of the hog have used so far: CPU seconds, resident octets, rounds."""
    done = f.world.cluster.exec(f.world.spec.namespace, name, "hog", ["bash", "-c", _READ[resource]])
    return measured(resource, done.stdout.decode(errors="replace"))


def measured(resource: str, text: str) -> float:
    """CPU seconds of all lines of /proc/PID/stat, resident octets of all of /proc/PID/statm, or one number (proc(5))."""
    lines = [line for line in text.splitlines() if line.strip()]
    if resource == "cpu":
        return sum(sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in lines) / _TICKS
    if resource == "memory":
        return float(sum(int(line.split()[1]) for line in lines) * _PAGE)
    return float(lines[-1]) if lines else 0.0

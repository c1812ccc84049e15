"""A running pod as a place for look-ups: its network namespace and its resolv.conf, reached from this machine.

A kind node is a container here, so the namespaces of its pods can be entered without a change to the pod: look-ups run with
this machine's C libraries, in the pod's network, with the pod's resolv.conf. On other targets nothing of that can be reached:
NotSupported (but see :mod:`harness.dns.remote`). Sources: ctr(8) of containerd, proc(5), namespaces(7).
"""

from __future__ import annotations

from pathlib import Path

from harness.cluster.engine import Engine
from harness.dns.count import Place, ResolverConfig
from harness.errors import NotReady, NotSupported, UsageError
from harness.kube.client import Cluster
from harness.kube.objects import Pod

_EXEC_S = 30.0


def pod_place(cluster: Cluster, engine: Engine, namespace: str, name: str) -> Place:
    """The pod ``name`` as a place.

    :raises NotSupported: its node is no container of this machine.
    :raises UsageError: there is no such pod, or it is on its node's network: its queries are not its own there.
    :raises NotReady: it has no running container.
    """
    if not cluster.target.ours:
        raise NotSupported(f"the nodes of {cluster.target.name} are not on this machine, so its pods' network cannot be entered")
    pod = cluster.pod(namespace, name)
    if pod is None:
        raise UsageError("there is no such pod", where=f"{namespace}/{name}", todo="mailgale stack status")
    if pod.raw.get("spec", {}).get("hostNetwork"):
        raise UsageError("the pod is on its node's network (hostNetwork), where its queries cannot be told from others'", where=name)
    process = process_of(engine, pod)
    return place_of(process, f"pod {namespace}/{name}")


def place_of(process: Path, what: str) -> Place:
    """The place where the process behind ``process`` (a directory of a proc(5) file system) lives.

    :raises NotSupported: the process is not to be seen from here. :raises NotReady: its resolv.conf names no server.
    """
    namespace = process / "ns" / "net"
    try:
        same = namespace.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino
        text = (process / "root" / "etc" / "resolv.conf").read_text()
    except OSError as error:
        raise NotSupported(f"{what} cannot be reached from this machine: {error.strerror}") from error
    if same:
        raise UsageError("it is on this machine's own network, where its queries cannot be told from others'", where=what)
    config = ResolverConfig.parse(text)
    if not config.nameservers:
        raise NotReady("its resolv.conf names no server", where=what)
    return Place(namespace, config, what, mounts=process / "ns" / "mnt")


def process_of(engine: Engine, pod: Pod) -> Path:
    """The first process of the pod's first running container: a directory of the node's own proc(5).

    :raises NotReady: the pod has no running container, or its node does not know it.
    """
    ids = [c.id for c in pod.containers if c.state == "running" and c.id]
    if not ids:
        raise NotReady("the pod has no running container", where=pod.name)
    node = engine.docker("inspect", "--format", "{{.State.Pid}}", pod.node, timeout_s=_EXEC_S).stdout.strip()
    listed = engine.docker("exec", pod.node, "ctr", "-n", "k8s.io", "tasks", "ls", timeout_s=_EXEC_S).stdout
    pids = {words[0]: words[1] for line in listed.splitlines() if len(words := line.split()) >= 2}
    if ids[0] not in pids:
        raise NotReady("the node does not know the pod's container", where=f"{pod.node}: {ids[0][:12]}")
    return Path(f"/proc/{node}/root/proc/{pids[ids[0]]}")


def node_network(engine: Engine, node: str) -> Path:
    """The network namespace of a node that is a container here: every pod's address is reached from it."""
    return Path("/proc") / engine.docker("inspect", "--format", "{{.State.Pid}}", node, timeout_s=_EXEC_S).stdout.strip() / "ns" / "net"

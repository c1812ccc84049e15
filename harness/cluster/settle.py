"""What a fresh kind cluster needs before it is handed out, and its description as a Target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.cluster import abilities, recipe
from harness.cluster.api import Api, is_ready, node_of
from harness.cluster.engine import Engine
from harness.cluster.found import Container
from harness.cluster.topology import Topology
from harness.errors import ClusterFailed, CommandFailed, NotReady
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress

_READY_S = 180
#: kubeadm's Corefile without a way out: what is not of the cluster is refused. Docker's resolver cannot be reached from
#: pods, makes the plugin ``loop`` fail, and would carry questions to the outside.
COREFILE = """\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 30
    }
    prometheus :9153
    cache 30
    reload
    loadbalance
}
"""


def cluster_dns(cluster: Api) -> None:
    """Give cluster DNS the Corefile above.

    :raises ClusterFailed: it is refused.
    """
    text = "".join(f"    {line}\n" for line in COREFILE.splitlines())
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: coredns, namespace: kube-system}}\ndata:\n  Corefile: |\n{text}"
    try:
        cluster("apply", "--server-side", "--force-conflicts", "--field-manager", "mailgale", "-f", "-", input=manifest)
        cluster("-n", "kube-system", "rollout", "restart", "deployment/coredns")
    except CommandFailed as error:
        raise ClusterFailed(f"cluster DNS cannot be configured: {error.what}", where=cluster.context) from error


def nodes_ready(cluster: Api, count: int, progress: Progress) -> None:
    """Wait until ``count`` nodes are ready.

    :raises ClusterFailed: they are not in time; the message names those that are not.
    """

    def probe() -> bool:
        items = cluster.get("nodes")["items"]
        lacking = sorted(i["metadata"]["name"] for i in items if not is_ready(i))
        progress.waiting(f"nodes: {', '.join(lacking) or 'all ready'}")
        return len(items) == count and not lacking

    _wait(probe, cluster, f"{count} ready nodes")


def system_ready(cluster: Api, progress: Progress) -> None:
    """Wait until every workload of kube-system is ready: pods can be reached, and names be looked up.

    :raises ClusterFailed: they are not in time.
    """

    def probe() -> bool:
        progress.waiting("cluster DNS and kube-proxy")
        items = cluster.get("-n", "kube-system", "deployments,daemonsets")["items"]
        return all(_complete(i["spec"], i["status"], i["metadata"]["generation"]) for i in items)

    _wait(probe, cluster, "cluster DNS and kube-proxy")


def _complete(spec: dict[str, int], seen: dict[str, int], generation: int) -> bool:
    if seen.get("observedGeneration", 0) < generation:
        return False
    if "desiredNumberScheduled" in seen:
        return seen.get("numberReady", 0) == seen["desiredNumberScheduled"]
    wanted = spec.get("replicas", 1)
    return seen.get("readyReplicas", 0) == seen.get("updatedReplicas", 0) == seen.get("replicas", 0) == wanted


def _wait(probe: Callable[[], bool], cluster: Api, what: str) -> None:
    """Wait for ``probe``; an API server that is still starting may refuse a few times, its last word is kept."""
    said = ""

    def patient() -> bool:
        nonlocal said
        try:
            return probe()
        except CommandFailed as error:
            said = f"; the last answer: {error.what}"
            return False

    try:
        wait_for(patient, deadline_s=_READY_S, what=what)
    except NotReady as error:
        raise ClusterFailed(f"{error.what}{said}", where=cluster.context, todo="mailgale cluster down, then up") from error


def target(
    engine: Engine, cluster: Api, checkout: Checkout, wanted: Topology, containers: Sequence[Container], volumes: str
) -> Target:
    """The cluster as a Target: identity, nodes, networks, versions, and what its kernel lacks.

    :raises CommandFailed: the cluster or a node does not answer.
    """
    items = cluster.get("nodes")["items"]
    _, asked = max(enumerate(containers), key=lambda c: (c[1].running, c[1].role == "worker", c[0]))
    info = items[0]["status"]["nodeInfo"]
    return Target(
        kind="kind",
        name=checkout.cluster_name,
        kubeconfig=cluster.kubeconfig,
        context=cluster.context,
        uid=cluster.uid(),
        nodes=tuple(node_of(i) for i in items),
        generator_networks=host_networks(containers),
        pod_networks=wanted.pod_networks,
        service_networks=wanted.service_networks,
        volumes_dir=volumes,
        engine=f"docker {engine.version}",
        versions={
            "kubernetes": info["kubeletVersion"],
            "containerd": info["containerRuntimeVersion"].removeprefix("containerd://"),
            "kernel": info["kernelVersion"],
            "engine": f"docker {engine.version}",
            "node-image": containers[0].image,
            "topology": f"{wanted.name} {wanted.digest}",
            "cgroup": f"v{engine.cgroups}" if engine.cgroups else "",
            "architecture": recipe.architecture(),
        },
        unsupported=abilities.probe(engine, asked.name),
    )


def host_networks(containers: Sequence[Container]) -> tuple[str, ...]:
    """This machine as the nodes see it: the gateways of their network, one address each."""
    gateways = dict.fromkeys(g for c in containers for g in c.gateways)
    return tuple(f"{g}/128" if ":" in g else f"{g}/32" for g in gateways)

"""The DNS servers of a deployed stack, asked through the API server what they have counted since they began.

CoreDNS and the node caches have a page of metrics, the fault proxies one of their own; unbound is asked by a command in its pod. Limit: a question costs the
server a request of HTTP or a command.
"""

from __future__ import annotations

import json

from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.model.dnscounters import Counters, parse_coredns, parse_unbound

PART = "mailgale.dev/part"
#: Part of the lab's DNS → port of its metrics; unbound has none and is asked by a command.
METRICS = {"coredns": 9153, "node-local-dns": 9253}
PROXY, PROXY_PORT = "dns-proxy", 9353
UNBOUND = "unbound"
COUNTING = frozenset({*METRICS, UNBOUND, PROXY})
_STATS = ["unbound-control", "-c", "/run/unbound.conf", "stats_noreset"]
_TIMEOUT_S = 4.0


def counters_of(cluster: Cluster, pod: Pod, *, inside: Cluster | None = None) -> Counters:
    """What the server in ``pod`` has counted.

    :param inside: the cluster by the rights of who may run a command in a pod (default: ``cluster``).
    :raises ApiFailed: it does not answer. :raises NotReady: not in time. :raises ValueError: what it says are no counters.
    :raises KeyError: the pod is none of the servers that count (:data:`COUNTING`).
    """
    part = pod.labels[PART]
    if part == UNBOUND:
        return parse_unbound((inside or cluster).exec(pod.namespace, pod.name, UNBOUND, _STATS, timeout_s=_TIMEOUT_S).stdout.decode())
    if part == PROXY:
        found = json.loads(cluster.proxy_get(pod.namespace, pod.name, PROXY_PORT, "/counters", timeout_s=_TIMEOUT_S))
        return {"requests": {"all": found["seen"]}, **{name: {"all": found[name]} for name in ("passed", "unanswered", "struck")}}
    return parse_coredns(cluster.proxy_get(pod.namespace, pod.name, METRICS[part], "/metrics", timeout_s=_TIMEOUT_S).decode())


def instance_of(pod: Pod) -> str:
    """Which start of the server the counters belong to."""
    first = next((c for c in pod.containers if not c.init), None)
    return f"{pod.uid[:8]}/{first.id[:12] if first else ''}"

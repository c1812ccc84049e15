"""``dns_counters``: what each DNS server of the stack has counted since it began: CoreDNS, node caches, unbound, fault proxies.

Sources: CoreDNS plugins metrics, cache and forward (1.13.2), unbound-control(8) ``stats_noreset``. Counters begin anew with a container;
``tcpusage`` alone is a value of the moment. Limits: no counter knows which pod asked; a sample costs the servers a request of HTTP or a command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.errors import NotReady
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.model.metrics import coredns_series
from harness.observe.sink import Sink

PART = "mailgale.dev/part"
#: Part of the lab's DNS → port of its metrics; unbound has none and is asked by a command.
METRICS = {"coredns": 9153, "node-local-dns": 9253}
PROXY, PROXY_PORT = "dns-proxy", 9353
UNBOUND = "unbound"
_STATS = ["unbound-control", "-c", "/run/unbound.conf", "stats_noreset"]
_EVERY = 2
_TIMEOUT_S = 4.0

Counters = dict[str, dict[str, float]]
#: Metric → (name here, labels that its key is made of).
_COREDNS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "dns_requests_total": ("requests", ("proto", "type", "zone")),
    "dns_responses_total": ("responses", ("rcode", "zone")),
    "cache_hits_total": ("cache_hits", ("zones",)),
    "cache_misses_total": ("cache_misses", ("zones",)),
    "proxy_request_duration_seconds_count": ("forwarded", ("rcode",)),
    "proxy_conn_cache_hits_total": ("reused", ("proto",)),
    "proxy_conn_cache_misses_total": ("dialled", ("proto",)),
    "forward_max_concurrent_rejects_total": ("rejected", ()),
    "forward_healthcheck_broken_total": ("upstreams_down", ()),
}
_UNBOUND: Mapping[str, tuple[str, str]] = {
    "total.num.cachehits": ("cache_hits", "all"), "total.num.cachemiss": ("cache_misses", "all"), "total.num.prefetch": ("prefetch", "all"),
    "total.requestlist.exceeded": ("exceeded", "all"), "total.tcpusage": ("tcpusage", "now"), "num.query.udpout": ("sent", "udp"), "num.query.tcpout": ("sent", "tcp"),
}


class DnsSampler:
    """Every second round one event for each running DNS pod.

    As with queues, a pod that was ready or has answered before and does not answer now is a missed sample, one that is only starting or going is none.

    :param pods: the pods as known now.
    :param inside: the cluster by the rights of who may run a command in a pod (default: ``cluster``).
    """

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str, pods: Callable[[], Iterable[Pod]], *, inside: Cluster | None = None) -> None:
        self._sink, self._cluster, self._namespace, self._pods = sink, cluster, namespace, pods
        self._inside = inside or cluster
        self._pool = ThreadPoolExecutor(4)
        self._known: set[str] = set()
        self._round = 0

    def sample(self) -> None:
        """Ask every DNS pod that runs."""
        self._round += 1
        if self._round % _EVERY == 1:
            asked = [p for p in self._pods() if p.labels.get(PART) in (*METRICS, UNBOUND, PROXY) and p.phase == "Running"]
            list(self._pool.map(self._one, asked))

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, pod: Pod) -> None:
        part = pod.labels[PART]
        try:
            counters = {UNBOUND: self._unbound, PROXY: self._proxy}.get(part, self._coredns)(pod)
        except (ApiFailed, NotReady, ValueError, KeyError) as error:
            if (pod.ready or pod.uid in self._known) and not pod.deleting:
                self._sink.missed(f"dns {pod.name}", f"{type(error).__name__}: {error}")
            return
        self._known.add(pod.uid)
        self._sink.event("dns_counters", pod=pod.name, part=part, node=pod.node, instance=_instance(pod), counters=counters)

    def _proxy(self, pod: Pod) -> Counters:
        found = json.loads(self._cluster.proxy_get(self._namespace, pod.name, PROXY_PORT, "/counters", timeout_s=_TIMEOUT_S))
        return {"requests": {"all": found["seen"]}, **{name: {"all": found[name]} for name in ("passed", "unanswered", "struck")}}

    def _coredns(self, pod: Pod) -> Counters:
        text = self._cluster.proxy_get(self._namespace, pod.name, METRICS[pod.labels[PART]], "/metrics", timeout_s=_TIMEOUT_S)
        return parse_coredns(text.decode())

    def _unbound(self, pod: Pod) -> Counters:
        done = self._inside.exec(self._namespace, pod.name, UNBOUND, _STATS, timeout_s=_TIMEOUT_S)
        return parse_unbound(done.stdout.decode())


def parse_coredns(text: str) -> Counters:
    """The counters in CoreDNS's metrics, those with the same key summed (address families, upstreams, positive and negative hits).

    :raises ValueError: no such metrics: it has none of its own.
    """
    found: Counters = {}
    for name, labels, value in coredns_series(text):
        if name in _COREDNS:
            kind, parts = _COREDNS[name]
            key = "/".join(labels.get(p, "") for p in parts) or "all"
            mine = found.setdefault(kind, {})
            mine[key] = mine.get(key, 0.0) + value
    if not text.startswith("# HELP") and not found:
        raise ValueError("no metrics of CoreDNS")
    return found


def parse_unbound(text: str) -> Counters:
    """The counters in unbound's statistics: ``requests`` by transport, ``types``, ``answers`` by rcode, cache, and slots in use.

    :raises ValueError: no statistics (an error of unbound-control, for instance).
    """
    lines = {k: float(v) for k, _, v in (line.partition("=") for line in text.splitlines()) if v}
    if "total.num.queries" not in lines:
        raise ValueError(f"no statistics: {text[:120]!r}")
    tcp = lines.get("num.query.tcp", 0.0)
    found: Counters = {"requests": {"udp": lines["total.num.queries"] - tcp, "tcp": tcp}}
    for name, value in lines.items():
        kind, key = _UNBOUND.get(name, ("", ""))
        for prefix, of in (("num.query.type.", "types"), ("num.answer.rcode.", "answers")):
            if name.startswith(prefix):
                kind, key = of, name.removeprefix(prefix)
        if kind:
            found.setdefault(kind, {})[key] = value
    return found


def _instance(pod: Pod) -> str:
    """Which start of the server the counters belong to."""
    first = next((c for c in pod.containers if not c.init), None)
    return f"{pod.uid[:8]}/{first.id[:12] if first else ''}"

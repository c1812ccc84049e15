"""What CoreDNS and unbound say that they have counted, as counters with names of our own: name → key → value. Pure.

Sources: CoreDNS plugins metrics, cache and forward (1.13.2), unbound-control(8) ``stats_noreset``. Counters begin anew with a container;
``tcpusage`` alone is a value of the moment. Limit: no counter knows which pod asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.model.metrics import coredns_series

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

"""DNS queries of an arm by layer, for the report and the claims about caches: per 1,000 acknowledged mails, by mail's own types only.

Known limit: queries for names of the cluster hold the edge's, which asks for its backends every second whatever mail there is.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.store.deliveries import outgoing
from harness.store.dns import ALL_ELSE, CLUSTER, NODE, UNBOUND, Layer, layers, lookups, mails, of_mail
from harness.store.history import ArmHistory

_ALL = (ALL_ELSE,)


def dns_figures(arm: ArmHistory) -> dict[str, float | None]:
    """Name with unit → number; {} where DNS was not watched."""
    found, seen = layers(arm), lookups(arm)
    figures: dict[str, float | None] = {}
    if CLUSTER in found and UNBOUND in found and (count := mails(arm)):
        figures |= _layers(found, count)
    if seen is not None:
        figures |= {"lookups": seen.count, "lookups_failed": seen.failed, "lookup_p50_ms": seen.p50_ms, "lookup_p99_ms": seen.p99_ms}
    left = outgoing(arm.dir) if seen is not None else None
    if left is not None:
        figures |= {
            "outgoing": left.sent, "outgoing_deferred_by_dns": left.deferred_by_dns, "outgoing_held_up": left.held_up, "outgoing_bounced": left.bounced,
            "outgoing_p50_ms": 1000 * left.p50_s, "outgoing_p99_ms": 1000 * left.p99_s, "outgoing_longest_held_s": left.longest_held_s,
        }
    return figures


def _layers(found: dict[str, Layer], count: int) -> dict[str, float | None]:
    cluster, unbound, node = found[CLUSTER], found[UNBOUND], found.get(NODE)
    outside = cluster.requests(zone=ALL_ELSE, types=of_mail)
    return {
        "dns_node_per_1000": 1000 * node.requests(types=of_mail) / count if node else None,
        "dns_cluster_per_1000": 1000 * outside / count,
        "dns_cluster_internal_per_1000": 1000 * (cluster.requests(types=of_mail) - outside) / count,
        "dns_unbound_per_1000": 1000 * unbound.total("types", of_mail) / count,
        "dns_node_hit_share": hit_share(node) if node else None,
        "dns_cluster_hit_share": hit_share(cluster),
        **tcp_shares(found),
        "dns_unbound_slots_max": unbound.tcp_slots_max,
    }


def tcp_shares(found: dict[str, Layer]) -> dict[str, float | None]:
    """Shares of TCP: to cluster DNS by kind of name, and to unbound. None where nothing was asked.

    The health probes of cluster DNS (NS of the root, over UDP, one for each exchange that failed) are left out of unbound's: they were most of what
    came over UDP where caches forced TCP. Left in are unbound's own readiness probes, over TCP, six a minute.
    """
    cluster, unbound = found[CLUSTER], found[UNBOUND]
    asked = unbound.counts.get("requests", {})
    tcp, udp = asked.get("tcp", 0.0), asked.get("udp", 0.0) - unbound.total("types", lambda kind: kind == "NS")
    total = tcp + max(udp, 0.0)
    return {
        "dns_internal_tcp_share": _share(cluster, lambda zone: zone != ALL_ELSE, lambda t: t != "other"),
        "dns_reverse_tcp_share": _share(cluster, lambda zone: zone == ALL_ELSE, lambda t: t == "PTR"),
        "dns_other_tcp_share": _share(cluster, lambda zone: zone == ALL_ELSE, lambda t: t not in ("PTR", "other")),
        "dns_unbound_tcp_share": tcp / total if total else None,
    }


def hit_share(layer: Layer) -> float | None:
    """Cache hits of all that passed the layer's cache for names outside the cluster, and of a node cache for all."""
    wanted = (lambda key: True) if layer.part == NODE else (lambda key: key in _ALL)
    hits, misses = layer.total("cache_hits", wanted), layer.total("cache_misses", wanted)
    return hits / (hits + misses) if hits + misses else None


def _share(layer: Layer, zones: Callable[[str], bool], types: Callable[[str], bool]) -> float | None:
    both = {"udp": 0.0, "tcp": 0.0}
    for key, n in layer.counts.get("requests", {}).items():
        proto, kind, zone = key.split("/", 2)
        if zones(zone) and types(kind) and proto in both:
            both[proto] += n
    total = sum(both.values())
    return both["tcp"] / total if total else None

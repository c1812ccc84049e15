"""What every manifest of deploy/ must hold, as functions from manifests to sentences about what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Manifest = dict[str, Any]
#: These have no one to take leave of: nothing is sent to them once their last reader is gone. The node cache undoes what it did on SIGTERM, as node-cache does.
NO_PRESTOP = frozenset({"redis", "node-local-dns", "janitor"})
#: Neither has a second pod on any node; nsd and redis answer for all, the edge owns a node's ports, the node cache is on each node once; one janitor is enough.
SINGLE = frozenset({"edge", "redis", "nsd", "node-local-dns", "janitor"})


def workloads(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    return (m for m in manifests if m["kind"] in ("Deployment", "StatefulSet", "DaemonSet"))


def pod(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def faults(manifests: Sequence[Manifest]) -> list[str]:
    """Every breach of the rules below."""
    return [*_pods(manifests), *_services(manifests), *_budgets(manifests), *_names(manifests)]


def _pods(manifests: Sequence[Manifest]) -> Iterator[str]:
    for one in workloads(manifests):
        name, main = one["metadata"]["name"], pod(one)["containers"][0]
        for probe in ("livenessProbe", "readinessProbe"):
            if probe not in main:
                yield f"{name}: no {probe}"
        if "lifecycle" not in main and name not in NO_PRESTOP:
            yield f"{name}: no preStop"
        for container in pod(one)["containers"]:
            resources = container.get("resources") or {}
            if {*resources.get("limits", {})} != {"cpu", "memory"} or {*resources.get("requests", {})} != {"cpu", "memory"}:
                yield f"{name}: requests or limits missing in {container['name']}"
            if not re.fullmatch(r"mailgale/[a-z0-9-]+:dev", container["image"]):
                yield f"{name}: image {container['image']}"
        if "podAntiAffinity" not in pod(one).get("affinity", {}) and name not in SINGLE:
            yield f"{name}: no anti-affinity"
        if "app.kubernetes.io/component" not in one["spec"]["template"]["metadata"]["labels"]:
            yield f"{name}: pods without component label"
        if pod(one).get("dnsPolicy", "ClusterFirst") == "ClusterFirst":
            yield f"{name}: asks the cluster's DNS instead of the lab's"
        if pod(one).get("dnsPolicy") == "None" and not pod(one).get("dnsConfig", {}).get("nameservers"):
            yield f"{name}: no nameserver"


def _services(manifests: Sequence[Manifest]) -> Iterator[str]:
    for one in (m for m in manifests if m["kind"] == "Service"):
        if one["spec"].get("ipFamilyPolicy") != "PreferDualStack":
            yield f"Service {one['metadata']['name']}: not dual stack"


def _budgets(manifests: Sequence[Manifest]) -> Iterator[str]:
    chosen = [m["spec"]["selector"]["matchLabels"] for m in manifests if m["kind"] == "PodDisruptionBudget"]
    for one in workloads(manifests):
        labels = one["spec"]["template"]["metadata"]["labels"].items()
        if not any(c.items() <= labels for c in chosen):
            yield f"{one['metadata']['name']}: no PodDisruptionBudget"


def _names(manifests: Sequence[Manifest]) -> Iterator[str]:
    """T09: fully qualified names only, and none that holds a namespace."""
    for one in (m for m in manifests if m["kind"] == "ConfigMap"):
        for key, text in one.get("data", {}).items():
            lines = (line for line in text.splitlines() if not line.lstrip().startswith(("#", "--", ";", '"')))
            yield from (f"{one['metadata']['name']}/{key}: {bad}" for line in lines for bad in _bad_names(line))


def _bad_names(line: str) -> Iterable[str]:
    services = r"(?:mx|filter|redis|mailbox|mailbox-proxy|mailbox-proxy-pods|submission|outbound|internet)"
    # In a configuration, "<service>:<port>", "[<service>]:<port>" without the domain is a short name.
    return [m[0] for m in re.finditer(rf"(?<![\w./-])\[?{services}\]?:\d+", line)] + re.findall(r"\.[a-z0-9-]+\.svc\.cluster\.local", line)

"""What there is of a kind cluster: its node containers as the engine sees them, and whether they can stay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.cluster.engine import Engine
from harness.cluster.topology import NODE_VOLUMES, Topology

_CLUSTER = "io.x-k8s.kind.cluster"
_ROLE = "io.x-k8s.kind.role"
_BALANCER = "external-load-balancer"


@dataclass(frozen=True)
class Container:
    """One node container. ``running``: and not paused. ``gateways``: the host as the node sees it, IPv4 first."""

    name: str
    role: str
    running: bool
    image: str
    networks: tuple[str, ...]
    mounts: Mapping[str, str] = field(default_factory=dict)  #: path in the node → path on this machine
    gateways: tuple[str, ...] = ()
    paused: bool = False

    @property
    def is_node(self) -> bool:
        return self.role != _BALANCER


def containers(engine: Engine, cluster: str) -> tuple[Container, ...]:
    """Every container of the cluster, its load balancer included; none where there is no cluster."""
    names = engine.containers(f"label={_CLUSTER}={cluster}")
    if not names:
        return ()
    return tuple(_read(facts) for facts in json.loads(engine.docker("inspect", *names).stdout))


def nodes(found: Sequence[Container]) -> list[Container]:
    """The Kubernetes nodes among them: control planes first, then by name."""
    return sorted((c for c in found if c.is_node), key=lambda c: (c.role != "control-plane", c.name))


def _read(facts: Mapping[str, Any]) -> Container:
    attached = facts["NetworkSettings"]["Networks"]
    gateways = [n.get(key, "") for n in attached.values() for key in ("Gateway", "IPv6Gateway")]
    return Container(
        name=facts["Name"].lstrip("/"),
        role=facts["Config"]["Labels"].get(_ROLE, ""),
        running=facts["State"]["Running"] and not facts["State"]["Paused"],
        image=facts["Config"]["Image"],
        networks=tuple(attached),
        mounts={m["Destination"]: m["Source"] for m in facts["Mounts"] if m["Type"] == "bind"},
        gateways=tuple(g for g in gateways if g),
        paused=facts["State"]["Paused"],
    )


@dataclass(frozen=True)
class Wanted:
    """What the cluster must be to be kept."""

    topology: Topology
    image: str
    network: str
    volumes: str


def why_replace(found: Sequence[Container], wanted: Wanted, recorded: Mapping[str, str]) -> str:
    """The first reason why these containers cannot become the wanted cluster; "" when they can.

    :param recorded: what was noted when the cluster was complete (``topology`` digest); empty for a half-built one.
    """
    members = nodes(found)
    roles = [c.role for c in members]
    if not recorded:
        return "it was never completed"
    counts = (roles.count("control-plane"), roles.count("worker"))
    if counts != (wanted.topology.control_planes, wanted.topology.workers):
        return f"it has {counts[0]} control planes and {counts[1]} workers"
    if recorded.get("topology") != wanted.topology.digest:
        return "its topology file was another"
    if other := next((c for c in members if c.image != wanted.image), None):
        return f"{other.name} runs another node image, {other.image}"
    if other := next((c for c in members if c.networks != (wanted.network,)), None):
        return f"{other.name} is in the network {', '.join(other.networks) or 'none'}"
    if other := next((c for c in members if c.mounts.get(NODE_VOLUMES) != wanted.volumes), None):
        return f"{other.name} lacks the volumes directory"
    return ""

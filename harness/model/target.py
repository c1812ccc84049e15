"""Where a run takes place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """One node of the cluster. ``addresses``: IPv4 first, then IPv6 where there is one."""

    name: str
    role: str  #: "control-plane" or "worker"
    addresses: tuple[str, ...]
    edge: bool = False


@dataclass(frozen=True)
class Target:
    """A cluster that mailgale may act on.

    :param kind: ``kind``, ``context`` or ``endpoints``.
    :param kubeconfig: path of a kubeconfig file that holds ``context``.
    :param uid: UID of the namespace ``kube-system``: the cluster's identity for the guards.
    :param generator_networks: CIDRs from which the edge sees the load generator.
    :param volumes_dir: directory on this host that every node mounts at ``/var/lib/mailgale/volumes`` ("" = none).
    :param unsupported: ability → what is lacking, for the report's "not supported here".
    """

    kind: str
    name: str
    kubeconfig: str
    context: str
    uid: str
    nodes: tuple[Node, ...]
    generator_networks: tuple[str, ...]
    pod_networks: tuple[str, ...]
    service_networks: tuple[str, ...]
    volumes_dir: str = ""
    engine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)

    @property
    def edge(self) -> Node:
        """The node that carries the edge's host ports; the last worker where none is marked."""
        marked = [n for n in self.nodes if n.edge]
        return (marked or [n for n in self.nodes if n.role == "worker"] or list(self.nodes))[-1]

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
    :param kubeconfig: path of a kubeconfig file that holds ``context``; several as ``KUBECONFIG`` has them, joined by ``:``.
    :param uid: UID of the namespace ``kube-system``: the cluster's identity for the guards.
    :param generator_networks: CIDRs from which the edge sees the load generator.
    :param volumes_dir: directory on this host that every node mounts at ``/var/lib/mailgale/volumes`` ("" = none).
    :param engine: the container engine whose containers are the nodes ("" = none that can be reached from here).
    :param image_registry: ``HOST[:PORT]/PREFIX`` through which images come to the nodes ("" = none).
    :param storage_class: for the stack's volumes where nodes share no directory ("" = the cluster's default).
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
    image_registry: str = ""
    storage_class: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether this checkout made the cluster: its nodes are containers of this machine's engine, closed by our rules."""
        return self.kind == "kind" or bool(self.engine)

    @property
    def edge(self) -> Node:
        """The node that carries the edge's host ports; the last worker where none is marked."""
        marked = [n for n in self.nodes if n.edge]
        return (marked or [n for n in self.nodes if n.role == "worker"] or list(self.nodes))[-1]

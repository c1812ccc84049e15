"""A deployed stack, as every other package is handed it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Record
from harness.model.target import Target


@dataclass(frozen=True)
class Stack:
    """One stack in one namespace, ready unless said otherwise.

    :param edge4: IPv4 address of the edge node; the ports are those of DESIGN.md.
    :param edge6: its IPv6 address, "" where it has none.
    :param images: image reference → its id (``sha256:…``).
    :param manifests_sha256: of what was applied, secrets and the namespace's name left out.
    :param claims: names of all volume claims, also of pods that do not run.
    """

    namespace: str
    target: Target
    cluster: Cluster = field(repr=False, compare=False)
    checkout_id: str
    run_id: str
    profile: str
    variants: tuple[str, ...]
    edge4: str
    edge6: str
    password: str = field(repr=False)
    users: int
    mail_domain: str
    cluster_domain: str
    dns_address: str
    ca_pem: str = field(repr=False)
    images: Mapping[str, str]
    manifests_sha256: str
    time_scale: float
    params: Mapping[str, str] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    def user(self, number: int) -> str:
        """Address of user ``number`` (1 …)."""
        return f"user{number}@{self.mail_domain}"

    @property
    def edges(self) -> tuple[str, ...]:
        """The edge's addresses, IPv4 first."""
        return tuple(a for a in (self.edge4, self.edge6) if a)

    def gateway(self, record: Record | None = None) -> Gateway:
        """A gateway that may change this stack and nothing else."""
        return Gateway(self.cluster, self.checkout_id, self.run_id, record)

    def tls_context(self) -> ssl.SSLContext:
        """Trusts this deployment's CA and nothing else; host names and addresses are checked."""
        context = ssl.create_default_context(cadata=self.ca_pem)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

"""Topologies: files in ``deploy/kind``, completed for kind with the cluster's name and the shared volumes."""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.cluster import recipe
from harness.errors import UsageError
from harness.support.checkout import Checkout

#: Where every node sees the checkout's volumes directory.
NODE_VOLUMES = "/var/lib/mailgale/volumes"
EDGE_LABEL = "mailgale.dev/edge"


@dataclass(frozen=True)
class Topology:
    """One topology file, read."""

    name: str
    config: Mapping[str, Any]
    digest: str

    @property
    def control_planes(self) -> int:
        return self._count("control-plane")

    @property
    def workers(self) -> int:
        return self._count("worker")

    @property
    def pod_networks(self) -> tuple[str, ...]:
        return tuple(self.config["networking"]["podSubnet"].split(","))

    @property
    def service_networks(self) -> tuple[str, ...]:
        return tuple(self.config["networking"]["serviceSubnet"].split(","))

    def _count(self, role: str) -> int:
        return sum(1 for n in self.config["nodes"] if n["role"] == role)

    def render(self, cluster: str, volumes: Path, *, default_cni: bool) -> str:
        """kind's configuration as text.

        :param volumes: this machine's directory that all nodes mount.
        :param default_cni: whether kind installs its own pod network (kindest/node); ours has one built in.
        """
        config = copy.deepcopy(dict(self.config))
        config["name"] = cluster
        config["networking"]["disableDefaultCNI"] = not default_cni
        mount = {"hostPath": str(volumes), "containerPath": NODE_VOLUMES}
        for node in config["nodes"]:
            node["extraMounts"] = [*node.get("extraMounts", []), mount]
        return str(yaml.safe_dump(config, sort_keys=False))


def load(checkout: Checkout, name: str) -> Topology:
    """The topology ``deploy/kind/<name>.yaml``.

    :raises UsageError: there is no such file, or it is not one of kind's.
    """
    folder = recipe.folder(checkout)
    names = sorted(p.stem for p in folder.glob("*.yaml"))
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
        raise UsageError(f"no topology '{name}'", where=str(folder), todo=hint)
    text = (folder / f"{name}.yaml").read_text()
    config = yaml.safe_load(text)
    if not _complete(config):
        raise UsageError("not a kind cluster with nodes, podSubnet and serviceSubnet", where=str(folder / f"{name}.yaml"))
    return Topology(name, config, hashlib.sha256(text.encode()).hexdigest()[:12])


def _complete(config: object) -> bool:
    if not isinstance(config, dict) or config.get("kind") != "Cluster":
        return False
    networking, nodes = config.get("networking"), config.get("nodes")
    named = isinstance(networking, dict) and {"podSubnet", "serviceSubnet"} <= networking.keys()
    return named and isinstance(nodes, Sequence) and all(isinstance(n, dict) and "role" in n for n in nodes)

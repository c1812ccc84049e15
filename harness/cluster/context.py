"""Any other cluster, through a context of the user's kubeconfig that the user's configuration allows by name.

``~/.config/mailgale/config.yaml`` (or below ``XDG_CONFIG_HOME``)::

    allowed_contexts:
      - staging                       # by name alone
      - name: lab                     # or with more
        uid: 5f0c…                    # UID of its namespace kube-system; another cluster under that name is refused
        generator_networks: [10.1.2.3/32]
        pod_networks: [10.42.0.0/16]
        service_networks: [10.43.0.0/16]

There is no implicit current context. Limits: where the API has no ServiceCIDR objects (before 1.33) service networks
must be configured; nodes share no directory with this machine, so volumes are the cluster's own.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.cluster import tools
from harness.cluster.api import Api, node_of
from harness.errors import ClusterFailed, CommandFailed, GuardRefused
from harness.model.target import Node, Target
from harness.support.checkout import Checkout

_NETWORKS = ("generator_networks", "pod_networks", "service_networks")
_KEYS = {"name", "uid", *_NETWORKS}


def configuration_file() -> Path:
    """The user's configuration file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mailgale" / "config.yaml"


def allowed_contexts(path: Path) -> dict[str, Mapping[str, Any]]:
    """Context name → what the configuration says of it.

    :raises GuardRefused: the file is not as described above: a guard that cannot be read allows nothing.
    """
    try:
        read = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GuardRefused(f"the configuration cannot be read: {error}", where=str(path)) from error
    entries = read.get("allowed_contexts", []) if isinstance(read, dict) else None
    if not isinstance(entries, list):
        raise GuardRefused("'allowed_contexts' is not a list", where=str(path))
    return {e["name"]: e for e in (_entry(e, path) for e in entries)}


def _entry(entry: object, path: Path) -> Mapping[str, Any]:
    if isinstance(entry, str):
        return {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise GuardRefused("an entry of 'allowed_contexts' is neither a name nor a mapping with one", where=str(path))
    if unknown := sorted(set(entry) - _KEYS):
        raise GuardRefused(f"unknown key '{unknown[0]}' for the context {entry['name']}", where=str(path), todo=f"keys: {', '.join(sorted(_KEYS))}")
    for key in _NETWORKS:
        _check_networks(entry.get(key, []), f"{key} of {entry['name']}", path)
    return entry


def _check_networks(value: object, what: str, path: Path) -> None:
    try:
        if not isinstance(value, list):
            raise ValueError("not a list")
        for network in value:
            ipaddress.ip_network(network)
    except ValueError as error:
        raise GuardRefused(f"{what}: {error}", where=str(path)) from error


def target_for_context(name: str, checkout: Checkout) -> Target:
    """The cluster behind the context ``name`` of the user's kubeconfig (``KUBECONFIG``, else ``~/.kube/config``).

    :raises GuardRefused: the configuration does not allow it, or it is another cluster than allowed.
    :raises ClusterFailed: it does not answer, or there is no kubectl.
    """
    path = configuration_file()
    allowed = allowed_contexts(path)
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"add it to 'allowed_contexts' in {path}"
        raise GuardRefused(f"the context '{name}' is not allowed", where=str(path), todo=hint)
    cluster = Api(tools.kubectl_path(checkout), _kubeconfig(name), name)
    try:
        return _target(cluster, allowed[name], path)
    except CommandFailed as error:
        raise ClusterFailed(f"the cluster does not answer: {error.what}", where=name) from error


def _kubeconfig(name: str) -> str:
    """The first file of the user's that holds the context: kubectl's own rule, one file at a time."""
    words = (os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(os.pathsep)
    for file in filter(None, words):
        if name in _contexts_in(Path(file)):
            return file
    raise ClusterFailed(f"no context '{name}'", where=os.pathsep.join(words), todo="kubectl config get-contexts")


def _contexts_in(path: Path) -> list[str]:
    try:
        read = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterFailed(f"the kubeconfig cannot be read: {error}", where=str(path)) from error
    entries = read.get("contexts") if isinstance(read, dict) else None
    return [e["name"] for e in entries or [] if isinstance(e, dict) and "name" in e]


def _target(cluster: Api, entry: Mapping[str, Any], path: Path) -> Target:
    uid = cluster.uid()
    if entry.get("uid", uid) != uid:
        raise GuardRefused(f"the context '{cluster.context}' is another cluster now (its UID is {uid})", where=str(path), todo="correct 'uid' if you mean it")
    items = cluster.get("nodes")["items"]
    nodes = tuple(node_of(i) for i in items)
    info = items[0]["status"]["nodeInfo"]
    return Target(
        kind="context",
        name=cluster.context,
        kubeconfig=cluster.kubeconfig,
        context=cluster.context,
        uid=uid,
        nodes=nodes,
        generator_networks=tuple(entry.get("generator_networks") or own_addresses(nodes)),
        pod_networks=tuple(entry.get("pod_networks") or _pod_networks(items)),
        service_networks=tuple(entry.get("service_networks") or _service_networks(cluster)),
        versions={"kubernetes": info["kubeletVersion"], "kernel": info["kernelVersion"], "containerd": info["containerRuntimeVersion"]},
        unsupported={"node-commands": "there is no way into the nodes of a foreign cluster"},
    )


def _pod_networks(items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(c for i in items for c in i["spec"].get("podCIDRs") or [])


def _service_networks(cluster: Api) -> tuple[str, ...]:
    found = cluster("get", "servicecidrs", "-o", "jsonpath={.items[*].spec.cidrs[*]}", check=False)
    return tuple(found.stdout.split()) if found.code == 0 else ()


def own_addresses(nodes: Sequence[Node]) -> tuple[str, ...]:
    """This machine's addresses on its ways to the nodes; no packet is sent."""
    found: dict[str, None] = {}
    for address in (a for n in nodes for a in n.addresses):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            try:
                way.connect((address, 9))
            except OSError:
                continue  # no way there by this family
            found[f"{way.getsockname()[0]}/{128 if ':' in address else 32}"] = None
    return tuple(found)

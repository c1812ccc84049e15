"""Any other cluster, through a context of the user's kubeconfig that the user's configuration allows by name.

``~/.config/mailgale/config.yaml`` (or below ``XDG_CONFIG_HOME``)::

    allowed_contexts:
      - staging                       # by name alone
      - name: lab                     # or with more
        uid: 5f0c…                    # UID of its namespace kube-system; another cluster under that name is refused
        edge_node: worker-3           # carries the edge's host ports; otherwise the one node labelled mailgale.dev/edge=true
        image_registry: registry.example.org:5000/mailgale   # images are pushed there, as PREFIX/NAME:CONTENT-HASH
        storage_class: fast           # for queues and mailboxes; otherwise the cluster's default class
        generator_networks: [10.1.2.3/32]    # this machine as the edge node sees it
        pod_networks: [10.42.0.0/16]
        service_networks: [10.43.0.0/16]

There is no implicit current context; ``KUBECONFIG`` may name several files, merged as kubectl does. Nothing but mailgale's
own namespaces (and cluster-scoped objects called ``mailgale-<checkout id>…``) is changed there; nodes are neither labelled
nor cordoned. Without ``image_registry`` every node must hold the images already. An own kind cluster reached this way
(same UID) keeps its own ways: images by the engine, shared volumes, and the control of the isolation proof.

Limits: the generator must reach the edge node's InternalIP, and pods this machine's address there (see
``harness.stack.control``); nodes must pull from ``image_registry`` without a pull secret; where the API has no ServiceCIDR
objects (before 1.33) ``service_networks`` must be configured; nodes of a foreign cluster share no directory with this
machine, so volumes are the cluster's own, and faults that need a way into nodes or change them are not supported there.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from harness.cluster import kind, tools
from harness.cluster.allowed import Allowed, allowed_contexts, configuration_file
from harness.cluster.api import Api, node_of
from harness.errors import ClusterFailed, CommandFailed, GuardRefused
from harness.model.target import Node, Target
from harness.support.checkout import Checkout
from harness.support.progress import Progress, SilentProgress

_LACKING = {
    "node-commands": "there is no way into the nodes of a foreign cluster",
    "node-changes": "nodes of a foreign cluster are not cordoned, drained or stopped",
}


def target_for_context(name: str, checkout: Checkout, progress: Progress | None = None) -> Target:
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
        uid = _uid(cluster, allowed[name], path)
        own = _own(cluster, allowed[name], checkout, progress or SilentProgress()) if uid == kind.recorded_uid(checkout) else None
        return own or _foreign(cluster, allowed[name], uid)
    except CommandFailed as error:
        raise ClusterFailed(f"the cluster does not answer: {error.what}", where=name) from error


def _kubeconfig(name: str) -> str:
    """The user's kubeconfig files, if one of them holds the context; a context's cluster and user may stand in another."""
    words = (os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(os.pathsep)
    files = [w for w in words if w and Path(w).exists()]
    if not any(name in _contexts_in(Path(f)) for f in files):
        raise ClusterFailed(f"no context '{name}'", where=os.pathsep.join(words), todo="kubectl config get-contexts")
    return os.pathsep.join(files)


def _contexts_in(path: Path) -> list[str]:
    try:
        read = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterFailed(f"the kubeconfig cannot be read: {error}", where=str(path)) from error
    entries = read.get("contexts") if isinstance(read, dict) else None
    return [e["name"] for e in entries or [] if isinstance(e, dict) and "name" in e]


def _uid(cluster: Api, entry: Allowed, path: Path) -> str:
    uid = cluster.uid()
    if entry.uid and entry.uid != uid:
        raise GuardRefused(f"the context '{cluster.context}' is another cluster now (its UID is {uid})", where=str(path), todo="correct 'uid' if you mean it")
    return uid


def _own(cluster: Api, entry: Allowed, checkout: Checkout, progress: Progress) -> Target | None:
    """This checkout's kind cluster under another name; None where the engine does not show it up and well."""
    found = kind.current(checkout)
    if found is None:
        return None
    progress.note(f"the context '{cluster.context}' is this checkout's own kind cluster; images, volumes and the proof's control go by the engine")
    return replace(
        found, kind="context", name=cluster.context, kubeconfig=cluster.kubeconfig, context=cluster.context, nodes=_edge_marked(found.nodes, entry),
        generator_networks=entry.generator_networks or found.generator_networks, pod_networks=entry.pod_networks or found.pod_networks,
        service_networks=entry.service_networks or found.service_networks, image_registry=entry.image_registry,
        storage_class=entry.storage_class, unsupported={**found.unsupported, **_LACKING},
    )


def _foreign(cluster: Api, entry: Allowed, uid: str) -> Target:
    items = cluster.get("nodes")["items"]
    nodes = _edge_marked([node_of(i) for i in items], entry)
    info = items[0]["status"]["nodeInfo"]
    return Target(
        kind="context",
        name=cluster.context,
        kubeconfig=cluster.kubeconfig,
        context=cluster.context,
        uid=uid,
        nodes=nodes,
        generator_networks=entry.generator_networks or own_addresses(nodes),
        pod_networks=entry.pod_networks or _pod_networks(items),
        service_networks=entry.service_networks or _service_networks(cluster),
        image_registry=entry.image_registry,
        storage_class=entry.storage_class,
        versions={"kubernetes": info["kubeletVersion"], "kernel": info["kernelVersion"], "containerd": info["containerRuntimeVersion"]},
        unsupported=_LACKING,
    )


def _edge_marked(nodes: Sequence[Node], entry: Allowed) -> tuple[Node, ...]:
    """The nodes, the edge being the configured one where there is such a key; no node is labelled for that."""
    return tuple(replace(n, edge=n.name == entry.edge_node) for n in nodes) if entry.edge_node else tuple(nodes)


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

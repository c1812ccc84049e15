"""What a cluster that mailgale did not make must have before anything is deployed there: an edge, a storage class, images.

Asked, never changed: nodes are neither labelled nor cordoned, and no image is forced on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.cluster.load import full_name
from harness.cluster.topology import EDGE_LABEL
from harness.errors import NotReady
from harness.kube.client import Cluster
from harness.kube.objects import NodeState
from harness.stack.images import Image
from harness.support.progress import Progress

#: kubelet's nodeStatusMaxImages: a list this long may have been cut, and what is not in it may be there all the same.
REPORTED_MAX = 50
_EDGE_IMAGE = "edge"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def check(cluster: Cluster) -> None:
    """Whether there is one edge node, and a storage class for the volumes.

    :raises NotReady: there is not; the message says which key or label gives it.
    """
    _edge(cluster)
    if not cluster.target.volumes_dir:
        _storage(cluster)


@dataclass(frozen=True)
class Held:
    """Which images which nodes lack: image reference → nodes. ``unknown``: the kubelet's list was cut or empty."""

    missing: dict[str, list[str]]
    unknown: dict[str, list[str]]


def have_images(cluster: Cluster, images: Iterable[Image], progress: Progress) -> None:
    """Whether every node that may run a pod of the stack holds its images, as far as the kubelets report them.

    Known limit: a kubelet with a ``nodeStatusMaxImages`` below the default of 50 reports a cut list that looks whole.

    :raises NotReady: a node surely lacks one; the message lists them.
    """
    held = examine(cluster, list(images))
    if held.missing:
        listed = "; ".join(f"{ref} on {', '.join(nodes)}" for ref, nodes in sorted(held.missing.items()))
        raise NotReady(
            f"nodes lack images, and without 'image_registry' none are brought there: {listed}", where=cluster.target.name,
            todo="set 'image_registry' for this context in the configuration, or import them (docker save, ctr -n k8s.io images import; "
            "a kubelet reports them within a minute)",
        )
    if held.unknown:
        nodes = sorted({n for found in held.unknown.values() for n in found})
        progress.note(
            f"unknown whether {', '.join(nodes)} hold {', '.join(sorted(held.unknown))}: a kubelet reports {REPORTED_MAX} images at most"
        )


def examine(cluster: Cluster, images: list[Image]) -> Held:
    """What :func:`have_images` goes by."""
    held = Held({}, {})
    for node in cluster.nodes():
        for image in images:
            if _needed(image, node, cluster.target.edge.name) and full_name(image.ref) not in node.images:
                whole = 0 < node.image_count < REPORTED_MAX
                (held.missing if whole else held.unknown).setdefault(image.ref, []).append(node.name)
    return held


def _needed(image: Image, node: NodeState, edge: str) -> bool:
    """The edge pod tolerates what keeps others away, so a tainted edge node needs its image only."""
    return node.takes_pods or (node.name == edge and image.name == _EDGE_IMAGE)


def _edge(cluster: Cluster) -> None:
    marked = [n.name for n in cluster.target.nodes if n.edge]
    todo = f"set 'edge_node' for this context in the configuration, or: kubectl label node NAME {EDGE_LABEL}=true"
    if not marked:
        raise NotReady("no node is marked to carry the edge's host ports, and mailgale labels none by itself", where=cluster.target.name, todo=todo)
    if len(marked) > 1:
        raise NotReady(f"several nodes are marked as the edge: {', '.join(marked)}", where=cluster.target.name, todo="set 'edge_node' to one of them")


def _storage(cluster: Cluster) -> None:
    classes = {c["metadata"]["name"]: c for c in cluster.items("/apis/storage.k8s.io/v1/storageclasses")[0]}
    wanted = cluster.target.storage_class
    if wanted and wanted not in classes:
        raise NotReady(f"there is no StorageClass '{wanted}'", where=cluster.target.name, todo=f"there are: {', '.join(sorted(classes)) or 'none'}")
    if not wanted and not any((c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true" for c in classes.values()):
        raise NotReady("the cluster has no default StorageClass for queues and mailboxes", where=cluster.target.name,
                       todo="set 'storage_class' for this context in the configuration")

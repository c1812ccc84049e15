"""Volumes that follow their pods: one host directory that every node mounts, one subdirectory a claim.

``/var/lib/mailgale/volumes/<namespace>/<claim>`` on every node is the same directory of the host, so a pod finds its queue on
whatever node it comes up (as with the talk's storage, T05), and the census reads it without a pod.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cluster import filesystems
from harness.errors import CleanupIncomplete, GuardRefused
from harness.model.target import Target

STORAGE_CLASS = "mailgale-volumes"
NODE_DIRECTORY = "/var/lib/mailgale/volumes"
#: A StatefulSet may be scaled up to this many pods in the middle of a run.
ORDINALS_MIN = 4
#: On a claim template: each claim of the workload's replicas is a file system of its own (``ext4``), where this host can make one.
FILE_SYSTEM = "mailgale.dev/file-system"
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

Manifest = dict[str, Any]


def claims_of(manifests: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and spec of every claim that the manifests will make, with room for scaling up (``ORDINALS_MIN``)."""
    for manifest in manifests:
        kind, name, spec = manifest.get("kind"), manifest["metadata"]["name"], manifest.get("spec") or {}
        if kind == "PersistentVolumeClaim":
            yield name, spec
        elif kind == "StatefulSet":
            ordinals = max(int(spec.get("replicas", 1)), ORDINALS_MIN)
            for template in spec.get("volumeClaimTemplates") or []:
                for ordinal in range(ordinals):
                    yield f"{template['metadata']['name']}-{name}-{ordinal}", template["spec"]


def own_file_systems(manifests: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Claim → octets, of every claim that shall be a file system of its own."""
    found = {}
    for manifest in (m for m in manifests if m.get("kind") == "StatefulSet"):
        for template in manifest["spec"].get("volumeClaimTemplates") or []:
            if (template["metadata"].get("annotations") or {}).get(FILE_SYSTEM) == "ext4":
                size = _octets(str(template["spec"]["resources"]["requests"]["storage"]))
                names = (f"{template['metadata']['name']}-{manifest['metadata']['name']}-{n}" for n in range(int(manifest["spec"].get("replicas", 1))))
                found.update(dict.fromkeys(names, size))
    return found


def _octets(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]] if quantity[-2:] in _UNITS else int(quantity)


def volumes_for(manifests: Sequence[Manifest], namespace: str, *, shared: bool, storage_class: str = "") -> list[Manifest]:
    """The StorageClass and one volume a claim. Without ``shared`` none: claims get ``storage_class``, "" = the cluster's default."""
    if not shared:
        for spec in _claim_specs(manifests):
            spec.pop("storageClassName", None)
            spec.update({"storageClassName": storage_class} if storage_class else {})
        return []
    found = [(n, s) for n, s in claims_of(manifests) if s.get("storageClassName") == STORAGE_CLASS]
    return [_storage_class(), *(_volume(namespace, name, spec) for name, spec in found)] if found else []


def directory(target: Target, namespace: str, claim: str = "") -> Path | None:
    """Where on this host a claim's files are (all claims of ``namespace`` without ``claim``); None where nodes share nothing."""
    return Path(target.volumes_dir) / namespace / claim if target.volumes_dir else None


def remove(target: Target, namespace: str) -> None:
    """Delete the directories of all claims of ``namespace``.

    :raises GuardRefused: the name could lead out of the volumes' directory.
    :raises CleanupIncomplete: something cannot be deleted.
    """
    if not target.volumes_dir:
        return
    if not namespace.startswith("mailgale-") or "/" in namespace or namespace in (".", ".."):
        raise GuardRefused("no namespace of ours", where=namespace)
    filesystems.withdraw(target, namespace)
    path = Path(target.volumes_dir) / namespace
    if not path.exists():
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise CleanupIncomplete(f"volumes are left behind: {error}", where=str(path), todo="delete the directory") from error


def _claim_specs(manifests: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        if manifest.get("kind") == "PersistentVolumeClaim":
            yield manifest["spec"]
        for template in (manifest.get("spec") or {}).get("volumeClaimTemplates") or []:
            yield template["spec"]


#: With ``Immediate`` a pod that the scheduler looked at before its claim was bound can be forgotten for five minutes.
_BINDING = "WaitForFirstConsumer"


def _storage_class() -> Manifest:
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": _BINDING, "reclaimPolicy": "Retain",
    }


def _volume(namespace: str, claim: str, spec: Mapping[str, Any]) -> Manifest:
    # claimRef binds it to this one claim; without it a volume of one pod could go to another.
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": copy.copy(spec.get("accessModes") or ["ReadWriteOnce"]),
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": STORAGE_CLASS,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim},
            "hostPath": {"path": f"{NODE_DIRECTORY}/{namespace}/{claim}", "type": "DirectoryOrCreate"},
        },
    }

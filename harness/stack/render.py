"""From profile, variants and parameters to the list of manifests: ``kubectl kustomize`` and what it cannot do.

kustomize does the namespace and the variants. Done here, on its output: images by content hash, the run's parameters and
secrets, names of cluster-scoped objects, the address of the lab's DNS, and volumes that follow their pods.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from harness.cluster.tools import kubectl_path
from harness.cluster.topology import EDGE_LABEL
from harness.errors import CommandFailed, StackFailed, UsageError
from harness.kube.guards import CHECKOUT, MANAGED_BY, MANAGER
from harness.stack.params import DEFAULT_DNS_ADDRESS, Credentials, Params, secret_data
from harness.stack.volumes import volumes_for
from harness.support.checkout import Checkout
from harness.support.shell import run

#: On cluster-scoped objects: the namespace they were made for.
NAMESPACE_LABEL = "mailgale.dev/namespace"
_IMAGE = re.compile(r"mailgale/([a-z0-9-]+):dev\Z")
_KUSTOMIZE_TIMEOUT_S = 60.0

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What will be applied. ``sha256`` covers everything but the secrets and the namespace's name."""

    manifests: tuple[Manifest, ...]
    sha256: str


def kustomize(checkout: Checkout, *, profile: str, variants: Sequence[str], namespace: str) -> list[Manifest]:
    """The manifests of a profile with its variants, in ``namespace``, images and parameters still as in ``deploy/``.

    :raises UsageError: no such profile or variant; the message names the nearest.
    :raises StackFailed: kustomize refuses.
    """
    deploy = checkout.root / "deploy"
    _exists(deploy / "profiles", profile, "profile")
    for variant in variants:
        _exists(deploy / "variants", variant, "variant")
    with tempfile.TemporaryDirectory(prefix="mailgale-render-") as made:
        # kustomize takes relative roots only, and resolves symbolic links.
        folder = Path(made).resolve()
        top = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": namespace,
            "resources": [os.path.relpath((deploy / "profiles" / profile).resolve(), folder)],
            "components": [os.path.relpath((deploy / "variants" / v).resolve(), folder) for v in variants],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(top))
        text = _run_kustomize(checkout, folder)
    return [m for m in yaml.load_all(text, yaml.CSafeLoader) if isinstance(m, dict)]


def images_of(manifests: Sequence[Manifest]) -> set[str]:
    """Names of the component images that the manifests use: ``mx`` for ``mailgale/mx:dev``."""
    refs = {str(c.get("image", "")) for m in manifests for c in containers_of(m)}
    return {found[1] for ref in refs if (found := _IMAGE.match(ref))}


def render(
    manifests: Sequence[Manifest], *, params: Params, credentials: Credentials, images: Mapping[str, str], owner_labels: Mapping[str, str],
    shared_volumes: bool, storage_class: str = "", edge_node: str = "",
) -> Rendered:
    """The output of :func:`kustomize` made ready to apply.

    :param images: image name → reference with its content hash.
    :param owner_labels: of ``kube.guards.Owner``.
    :param shared_volumes: claims get volumes in the directory that all nodes share; otherwise ``storage_class``.
    :param storage_class: "" = the cluster's default.
    :param edge_node: the edge is bound to the node of this name instead of a labelled one ("" = by label).
    :raises StackFailed: an image is missing, or the profile has no ``run-params`` or ``run-secrets``.
    :raises UsageError: an override that the profile has no parameter for.
    """
    made: list[Manifest] = [_replaced(m, params.dns_address) for m in manifests if m.get("kind") != "Namespace"]
    _set_images(made, images)
    _set_params(made, params)
    _set_secrets(made, credentials)
    _name_cluster_scoped(made, params.namespace)
    made += volumes_for(made, params.namespace, shared=shared_volumes, storage_class=storage_class)
    if edge_node:
        _bind_edge(made, edge_node)
    for one in made:
        # The StorageClass is shared by all stacks; everything else without a namespace goes when its stack goes.
        alone = "namespace" in one["metadata"] or one.get("kind") == "StorageClass"
        _label(one, {**owner_labels, **({} if alone else {NAMESPACE_LABEL: params.namespace})})
    return Rendered(tuple(made), _digest(made, params.namespace))


def render_preview(checkout: Checkout, *, profile: str, variants: Sequence[str]) -> str:
    """The manifests as YAML, as they would be applied: secrets and content hashes left out, nothing touched.

    Errors as of :func:`kustomize` and :func:`render`.
    """
    namespace = checkout.namespace("preview")
    found = kustomize(checkout, profile=profile, variants=variants, namespace=namespace)
    params = Params(namespace, 200, 30.0, ("192.0.2.0/24",), ("10.244.0.0/16",))
    labels = {MANAGED_BY: MANAGER, CHECKOUT: checkout.id}
    hidden = Credentials("made-for-each-run", "", "", "")
    images = {name: f"mailgale/{name}:dev" for name in images_of(found)}
    made = render(found, params=params, credentials=hidden, images=images, owner_labels=labels, shared_volumes=True)
    return yaml.safe_dump_all(made.manifests, sort_keys=False)


def containers_of(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Containers and init containers of a workload or pod."""
    spec = pod_spec_of(manifest)
    for key in ("initContainers", "containers"):
        yield from spec.get(key) or []


def pod_spec_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The pod spec of a workload or pod; {} for everything else."""
    spec = manifest.get("spec")
    if manifest.get("kind") == "Pod" and isinstance(spec, dict):
        return spec
    template = spec.get("template") if isinstance(spec, dict) else None
    found = template.get("spec") if isinstance(template, dict) else None
    return found if isinstance(found, dict) else {}


def _exists(folder: Path, name: str, what: str) -> None:
    known = sorted(p.parent.name for p in folder.glob("*/kustomization.yaml"))
    if name not in known:
        near = get_close_matches(name, known, 1) or known
        raise UsageError(f"there is no {what} '{name}'", where=f"deploy/{folder.name}", todo=f"nearest: {', '.join(near) or 'none at all'}")


def _run_kustomize(checkout: Checkout, folder: Path) -> str:
    try:
        return run([kubectl_path(checkout), "kustomize", folder], timeout_s=_KUSTOMIZE_TIMEOUT_S).stdout
    except CommandFailed as error:
        raise StackFailed(f"kustomize refuses the manifests: {error.what}", where="deploy") from error


def _replaced(manifest: Manifest, dns_address: str) -> Manifest:
    if dns_address == DEFAULT_DNS_ADDRESS:
        return manifest
    whole = re.compile(rf"(?<![\d.]){re.escape(DEFAULT_DNS_ADDRESS)}(?![\d.])")
    made = _map_strings(manifest, lambda text: whole.sub(dns_address, text))
    assert isinstance(made, dict)
    return made


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {k: _map_strings(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_map_strings(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def _set_images(manifests: Sequence[Manifest], images: Mapping[str, str]) -> None:
    for manifest in manifests:
        for container in containers_of(manifest):
            found = _IMAGE.match(str(container.get("image", "")))
            if found is None:
                raise StackFailed(f"image '{container.get('image')}' is not built from deploy/components", where=_title(manifest))
            if found[1] not in images:
                raise StackFailed(f"image '{found[1]}' was not built", where=_title(manifest))
            container["image"] = images[found[1]]
            container.setdefault("imagePullPolicy", "IfNotPresent")


def _set_params(manifests: Sequence[Manifest], params: Params) -> None:
    data = _only(manifests, "ConfigMap", "run-params").setdefault("data", {})
    for key in params.overrides:
        if key not in data:
            near = get_close_matches(key, data, 1) or sorted(data)
            raise UsageError(f"the stack has no parameter '{key}'", where="run-params", todo=f"nearest: {', '.join(near)}")
    data.update(params.data())


def _set_secrets(manifests: Sequence[Manifest], credentials: Credentials) -> None:
    secret = _only(manifests, "Secret", "run-secrets")
    secret.pop("stringData", None)
    secret["data"] = secret_data(credentials)


def _only(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    found = [m for m in manifests if m.get("kind") == kind and m["metadata"]["name"] == name]
    if len(found) != 1:
        raise StackFailed(f"the profile has {len(found)} {kind}s called {name}, it needs one", where="deploy/profiles")
    return found[0]


def _name_cluster_scoped(manifests: Sequence[Manifest], namespace: str) -> None:
    """ClusterRoles and their bindings get the namespace into their names, so that two stacks do not meet in one."""
    roles = {m["metadata"]["name"]: m for m in manifests if m.get("kind") == "ClusterRole"}
    for role in roles.values():
        role["metadata"]["name"] = f"{namespace}-{role['metadata']['name']}"
    for binding in (m for m in manifests if m.get("kind") in ("ClusterRoleBinding", "RoleBinding")):
        if binding["kind"] == "ClusterRoleBinding":
            binding["metadata"]["name"] = f"{namespace}-{binding['metadata']['name']}"
        if binding["roleRef"]["name"] in roles and binding["roleRef"]["kind"] == "ClusterRole":
            binding["roleRef"]["name"] = f"{namespace}-{binding['roleRef']['name']}"
        for subject in binding.get("subjects") or []:
            if subject.get("kind") == "ServiceAccount":
                subject["namespace"] = namespace


def _bind_edge(manifests: Sequence[Manifest], node: str) -> None:
    """Workloads that ask for the edge's label ask for the node's name: no node of a foreign cluster need be labelled."""
    for spec in (pod_spec_of(m) for m in manifests):
        if EDGE_LABEL in (spec.get("nodeSelector") or {}):
            del spec["nodeSelector"][EDGE_LABEL]
            named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            spec.setdefault("affinity", {})["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [named]}}


def _label(manifest: Manifest, labels: Mapping[str, str]) -> None:
    meta = manifest["metadata"]
    meta["labels"] = {**(meta.get("labels") or {}), **labels}


def _digest(manifests: Sequence[Manifest], namespace: str) -> str:
    plain = [m for m in manifests if m.get("kind") != "Secret"]
    text = json.dumps(plain, sort_keys=True).replace(namespace, "NAMESPACE")
    return hashlib.sha256(text.encode()).hexdigest()


def _title(manifest: Mapping[str, Any]) -> str:
    return f"{manifest.get('kind')}/{manifest['metadata']['name']}"

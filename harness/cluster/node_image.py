"""The image that kind's nodes run: ``kindest/node`` where a registry answers, else one made here from Debian packages
and Go modules (sources: ``deploy/kind/node-image``), by the same contract, so that plain kind takes either.

What kind asks of a node image: an entry point that ends in systemd, ``/kind/version``, ``/kind/manifests``, kubeadm,
kubelet, kubectl, containerd, and kubeadm's images preloaded (kind's ``nodeimage`` package).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.cluster import golang, images, recipe, registry
from harness.cluster.base_image import ensure_from_scratch
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress

#: ``MAILGALE_NODE_IMAGE=built`` makes the image here even where a registry answers.
SWITCH = "MAILGALE_NODE_IMAGE"
NAME = "mailgale/kind-node"
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
_SAVE_S = 300
_PREPARE_S = 600


def ensure_node_image(engine: Engine, checkout: Checkout, progress: Progress) -> str:
    """Reference of a node image that the engine holds; made where there is none. Cold: minutes; warm: no time.

    :raises ClusterFailed: it cannot be made; the message has the last lines of what failed.
    """
    kindest = recipe.versions(checkout)["KINDEST_NODE"]
    if os.environ.get(SWITCH) != "built" and registry.answers(engine, checkout) and registry.pull(engine, checkout, kindest, progress):
        return kindest
    ref = built_ref(checkout)
    if not engine.has_image(ref):
        with progress.stage("node image from Debian packages and Go modules"):
            _build(engine, checkout, progress, ref)
    return ref


def is_built_here(ref: str) -> bool:
    """Whether ``ref`` is one of our own making."""
    return ref.startswith(f"{NAME}:")


def built_ref(checkout: Checkout) -> str:
    """Reference of the image that the present sources make."""
    return f"{NAME}:{recipe.digest([recipe.folder(checkout) / 'node-image'], *images.recipe_of_base())}"


def ensure_load_balancer(engine: Engine, checkout: Checkout, progress: Progress) -> None:
    """The image kind starts before several API servers. It has one fixed name: made only where the engine lacks it.

    :raises ClusterFailed: it cannot be made.
    """
    fixed = recipe.versions(checkout)["LOAD_BALANCER"]
    if engine.has_image(fixed) or registry.pull(engine, checkout, fixed, progress):
        return
    made = images.ensure_built(
        engine, checkout, progress, name="mailgale/kind-load-balancer", context=recipe.folder(checkout) / "load-balancer", suite="trixie"
    )
    engine.docker("tag", made, fixed)


def kubernetes_flags(version: str) -> str:
    """Linker flags that tell Kubernetes its version."""
    _, minor, _ = version.split(".")
    values = {
        "gitVersion": version, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean", "gitCommit": "none",
        "buildDate": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    return " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())


def _build(engine: Engine, checkout: Checkout, progress: Progress, ref: str) -> None:
    sources, version = recipe.folder(checkout) / "node-image", recipe.versions(checkout)["KUBERNETES"]
    kube = golang.build(
        engine, checkout, progress, name="kube", source=sources / "go" / "kubernetes", ldflags=kubernetes_flags(version)
    )
    parts = {p: ensure_from_scratch(engine, checkout, progress, p) for p in ("etcd", "coredns", "pause")}
    parts["kube"] = images.ensure_built(
        engine, checkout, progress, name="mailgale/kube", context=sources / "control-plane", suite="bookworm", files=[kube]
    )
    bare = images.ensure_built(
        engine, checkout, progress, name="mailgale/kind-node-bare", context=sources / "node", suite="bookworm", files=[kube],
        arguments=[f"VERSION={version}"],
    )  # fmt: skip
    with progress.stage("control-plane images into the node image"):
        try:
            _preload(engine, bare, parts, version, ref)
        except CommandFailed as error:
            raise ClusterFailed(f"the node image cannot be prepared: {error}") from error


def _preload(engine: Engine, bare: str, parts: Mapping[str, str], version: str, ref: str) -> None:
    """Import the control plane's images in a container of the bare image, and commit that."""
    container = f"mailgale-prepare-{ref.rpartition(':')[2]}"
    with tempfile.TemporaryDirectory(prefix="mailgale-") as folder:
        tar = Path(folder) / "images.tar"
        engine.docker("save", "-o", tar, *parts.values(), timeout_s=_SAVE_S)
        engine.docker("rm", "-f", container, check=False)
        try:
            engine.docker(
                "run", "-d", "--name", container, "--privileged", "--tmpfs", "/tmp", "--tmpfs", "/run", "-v", f"{tar}:/images.tar:ro",
                "--entrypoint", "sleep", bare, str(_PREPARE_S), timeout_s=120,
            )  # fmt: skip
            names = [f"{part}={image}" for part, image in parts.items()]
            engine.docker("exec", container, "/usr/local/sbin/prepare-images", version, *names, timeout_s=_PREPARE_S)
            engine.docker("commit", "--change", _ENTRYPOINT, container, ref, timeout_s=_PREPARE_S)
        finally:
            engine.docker("rm", "-f", container, check=False)

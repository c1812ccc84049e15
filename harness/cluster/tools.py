"""kind and kubectl. kind is built from its Go module at the pinned version (``deploy/kind/tools``); kubectl is the
machine's where it is new enough for kustomize Components, else the one in the node image.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from harness.cluster import golang, recipe
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress
from harness.support.shell import run

_OLDEST_KUBECTL = (1, 28)


def ensure_kind(engine: Engine, checkout: Checkout, progress: Progress) -> Path:
    """The kind program, built where the cache has none.

    :raises ClusterFailed: it cannot be built.
    """
    return golang.build(
        engine, checkout, progress, name="kind", source=recipe.folder(checkout) / "tools", package="sigs.k8s.io/kind"
    )


def kind_path(checkout: Checkout) -> Path:
    """The kind program that was built before.

    :raises ClusterFailed: there is none yet.
    """
    key = recipe.digest([recipe.folder(checkout) / "tools"], "", "sigs.k8s.io/kind")
    path = checkout.cache / "go" / f"kind-{key}" / "kind"
    if not path.exists():
        raise ClusterFailed("kind is not built yet", where=str(path), todo="mailgale cluster up")
    return path


def ensure_kubectl(engine: Engine, checkout: Checkout, node_image: str) -> Path:
    """A kubectl of 1.28 or newer; copied out of the node image where the machine has none.

    :raises ClusterFailed: the node image gives none that runs here.
    """
    found = host_kubectl()
    if found is not None:
        return found
    path = _cached_kubectl(checkout)
    if version_of(path) >= _OLDEST_KUBECTL:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copy_out(engine, node_image, path)
    except CommandFailed as error:
        raise ClusterFailed(f"no kubectl in the node image: {error.what}", where=node_image) from error
    if version_of(path) < _OLDEST_KUBECTL:
        raise ClusterFailed("the node image's kubectl does not run here", where=str(path), todo="install kubectl 1.28 or newer")
    return path


def kubectl_path(checkout: Checkout) -> Path:
    """A kubectl of 1.28 or newer: the machine's, else the one that ``mailgale cluster up`` copied out of the node image.

    :raises ClusterFailed: there is neither.
    """
    found = host_kubectl() or _cached_kubectl(checkout)
    if not found.exists():
        raise ClusterFailed("no kubectl of 1.28 or newer", where=str(found), todo="mailgale cluster up")
    return found


def host_kubectl() -> Path | None:
    """The machine's kubectl when it is new enough."""
    found = shutil.which("kubectl")
    return Path(found) if found and version_of(Path(found)) >= _OLDEST_KUBECTL else None


def version_of(kubectl: Path) -> tuple[int, int]:
    """(1, 34) of a kubectl v1.34.x; (0, 0) of what is none or does not run."""
    if not kubectl.exists():
        return (0, 0)
    found = run([kubectl, "version", "--client", "-o", "json"], timeout_s=30, check=False)
    try:
        text = json.loads(found.stdout)["clientVersion"]["gitVersion"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return (0, 0)
    number = re.match(r"v(\d+)\.(\d+)", text)
    return (int(number[1]), int(number[2])) if number else (0, 0)


def _cached_kubectl(checkout: Checkout) -> Path:
    return checkout.cache / "tools" / f"kubectl-{recipe.versions(checkout)['KUBERNETES']}-{recipe.architecture()}" / "kubectl"


def _copy_out(engine: Engine, image: str, path: Path) -> None:
    made = engine.docker("create", "--entrypoint", "true", image, timeout_s=120).stdout.strip()
    try:
        # -L: in our image kubectl is a link to the one binary of all Kubernetes programs.
        engine.docker("cp", "-L", f"{made}:/usr/bin/kubectl", path.with_suffix(".new"), timeout_s=120)
    finally:
        engine.docker("rm", "-f", made, check=False)
    path.with_suffix(".new").chmod(0o755)
    path.with_suffix(".new").replace(path)

"""Bringing images to the nodes: only what a node lacks, one save, all nodes side by side."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.progress import Progress
from harness.support.shell import run

_TRANSFER_S = 900
#: On a node: one file for each image brought, named by its reference, holding the engine's id of it. A tag that was
#: built again has another id and is brought again.
_MARKS = "/var/lib/containerd/mailgale-images"


def load(engine: Engine, nodes: Sequence[str], refs: Iterable[str], progress: Progress) -> None:
    """Bring ``refs`` to all of ``nodes``.

    :raises ClusterFailed: the engine lacks one, or a node does not take it.
    """
    wanted = {ref: image_id(engine, ref) for ref in dict.fromkeys(refs)}
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        lacking = dict(zip(nodes, pool.map(lambda n: lacks(engine, n, wanted), nodes), strict=True))
        missing = [ref for ref in wanted if any(ref in refs for refs in lacking.values())]
        if not missing:
            return
        progress.waiting(f"{len(missing)} images to {sum(1 for refs in lacking.values() if refs)} nodes")
        with tempfile.TemporaryDirectory(prefix="mailgale-") as folder:
            tar = Path(folder) / "images.tar"
            engine.docker("save", "-o", tar, *missing, timeout_s=_TRANSFER_S)
            chosen = {ref: wanted[ref] for ref in missing}
            list(pool.map(lambda n: _import(engine, n, tar, chosen), [n for n, refs in lacking.items() if refs]))


def image_id(engine: Engine, ref: str) -> str:
    """The engine's id of ``ref``.

    :raises ClusterFailed: it has none.
    """
    found = engine.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False)
    if found.code != 0:
        raise ClusterFailed(f"the engine does not hold the image {ref}", todo="build it first")
    return found.stdout.strip()


def lacks(engine: Engine, node: str, wanted: dict[str, str]) -> set[str]:
    """Those of ``wanted`` (reference → id) that the node has not, or has in another version."""
    listing = f"ctr -n k8s.io images ls -q; echo; cd {_MARKS} 2>/dev/null && grep -H . * || true"
    names, _, marks = engine.docker("exec", node, "sh", "-c", listing).stdout.partition("\n\n")
    held, known = set(names.split()), set(marks.split())
    return {ref for ref, id in wanted.items() if full_name(ref) not in held or f"{_mark(ref)}:{id}" not in known}


def full_name(ref: str) -> str:
    """``mailgale/x:1`` as containerd names it: ``docker.io/mailgale/x:1``."""
    first, slash, _ = ref.partition("/")
    tagged = ref if ":" in ref.rpartition("/")[2] else f"{ref}:latest"
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tagged
    return f"docker.io/{tagged}" if slash else f"docker.io/library/{tagged}"


def _mark(ref: str) -> str:
    return hashlib.sha256(ref.encode()).hexdigest()[:16]


def _import(engine: Engine, node: str, tar: Path, images: dict[str, str]) -> None:
    marks = "; ".join([f"mkdir -p {_MARKS}", *(f"echo {id} > {_MARKS}/{_mark(ref)}" for ref, id in images.items())])
    script = 'docker exec -i "$0" ctr -n k8s.io images import - < "$1"'
    try:
        run(["sh", "-c", script, node, tar], timeout_s=_TRANSFER_S, env=engine.environment)
        engine.docker("exec", node, "sh", "-ec", marks)
    except CommandFailed as error:
        raise ClusterFailed(f"the node does not take the images: {error.what}", where=node, todo="is its disk full?") from error

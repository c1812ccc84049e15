"""What component images are built on: Debian base images and the lab's own CoreDNS."""

from __future__ import annotations

from harness.cluster import golang, images, recipe
from harness.cluster.engine import Engine
from harness.cluster.images import ensure_base_image
from harness.support.checkout import Checkout
from harness.support.progress import Progress

__all__ = ["ensure_base_image", "ensure_coredns_image", "ensure_from_scratch"]


def ensure_coredns_image(engine: Engine, checkout: Checkout, progress: Progress) -> str:
    """Reference of the lab's own CoreDNS (``mailgale/coredns:<hash>``), built from its Go module with our plugins.

    :raises ClusterFailed: it cannot be built.
    """
    return ensure_from_scratch(engine, checkout, progress, "coredns")


def ensure_from_scratch(engine: Engine, checkout: Checkout, progress: Progress, part: str) -> str:
    """Reference of an image that holds one Go program of ``deploy/kind/node-image/go`` and nothing else."""
    sources = recipe.folder(checkout) / "node-image"
    program = golang.build(engine, checkout, progress, name=part, source=sources / "go" / part)
    return images.ensure_built(
        engine, checkout, progress, name=f"mailgale/{part}", context=sources / "scratch", dockerfile=f"Dockerfile.{part}", files=[program]
    )

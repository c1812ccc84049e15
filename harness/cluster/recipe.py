"""Recipes: what an image or a program is made from, and the hash it is cached by."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

from harness.errors import ClusterFailed
from harness.support.checkout import Checkout

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
#: Label on every image made here; its value is the recipe's hash.
LABEL = "mailgale.dev/recipe"


def architecture() -> str:
    """``amd64`` or ``arm64``.

    :raises ClusterFailed: another machine.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ClusterFailed(f"no images are made for {machine} machines", todo="use one with amd64 or arm64")
    return _ARCHITECTURES[machine]


def folder(checkout: Checkout) -> Path:
    """Where the sources lie."""
    return checkout.root / "deploy" / "kind"


def digest(paths: Iterable[Path], *more: str) -> str:
    """12 hex digits over the files (folders: all files in them, with names and execute bits), ``more`` and the architecture."""
    total = hashlib.sha256("\0".join((architecture(), *more)).encode())
    for root in paths:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file():
                name = path.relative_to(root) if root.is_dir() else path.name
                total.update(f"{name}\0{path.stat().st_mode & 0o100}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def versions(checkout: Checkout) -> dict[str, str]:
    """The pinned versions (``deploy/kind/node-image/versions.env``)."""
    lines = (folder(checkout) / "node-image" / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

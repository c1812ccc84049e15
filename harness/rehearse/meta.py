"""What was tested, for the head of the run: versions, digests, target, host."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import __version__
from harness.model.plan import Plan
from harness.model.target import Target
from harness.rehearse.order import Options
from harness.support.checkout import Checkout

_TOOLS = ("locust", "aiosmtplib", "aioimaplib", "chaostoolkit", "chaostoolkit-lib", "chaostoolkit-kubernetes", "dnspython", "kubernetes", "duckdb")


def what_is_tested(plan: Plan, target: Target, checkout: Checkout, options: Options) -> dict[str, Any]:
    """The ``meta`` of run.json: everything a reviewer needs to know what the verdict is about."""
    return {**what_is_used(target, checkout), "options": asdict(options), "command": _command(plan, target, options), "held_constant": dict(plan.held_constant)}


def what_is_used(target: Target, checkout: Checkout) -> dict[str, Any]:
    """Target, versions, source and host."""
    return {
        "target": _target(target),
        "versions": {"mailgale": __version__, "python": platform.python_version(), **dict(target.versions), **_packages()},
        "source": _source(checkout),
        "host": _host(),
        "unsupported": dict(target.unsupported),
    }


def _target(target: Target) -> dict[str, Any]:
    if not target.nodes:
        return {"kind": target.kind, "name": target.name}
    return {
        "kind": target.kind, "name": target.name, "uid": target.uid,
        "nodes": [asdict(n) for n in target.nodes],
        "pod_networks": list(target.pod_networks), "service_networks": list(target.service_networks),
    }


def _packages() -> Mapping[str, str]:
    """Under "kubernetes" stands the version of the cluster, not that of the client's package."""
    return {"kubernetes client" if name == "kubernetes" else name: metadata.version(name) for name in _TOOLS}


def _source(checkout: Checkout) -> dict[str, str]:
    """The commit of the checkout and whether anything in it was changed ("" outside git), and the hash of what a run is made of."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=checkout.root, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

    return {"commit": git("rev-parse", "HEAD"), "changed": "yes" if git("status", "--porcelain", "--untracked-files=no") else "no",
            "sha256": source_digest(checkout.root)}  # fmt: skip


def source_digest(root: Path) -> str:
    """SHA-256 over name and content of every file under ``harness``, ``scenarios`` and ``deploy``: equal only for equal sources."""
    made = hashlib.sha256()
    for folder in ("harness", "scenarios", "deploy"):
        for path in sorted(p for p in (root / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            made.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            made.update(path.read_bytes())
    return made.hexdigest()


def _host() -> dict[str, Any]:
    memory = next((line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")), "0")
    return {"cores": os.cpu_count() or 0, "memory_bytes": int(memory) * 1024, "kernel": platform.release(), "machine": platform.machine()}


def _command(plan: Plan, target: Target, options: Options) -> str:
    words = ["mailgale", "run", plan.source]
    if options.arms != "main":
        words += ["--arms", options.arms]
    if options.blocks != 1:
        words += ["--blocks", str(options.blocks)]
    if target.kind == "context":
        words += ["--target", "context", "--context", target.context]
    return " ".join(words)

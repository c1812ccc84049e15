"""Programs from Go modules, built once per recipe: by the machine's Go, else in a container with Debian's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.cluster import images, recipe
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress
from harness.support.shell import run, stream

_OLDEST = (1, 24)
_BUILD_S = 3600
#: No C, no paths of this machine in the program, the Go that is there, checksums as pinned in go.sum.
_ENV = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def build(
    engine: Engine, checkout: Checkout, progress: Progress, *, name: str, source: Path, ldflags: str = "", package: str = "."
) -> Path:
    """The program ``name`` from the module in ``source``; built only where the cache has none of this recipe.

    :param ldflags: beside ``-s -w``.
    :param package: main package, when it is not the module itself.
    :raises ClusterFailed: the build fails; its last lines are in the message.
    """
    key = recipe.digest([source], ldflags, package)
    path = checkout.cache / "go" / f"{name}-{key}" / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-trimpath", "-ldflags", f"-s -w {ldflags}".strip(), "-o"]
    with progress.stage(f"build {name} from Go modules"):
        try:
            _build(engine, checkout, progress, source, flags, path.with_suffix(".new"), package)
        except CommandFailed as error:
            raise ClusterFailed(f"{name} does not build: {error.what}", where=str(source)) from error
    path.with_suffix(".new").replace(path)
    return path


def host_go() -> Path | None:
    """The machine's Go when it is new enough."""
    for found in filter(None, (shutil.which("go"), shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin"))):
        if version_of(run([found, "version"], timeout_s=30, check=False).stdout) >= _OLDEST:
            return Path(found)
    return None


def version_of(text: str) -> tuple[int, int]:
    """(1, 24) of "go version go1.24.4 linux/amd64"; (0, 0) of anything else."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _build(
    engine: Engine, checkout: Checkout, progress: Progress, source: Path, flags: Sequence[str], out: Path, package: str
) -> None:
    go = host_go()
    if go is not None:
        words: list[str | Path] = [*_nice(), go, "build", "-v", *flags, out, package]
        stream(words, timeout_s=_BUILD_S, on_line=progress.waiting, cwd=source, env=_ENV)
        return
    words = [*container_command(checkout, go_image(engine, checkout, progress), source, out.parent)]
    words += ["go", "build", "-v", *flags, f"/out/{out.name}", package]
    stream(words, timeout_s=_BUILD_S, on_line=progress.waiting, env=engine.environment)


def _nice() -> list[str]:
    return ["nice", "-n", "10"] if shutil.which("nice") else []


def container_command(checkout: Checkout, image: str, source: Path, out: Path) -> list[str]:
    """``docker run`` words for a build in ``image``; module and build caches outlive the container."""
    caches = checkout.cache / "go-caches"
    caches.mkdir(parents=True, exist_ok=True)
    proxies = [f"--env={k}={v}" for k in ("GOPROXY", "GONOSUMDB", "GOSUMDB", "HTTPS_PROXY", "https_proxy") if (v := os.environ.get(k))]
    return [
        "docker", "run", "--rm", "--network", "host", "--label", "mailgale.dev/build=go",
        *[f"--env={k}={v}" for k, v in _ENV.items()], "--env=GOCACHE=/caches/build", "--env=GOMODCACHE=/caches/modules", *proxies,
        "-v", f"{source}:/source:ro", "-v", f"{out}:/out", "-v", f"{caches}:/caches", "-w", "/source", image,
    ]  # fmt: skip


def go_image(engine: Engine, checkout: Checkout, progress: Progress) -> str:
    """An image with Debian trixie's Go.

    :raises ClusterFailed: it cannot be built.
    """
    return images.ensure_built(
        engine, checkout, progress, name="mailgale/go", context=recipe.folder(checkout) / "go-image", suite="trixie"
    )

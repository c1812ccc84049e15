"""Images made here, each by its recipe and under names of our own; users' tags are never written.

Where an image registry answers, Debian's own slim image is taken; otherwise one is made by mmdebstrap(1).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cluster import packages, recipe, registry
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress
from harness.support.shell import run

#: Label on base images; its value is the Debian suite.
LABEL_BASE = "mailgale.dev/base"
_BOOTSTRAP_S = 1200
_BUILD_S = 1800
_SLIM = [
    "--aptopt=APT::Install-Recommends \"false\"",
    *[f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale", "info")],
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
]  # fmt: skip
#: Raised when images made before would no longer do.
_FORMAT = "1"


def ensure_base_image(engine: Engine, checkout: Checkout, progress: Progress, suite: str = "trixie") -> str:
    """Reference of a small Debian image of ``suite`` (``mailgale/debian:<suite>-<hash>``), made where there is none.

    :raises ClusterFailed: neither a registry nor mmdebstrap gives one.
    """
    ref = f"mailgale/debian:{suite}-{recipe.digest([], _FORMAT, *_SLIM)}"
    if engine.has_image(ref):
        return ref
    with progress.stage(f"Debian {suite} base image"):
        if not _from_registry(engine, checkout, f"debian:{suite}-slim", ref, progress):
            _bootstrap(engine, suite, ref, progress)
    return ref


def _from_registry(engine: Engine, checkout: Checkout, official: str, ref: str, progress: Progress) -> bool:
    """Take Debian's own image; a tag that was there before stays, one that the pull made goes again."""
    if not registry.answers(engine, checkout):
        return False
    had = engine.has_image(official)
    if not had and not registry.pull(engine, checkout, official, progress):
        return False
    engine.docker("tag", official, ref)
    if not had:
        engine.docker("rmi", official, check=False)
    return True


def _bootstrap(engine: Engine, suite: str, ref: str, progress: Progress) -> None:
    packages.install(["mmdebstrap", "debian-archive-keyring"], progress)
    progress.waiting("mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="mailgale-") as folder:
        tar = Path(folder) / "root.tar"
        try:
            run(["mmdebstrap", "--quiet", "--variant=minbase", *_SLIM, suite, tar], timeout_s=_BOOTSTRAP_S, env={"TMPDIR": folder})
            engine.docker("import", "--change", f"LABEL {LABEL_BASE}={suite}", "--change", 'CMD ["bash"]', tar, ref, timeout_s=300)
        except CommandFailed as error:
            raise ClusterFailed(f"no Debian {suite} base image: {error.what}", todo="see that the Debian archive answers") from error


def ensure_built(
    engine: Engine,
    checkout: Checkout,
    progress: Progress,
    *,
    name: str,
    context: Path,
    suite: str | None = None,
    dockerfile: str = "Dockerfile",
    files: Iterable[Path] = (),
    arguments: Iterable[str] = (),
    more: Iterable[str] = (),
) -> str:
    """Reference ``name:<recipe hash>``; built where the engine has none.

    :param context: folder with the Dockerfile and all it copies, but for ``files``, which are put beside them.
    :param suite: gives the build argument BASE.
    :param arguments: further build arguments, ``KEY=value``.
    :param more: what else the recipe depends on.
    :raises ClusterFailed: the build fails; its last lines are in the message.
    """
    base = [f"BASE={ensure_base_image(engine, checkout, progress, suite)}"] if suite else []
    key = recipe.digest([context, *files], dockerfile, *base, *arguments, *more)
    ref = f"{name}:{key}"
    if engine.has_image(ref):
        return ref
    with progress.stage(f"image {name}"), _context(context, files) as folder:
        words = [w for a in (*base, *arguments) for w in ("--build-arg", a)]
        progress.waiting("docker build")
        try:
            engine.docker(
                "build", "--network", "host", "--label", f"{recipe.LABEL}={key}", *words,
                "-f", folder / dockerfile, "-t", ref, folder, timeout_s=_BUILD_S,
            )  # fmt: skip
        except CommandFailed as error:
            raise ClusterFailed(f"the image {name} does not build: {error.what}", where=str(context / dockerfile)) from error
    return ref


@contextmanager
def _context(source: Path, files: Iterable[Path]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mailgale-") as made:
        folder = Path(made) / "context"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("go"))
        for path in files:
            target = folder / path.name
            with suppress(OSError):
                target.hardlink_to(path)
            if not target.exists():
                shutil.copy2(path, target)
        yield folder


def recipe_of_base() -> tuple[str, ...]:
    """What every base image depends on, for recipes that build on one."""
    return (_FORMAT, *_SLIM)

"""An image that holds nothing but the wheels of a requirements file, for other images to install from without a network.

They are fetched by pip on this machine, so that its own settings (mirrors, certificates, caches) count, for the Python of
Debian trixie. Source: pip-download(1), PEP 425 and PEP 600 (platform tags).
"""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path

from harness.cluster import recipe
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout
from harness.support.progress import Progress
from harness.support.shell import run

#: Of Debian trixie.
PYTHON = "3.13"
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
_DOWNLOAD_S = 900.0
_BUILD_S = 300.0
_FORMAT = "1"


def ensure_wheels_image(engine: Engine, checkout: Checkout, progress: Progress, component: str) -> str:
    """Reference of the image with ``/wheels`` for the component's ``requirements.txt`` (``mailgale/<component>-wheels:<hash>``).

    :raises ClusterFailed: a wheel cannot be had, or is not what the lock says.
    """
    requirements = checkout.root / "deploy" / "components" / component / "requirements.txt"
    key = recipe.digest([requirements], _FORMAT, PYTHON)
    ref = f"mailgale/{component}-wheels:{key}"
    if engine.has_image(ref):
        return ref
    with progress.stage(f"wheels of {component}"), tempfile.TemporaryDirectory(prefix="mailgale-") as made:
        folder = Path(made)
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY wheels /wheels\n")
        progress.waiting("pip download")
        try:
            run(download(requirements, folder / "wheels"), timeout_s=_DOWNLOAD_S)
            engine.docker("build", "--label", f"{recipe.LABEL}={key}", "-t", ref, folder, timeout_s=_BUILD_S)
        except CommandFailed as error:
            raise ClusterFailed(
                f"the wheels cannot be had: {error.what}", where=str(requirements), todo="does the package index answer? see 'pip config list'"
            ) from error
    return ref


def download(requirements: Path, folder: Path) -> list[str | Path]:
    """The pip command that fetches exactly the locked wheels."""
    tags = [w for p in _PLATFORMS for w in ("--platform", f"{p}_{platform.machine()}")]
    return [
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        "--implementation", "cp", "--python-version", PYTHON, *tags, "-r", requirements, "-d", folder,
    ]

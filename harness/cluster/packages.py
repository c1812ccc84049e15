"""Debian packages of the machine itself: what is known, what is missing, installing as root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from harness.errors import ClusterFailed, CommandFailed
from harness.support.progress import Progress
from harness.support.shell import run

_APT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
_UPDATE_S = 300
_INSTALL_S = 1200


def available() -> bool:
    """Whether this is a Debian-like system."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-query") is not None


def known(package: str) -> bool:
    """Whether the package lists offer ``package``; they are fetched first where there are none."""
    if _policy(package):
        return True
    _update()
    return _policy(package)


def installed(package: str) -> bool:
    """Whether ``package`` is installed and configured."""
    found = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], timeout_s=30, check=False)
    return found.code == 0 and found.stdout.strip() == "installed"


def install(wanted: Sequence[str], progress: Progress) -> None:
    """Install those of ``wanted`` that are missing, without recommendations.

    :raises ClusterFailed: not root, not Debian-like, or apt-get fails (its last lines are in the message).
    """
    missing = [p for p in wanted if not installed(p)] if available() else list(wanted)
    if not missing:
        return
    if os.geteuid() != 0 or not available():
        raise ClusterFailed(f"these programs are missing: {', '.join(missing)}", todo=f"as root: apt-get install {' '.join(missing)}")
    progress.note(f"apt-get install {' '.join(missing)}")
    progress.waiting("apt-get")
    words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *missing]
    try:
        _update()
        run(words, timeout_s=_INSTALL_S, env=_APT)
    except CommandFailed as error:
        raise ClusterFailed(f"apt-get does not install {' '.join(missing)}: {error.what}", todo="see the lines above") from error


def _policy(package: str) -> bool:
    found = run(["apt-cache", "policy", package], timeout_s=60, check=False, env=_APT)
    return any(line.strip().startswith("Candidate:") and "(none)" not in line for line in found.stdout.splitlines())


def _update() -> None:
    run(["apt-get", "update", "-q", "-o", "DPkg::Lock::Timeout=300"], timeout_s=_UPDATE_S, check=False, env=_APT)

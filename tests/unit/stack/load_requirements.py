"""``deploy/components/load/requirements.txt`` as it must be: made of ``requirements.lock``. Run as a program, it writes the file anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "deploy" / "components" / "load" / "requirements.txt"
#: What the load imports, and nothing else.
WANTED = ("locust", "numpy", "hdrhistogram", "pyyaml", "uvloop")
#: The image's Python.
ENVIRONMENT = {
    "python_version": "3.13", "python_full_version": "3.13.5", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
    "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
}
HEAD = """\
# What the load needs of requirements.lock: locust, numpy, hdrhistogram, pyyaml, uvloop and what these need (Python 3.13, Linux).
# A test holds it to the lock. Nothing under the GPL is in it: only the census uses aioimaplib.
"""


def names() -> set[str]:
    """WANTED and all they need."""
    found: set[str] = set()
    waiting = [canonicalize_name(n) for n in WANTED]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [canonicalize_name(r.name) for r in map(Requirement, requires(name) or []) if _holds(r)]
    return found


def locked(lock: str) -> Iterator[tuple[Requirement, str]]:
    """Each requirement of the lock with the lines of its hashes."""
    for head, hashes in re.findall(r"^(\S+==[^\\\n]+?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.M):
        yield Requirement(head), hashes


def text() -> str:
    """The file's content."""
    wanted = names()
    lines = [
        f"{r.name}{r.specifier} \\\n{hashes}" for r, hashes in locked((ROOT / "requirements.lock").read_text())
        if canonicalize_name(r.name) in wanted and _holds(r)
    ]
    return HEAD + "".join(lines)


def _holds(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(ENVIRONMENT)


if __name__ == "__main__":
    FILE.write_text(text())

"""Which capabilities this machine lacks, and the runtime shim that keeps the engine from asking for them.

Source: capabilities(7); the shim itself is ``deploy/kind/runc-bounded.py``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from harness.errors import ClusterFailed
from harness.support.checkout import Checkout


def missing(status: Path = Path("/proc/self/status"), last: Path = Path("/proc/sys/kernel/cap_last_cap")) -> tuple[int, ...]:
    """Numbers of the capabilities that the kernel knows and this machine's bounding set lacks."""
    line = next(text for text in status.read_text().splitlines() if text.startswith("CapBnd:"))
    mask = int(line.split()[1], 16)
    return tuple(bit for bit in range(int(last.read_text()) + 1) if not mask >> bit & 1)


def install_shim(checkout: Checkout) -> Path:
    """Put the shim where it outlives this checkout's environment; its path.

    :raises ClusterFailed: the interpreter that would run it is not there.
    """
    source = (checkout.root / "deploy" / "kind" / "runc-bounded.py").read_text()
    interpreter = base_interpreter()
    text = f"#!{interpreter} -IS\n{source}"
    path = checkout.cache / "engine" / f"runc-bounded-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(path)
    return path


def base_interpreter() -> Path:
    """The Python outside any virtual environment.

    :raises ClusterFailed: there is none.
    """
    names = (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3")
    for path in (Path(sys.base_prefix) / "bin" / name for name in names):
        if path.exists():
            return path
    raise ClusterFailed("no Python outside the virtual environment", where=sys.base_prefix, todo="install python3")

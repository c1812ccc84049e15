"""The sources that a load in the cluster runs: this checkout's own modules as one zip, which Python imports from as it is (PEP 273).

A ConfigMap carries them to the pods, so what loads there is to the byte what would load here, and the image holds dependencies only.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError

#: What the engine, Locust's half and the keeper import. Others of these packages lie beside them and are never imported there.
_PARTS = ("__init__.py", "errors.py", "model", "support", "mail", "load", "store/__init__.py", "store/log.py", "store/ops.py")
#: A ConfigMap holds 1 MiB, and base64 adds a third.
_BYTES_MAX = 700 << 10
_TIME = (1980, 1, 1, 0, 0, 0)


def bundle(root: Path) -> bytes:
    """The zip of ``root/harness``, the same octets for the same files.

    :raises UsageError: it has grown too large to be handed over this way.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _modules(root / "harness"):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(root)), _TIME), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    if made.tell() > _BYTES_MAX:
        raise UsageError(f"the load's sources are {made.tell() >> 10} KiB zipped, a ConfigMap takes {_BYTES_MAX >> 10}", where=str(root))
    return made.getvalue()


def _modules(package: Path) -> Iterator[Path]:
    for part in _PARTS:
        path = package / part
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]

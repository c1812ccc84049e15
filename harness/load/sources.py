"""The sources that a load in the cluster runs: this checkout's own modules as one zip.

A ConfigMap carries them to the pods, so what loads there is to the byte what would load here, and the image holds dependencies only.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.support.sources import zipped

#: What the engine, Locust's half and the keeper import. Others of these packages lie beside them and are never imported there.
_PARTS = ("__init__.py", "errors.py", "model", "support", "mail", "load", "store/__init__.py", "store/log.py", "store/ops.py")
#: A ConfigMap holds 1 MiB, and base64 adds a third.
_BYTES_MAX = 700 << 10


def bundle(root: Path) -> bytes:
    """The zip of ``root/harness``, the same octets for the same files.

    :raises UsageError: it has grown too large to be handed over this way.
    """
    made = zipped(root, _PARTS)
    if len(made) > _BYTES_MAX:
        raise UsageError(f"the load's sources are {len(made) >> 10} KiB zipped, a ConfigMap takes {_BYTES_MAX >> 10}", where=str(root))
    return made

"""Modules of this checkout as one zip, which Python imports from as it is (PEP 273): how code of ours gets to where no checkout is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_TIME = (1980, 1, 1, 0, 0, 0)


def zipped(root: Path, parts: Sequence[str]) -> bytes:
    """The zip of ``parts`` (files and folders of ``root/harness``), the same octets for the same files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _modules(root / "harness", parts):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(root)), _TIME), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return made.getvalue()


def _modules(package: Path, parts: Sequence[str]) -> Iterator[Path]:
    for part in parts:
        path = package / part
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]

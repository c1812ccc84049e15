"""The zip that pods run from holds all that they import, and is the same for the same sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.load import sources

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("module", ["harness.load.__main__", "harness.load.keeper", "harness.load.locust_side"])
def test_everything_that_pods_run_is_in_it(tmp_path: Path, module: str):
    """Only the zip is on the path, so that nothing comes from the checkout; -I would keep PYTHONPATH out."""
    archive = tmp_path / "sources.zip"
    archive.write_bytes(sources.bundle(ROOT))
    code = (
        "import sys; sys.path = [p for p in sys.path if not p or 'mailgale' not in p]\n"
        f"sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; sys.path[:0] = [{str(archive)!r}]\n"
        f"import {module} as m; print(m.__file__); assert all('sources.zip' in (getattr(x, '__file__', '') or 'sources.zip')"
        " for n, x in sys.modules.items() if n.partition('.')[0] == 'harness')"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert found.returncode == 0, found.stderr
    assert "sources.zip" in found.stdout


def test_the_same_sources_make_the_same_octets():
    assert sources.bundle(ROOT) == sources.bundle(ROOT)


def test_sources_too_large_for_a_config_map_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "_BYTES_MAX", 1000)
    with pytest.raises(UsageError, match="ConfigMap"):
        sources.bundle(ROOT)

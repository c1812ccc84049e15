"""ruff, mypy and import-linter find nothing; the lock pins everything by hash and names no host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff():
    done = tool("ruff", "check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout[-4000:]


def test_layers():
    done = tool("lint-imports")
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_types():
    done = tool("mypy")
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_lock_pins_by_hash_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "http" not in re.sub(r"[a-z-]*http[a-z0-9-]*", "", lock)
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        first = block.split("\n", 1)[0]
        if "==" in first:
            assert "--hash=sha256:" in block, first


def test_the_lock_serves_python_3_11_and_later():
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^chaostoolkit-lib==1\.44\.0 ; python_full_version < '3\.12'", lock, re.M)
    assert re.search(r"^chaostoolkit-lib==1\.4[5-9].* ; python_full_version >= '3\.12'", lock, re.M)


def test_every_named_dependency_is_locked():
    text = (ROOT / "pyproject.toml").read_text()
    lock = (ROOT / "requirements.lock").read_text().lower()
    names = re.findall(r'^  "([A-Za-z0-9-]+)[><=]', text, re.M)
    assert names
    assert [n for n in names if f"\n{n.lower()}==" not in f"\n{lock}"] == []

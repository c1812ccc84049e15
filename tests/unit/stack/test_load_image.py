"""What the load's image is made of: the lock, all of it that is needed, and nothing else."""

from __future__ import annotations

from harness.cluster.wheels import PYTHON, download
from tests.unit.stack.load_requirements import ENVIRONMENT, FILE, names, text


def test_the_requirements_are_those_of_the_lock():
    assert FILE.read_text() == text(), "run: python -m tests.unit.stack.load_requirements"


def test_nothing_under_the_gpl_goes_into_the_image():
    assert "aioimaplib" not in names()
    assert "aioimaplib==" not in FILE.read_text()


def test_only_locked_wheels_are_fetched(tmp_path):
    words = [str(w) for w in download(FILE, tmp_path)]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(words)
    assert ENVIRONMENT["python_version"] == PYTHON

"""The capability shim, run as the engine runs it, with a runc that shows what it was given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster import capabilities
from harness.support.checkout import Checkout

SHIM = Path(__file__).resolve().parents[3] / "deploy" / "kind" / "runc-bounded.py"
ALL = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_NEVER_HEARD_OF"]


@pytest.fixture
def runc(tmp_path: Path) -> Path:
    path = tmp_path / "runc"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


def shim(runc: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"MAILGALE_RUNC": str(runc), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-IS", str(SHIM), *words], capture_output=True, text=True, check=False, env=env)


def granted() -> set[str]:
    space: dict[str, object] = {"__name__": "shim"}
    exec(compile(SHIM.read_text(), str(SHIM), "exec"), space)
    return space["granted"](Path("/proc/self/status").read_text())  # type: ignore[operator]


@pytest.mark.parametrize("spelling", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"]])
def test_bundle_is_bounded_in_every_spelling(tmp_path: Path, runc: Path, spelling: list[str]):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": ALL, "effective": None}, "args": ["x"]}, "root": {"path": "r"}}))
    words = ["create", *(w.format(tmp_path) for w in spelling), "id"]
    done = shim(runc, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == words
    after = json.loads(config.read_text())
    assert after["process"]["capabilities"] == {"bounding": [c for c in ALL if c in granted()], "effective": []}
    assert after["root"] == {"path": "r"}


@pytest.mark.parametrize("spelling", [["--process", "{}"], ["--process={}"], ["-p", "{}"]])
def test_exec_file_is_bounded(tmp_path: Path, runc: Path, spelling: list[str]):
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"capabilities": {"bounding": ["CAP_NEVER_HEARD_OF"]}}))
    assert shim(runc, "exec", *(w.format(file) for w in spelling)).returncode == 0
    assert json.loads(file.read_text()) == {"capabilities": {"bounding": []}}


def test_a_process_without_capabilities_stays_as_it_is(tmp_path: Path, runc: Path):
    file = tmp_path / "process.json"
    file.write_text('{"args":["x"]}')
    assert shim(runc, "exec", "-p", str(file)).returncode == 0
    assert file.read_text() == '{"args":["x"]}'


@pytest.mark.parametrize("content", ["{not json", None])
def test_it_fails_loudly_rather_than_start_something_unbounded(tmp_path: Path, runc: Path, content: str | None):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    done = shim(runc, "create", "--bundle", str(tmp_path))
    assert done.returncode == 1
    assert "runc-bounded: cannot bound" in done.stderr
    assert done.stdout == ""


def test_the_kernel_is_asked_what_is_missing(tmp_path: Path):
    status, last = tmp_path / "status", tmp_path / "last"
    last.write_text("40\n")
    status.write_text("Name:\tx\nCapBnd:\t000001ffffffffff\n")
    assert capabilities.missing(status, last) == ()
    status.write_text("Name:\tx\nCapBnd:\t000001fffeffffff\n")
    assert capabilities.missing(status, last) == (24,)


def test_the_installed_shim_runs_by_itself(tmp_path: Path, runc: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = capabilities.install_shim(Checkout.find())
    assert path == capabilities.install_shim(Checkout.find())
    done = subprocess.run([str(path), "list"], capture_output=True, text=True, check=False, env={"MAILGALE_RUNC": str(runc)})
    assert done.stdout.split() == ["list"]

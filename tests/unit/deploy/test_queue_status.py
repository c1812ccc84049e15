"""The queue-status sidecar over a real socket and real directories."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.support.clock import wait_for

SOURCE = Path(__file__).resolve().parents[3] / "deploy" / "components" / "postfix" / "queue_status.py"
#: From Postfix 3.10 itself: arrived at 2026-11-23 22:15:12 UTC.
QUEUE_ID, ARRIVED = "4jYKxr6bVhz6HPr", 1795472112


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("queue_status", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def spool(tmp_path: Path, module: ModuleType) -> Path:
    for queue in module.QUEUES:
        (tmp_path / queue).mkdir()
    return tmp_path


@pytest.fixture
def url(spool: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(module.Handler, "spool", str(spool))
    server = module.Server(("::", 0), module.Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_it_ends_when_it_is_asked_to() -> None:
    """Not by the signal's own action, which the first process of a container does not have: its exit code says who ended it."""
    process = subprocess.Popen([sys.executable, "-I", "-u", str(SOURCE), "0"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: signal.SIGTERM in handled(process.pid), deadline_s=10, what="the handler")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


def handled(pid: int) -> set[int]:
    """Signals that a process handles itself (proc(5), SigCgt)."""
    mask = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return {n for n in range(1, 65) if int(mask, 16) >> (n - 1) & 1}


def test_the_arrival_is_read_from_the_queue_id(module: ModuleType) -> None:
    assert module.arrival_s(QUEUE_ID) == ARRIVED


@pytest.mark.parametrize("name", ["A1B2C3D4E5", "", "z", "4jYz6HPr", "README", "4jYK!r6bVhz6HPr"])
def test_other_names_have_no_arrival(module: ModuleType, name: str) -> None:
    assert module.arrival_s(name) is None


def test_hashed_queues_are_counted_whole(module: ModuleType, spool: Path) -> None:
    (spool / "incoming" / QUEUE_ID).touch(0o700)
    for folder in "0", "A":
        (spool / "deferred" / folder).mkdir()
        (spool / "deferred" / folder / f"4jYKxt6bVhz6HP{folder}").touch()
    (spool / "hold" / "4aYKxr6bVhz6HPr").touch()  # far older, but held: not ageing
    found = module.status(str(spool), ARRIVED + 10)
    assert found == {"incoming": 1, "active": 0, "deferred": 2, "hold": 1, "corrupt": 0, "oldest_s": 10}


def test_a_mail_that_is_being_received_is_not_in_the_queue_yet(module: ModuleType, spool: Path) -> None:
    """Postfix sets the execute bit when all of it is there; a kill in between leaves such a file for ever."""
    (spool / "incoming" / QUEUE_ID).touch(0o600)
    assert module.status(str(spool), ARRIVED + 10)["incoming"] == 0


def test_an_empty_queue_has_no_age(url: str) -> None:
    with urllib.request.urlopen(f"{url}/queue", timeout=5) as reply:
        assert json.load(reply) == {"incoming": 0, "active": 0, "deferred": 0, "hold": 0, "corrupt": 0, "oldest_s": 0.0}


def test_a_queue_that_cannot_be_read_is_no_empty_queue(url: str, spool: Path) -> None:
    (spool / "active").rmdir()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/queue", timeout=5)
    assert refused.value.code == 503
    refused.value.close()


def test_other_paths_are_not_found(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/", timeout=5)
    assert refused.value.code == 404
    refused.value.close()

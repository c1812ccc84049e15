"""What hogs are measured by, what the kernel counts, who is hit of the control plane; impostors over real sockets."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.chaos import hog, impostor
from harness.chaos.controlplane import chosen
from harness.chaos.exhaust import _own_gone, oom_kills
from harness.chaos.nodes import Process
from harness.chaos.world import FaultFailed
from harness.errors import GuardRefused, NotSupported

HA = [(f"c-control-plane{n}", "control-plane") for n in ("", "2", "3")] + [("c-worker", "worker")]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def hogging() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["bash", "-c", "while :; do :; done"])
    yield process
    process.kill()
    process.wait()


def test_cpu_is_what_the_kernel_says_it_was(hogging):
    stat = Path(f"/proc/{hogging.pid}/stat")
    end = time.monotonic() + 20
    while (used := hog.measured("cpu", stat.read_text() * 2)) < 0.2 and time.monotonic() < end:
        time.sleep(0.05)
    assert used >= 0.2
    assert used == pytest.approx(2 * hog.measured("cpu", stat.read_text()), abs=0.5)


def test_memory_and_rounds():
    assert hog.measured("memory", "9 3 1 0 0 0 0\n9 2 1 0 0 0 0\n") == 5 * 4096
    assert hog.measured("io", "7\n") == 7
    assert hog.measured("io", "") == 0


@pytest.mark.parametrize("resource", hog.RESOURCES)
def test_a_hog_that_takes_nothing_is_a_failed_fault(resource):
    hog._enough("h", resource, 10, 20)
    with pytest.raises(FaultFailed, match="nothing was shown"):
        hog._enough("h", resource, 1, 20)


def test_every_hog_has_a_script_that_bash_reads():
    for script in hog._SCRIPTS.values():
        assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


def test_the_kernels_count_of_kills_in_both_versions_of_control_groups():
    assert oom_kills("low 0\noom 1\noom_kill 3\noom_group_kill 0\n") == 3
    assert oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n") == 2
    with pytest.raises(FaultFailed):
        oom_kills("")


def test_of_the_control_plane_the_last_member_goes_and_never_the_majority():
    assert chosen("node", HA) == ("c-control-plane3", 3)
    assert chosen("etcd", HA) == ("c-control-plane3", 3)
    assert chosen("api-lb", HA) == ("c-external-load-balancer", 3)
    with pytest.raises(GuardRefused):
        chosen("node", HA[1:])
    with pytest.raises(NotSupported):
        chosen("node", HA[2:])
    with pytest.raises(FaultFailed):
        chosen("nothing", HA)


@contextlib.contextmanager
def impostor_in(mode: str, port: int, delay: str = "0.3") -> Iterator[None]:
    source = Path(impostor.__file__).read_text()
    process = subprocess.Popen([sys.executable, "-I", "-c", source, mode, delay, str(port), "127.0.0.2", "127.0.0.1"])
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def ask(port: int, timeout_s: float) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as one:
        one.settimeout(timeout_s)
        one.sendall(b"PING\r\n")
        return one.recv(4096)


def test_a_silent_impostor_says_nothing_and_counts():
    port = free_port()
    with impostor_in("silent", port):
        with pytest.raises(TimeoutError):
            ask(port, 0.5)
        assert int(Path(impostor.SEEN).read_text()) >= 2


def test_an_impostor_that_answers_rubbish():
    port = free_port()
    with impostor_in("garbage", port):
        assert ask(port, 5).startswith(b"\x00\x01\x02")


def test_a_slow_impostor_passes_on_late():
    port = free_port()
    with socket.create_server(("127.0.0.2", port)) as real, impostor_in("slow", port):
        real.settimeout(20)
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.settimeout(20)
            begun = time.monotonic()
            one.sendall(b"PING\r\n")
            while True:  # the look whether it listens was passed on as well
                theirs, _ = real.accept()
                if theirs.recv(4096) == b"PING\r\n":
                    break
                theirs.close()
            theirs.sendall(b"PONG\r\n")
            assert one.recv(4096) == b"PONG\r\n"
            assert time.monotonic() - begun >= 0.6
            theirs.close()


class _Node:
    """A node on which one of two processes lives on."""

    def alive(self, node: str, processes: list[Process]) -> list[Process]:
        return processes[:1]


def test_what_the_kernel_took_of_the_component_is_told_apart_from_what_ate_the_memory():
    doing = SimpleNamespace(pod=lambda name: SimpleNamespace(node="w1"), world=SimpleNamespace(nodes=_Node()))
    before = [Process(1, "10", "S", "master"), Process(7, "20", "S", "qmgr")]
    assert _own_gone(doing, "submission-0", before) == {"own_gone": ["qmgr"]}
    assert _own_gone(doing, "submission-0", before[:1]) == {"own_gone": []}
    assert _own_gone(doing, "submission-0", []) == {}

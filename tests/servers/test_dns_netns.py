"""Private networks come and go as a whole, and nothing of them is seen outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.dns.netns import inside, lab, run_inside
from harness.errors import NotReady
from tests.servers.dnslab import needs, network

NAME = f"mailgale-test-left-{os.getpid()}"


def test_what_a_killed_process_left_is_replaced_and_all_is_gone_at_the_end():
    needs()
    subprocess.run(["ip", "netns", "add", f"{NAME}-client"], check=True)
    seen: list[bool] = []

    def fail() -> None:
        with lab(NAME) as made:
            seen.extend((made.client.exists(), made.server.exists()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    left = [p.name for p in Path("/run/netns").iterdir() if p.name.startswith(NAME)]
    assert (seen, left) == ([True, True], [])


def test_only_the_namespace_is_entered_and_only_by_the_call(tmp_path: Path):
    own = os.stat("/proc/thread-self/ns/net").st_ino
    with network() as made:
        assert inside(made.client, lambda: os.stat("/proc/thread-self/ns/net").st_ino) == os.stat(made.client).st_ino != own
        assert os.stat("/proc/thread-self/ns/net").st_ino == own
        with pytest.raises(ZeroDivisionError):
            inside(made.client, lambda: 1 // 0)
        with inside(made.client, lambda: socket.create_server((made.client4, 0))) as there:
            with pytest.raises(OSError), socket.create_connection(there.getsockname(), timeout=0.2):
                pass
    with pytest.raises(NotReady, match="no such network namespace"):
        inside(tmp_path / "none", lambda: None)


def test_a_file_is_bound_for_the_program_alone(tmp_path: Path):
    before = Path("/etc/resolv.conf").read_text()
    (tmp_path / "mine").write_text("nameserver 192.0.2.53\n")
    with network() as made:
        argv = [sys.executable, "-c", "print(open('/etc/resolv.conf').read(), end='')"]
        done = run_inside(made.client, argv, timeout_s=20, files={"/etc/resolv.conf": tmp_path / "mine", "/etc/there-is-no-such-file": tmp_path / "mine"})
        assert (done.code, done.stdout) == (0, "nameserver 192.0.2.53\n"), done.stderr
    assert Path("/etc/resolv.conf").read_text() == before

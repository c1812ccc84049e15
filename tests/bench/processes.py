"""Sinks, C peers and CPU seconds of processes that a bench starts. Everything is stopped by its own PID."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.support.clock import wait_for
from tests.servers.mailservers import free_port, needs


@contextlib.contextmanager
def smtp_sink() -> Iterator[int]:
    """Postfix' smtp-sink on a port of its own; skip where there is none."""
    needs("smtp-sink", "smtp-source")
    port = free_port()
    with running(["/usr/sbin/smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "1000"], port):
        yield port


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on ``port`` while inside."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, deadline_s=20, what=f"port {port}", every_s=0.05)
        assert process.poll() is None, command
        yield process
    finally:
        process.terminate()
        process.wait(10)


def environment() -> dict[str, str]:
    """Children import this checkout."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def cpu_s(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, output: Path | None = None) -> float:
    """CPU seconds of a command and of every process it waited for, user and system; it must end well."""
    with (output or Path(os.devnull)).open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env or environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # the bench's deadline: what it started ends with it
            process.kill()
            process.wait(10)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, output.read_text(errors="replace")[-2000:] if output else "")
    return used.ru_utime + used.ru_stime


def smtp_source(port: int, messages: int, connections: int, *words: str) -> float:
    """Messages per CPU second of Postfix' smtp-source."""
    command = ["/usr/sbin/smtp-source", *words, "-s", str(connections), "-l", "2000", "-m", str(messages), f"127.0.0.1:{port}"]
    return messages / cpu_s(command)


def python(*words: str) -> list[str]:
    """A module of this checkout as a process."""
    return [sys.executable, "-m", *words]


def tree_cpu_s(root: int) -> float:
    """CPU seconds so far of a process and its descendants, those they waited for included."""
    parents: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    inside, before = {root}, 0
    while len(inside) != before:
        before = len(inside)
        inside |= {pid for pid, (parent, _) in parents.items() if parent in inside}
    return sum(parents[pid][1] for pid in inside if pid in parents) / os.sysconf("SC_CLK_TCK")


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.2)
        return one.connect_ex(("127.0.0.1", port)) == 0


def rss_bytes(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waits(seconds: float) -> None:
    """Let a measured stretch pass."""
    time.sleep(seconds)

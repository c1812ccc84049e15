"""A private network for tests, and tcpdump and unbound in it. Everything is removed with the block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.dns.netns import Lab, lab, why_not


def needs(*programs: str) -> None:
    """Skip the test where network namespaces or a program are missing."""
    missing = [p for p in programs if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    if reason := why_not():
        pytest.skip(f"not supported here: {reason}")


@contextmanager
def network() -> Iterator[Lab]:
    """Two namespaces and a cable, under a name of this process."""
    needs()
    with lab(f"mailgale-test-{os.getpid()}") as made:
        yield made


def until(probe: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@contextmanager
def tcpdump(made: Lab, path: Path, *words: str) -> Iterator[None]:
    """An independent capture of port 53 in the client's namespace."""
    with tcpdump_in(made.client, made.interface, path, *words):
        yield


@contextmanager
def tcpdump_in(namespace: Path, interface: str, path: Path, *words: str) -> Iterator[None]:
    """An independent capture of port 53 in a namespace, in immediate mode and written packet by packet; nothing may be dropped."""
    needs("tcpdump")
    argv = ["nsenter", f"--net={namespace}", "tcpdump", "-i", interface, "-nn", "--immediate-mode", "-U", "-B", "8192", "-s", "0", "-Z", "root", "-w", str(path)]
    process = subprocess.Popen([*argv, "port", "53", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        while "listening on" not in line:
            assert process.poll() is None, line
            line = process.stderr.readline()
        yield
        process.send_signal(signal.SIGINT)  # it takes what the kernel still holds, and says what was dropped
        said = process.communicate(timeout=10)[1]
        assert "\n0 packets dropped by kernel" in said, said
    finally:
        process.kill()
        process.wait()


@contextmanager
def unbound(
    directory: Path, upstream_port: int, *lines: str, namespace: Path | None = None, address: str = "127.0.0.1", port: int = 0, upstream: str = "127.0.0.1",
) -> Iterator[tuple[int, Callable[..., str]]]:
    """A real unbound that forwards everything to one server; its port, and a function that runs unbound-control."""
    needs("unbound", "unbound-control")
    port = port or free_port()
    conf = directory / "unbound.conf"
    conf.write_text("\n".join([
        "server:", f'  interface: {address}@{port}', '  username: ""', '  chroot: ""', f'  directory: "{directory}"', f'  pidfile: "{directory}/pid"',
        "  use-syslog: no", '  module-config: "iterator"', "  do-not-query-localhost: no", "  extended-statistics: yes", "  access-control: 0.0.0.0/0 allow", *lines,
        "remote-control:", "  control-enable: yes", f"  control-interface: {directory}/control", "  control-use-cert: no",
        "forward-zone:", '  name: "."', f"  forward-addr: {upstream}@{upstream_port}", "",
    ]))
    inside = ["nsenter", f"--net={namespace}"] if namespace else []
    process = subprocess.Popen([*inside, "unbound", "-d", "-c", str(conf)], stderr=subprocess.PIPE)

    def control(*words: str) -> str:
        done = subprocess.run(["unbound-control", "-c", str(conf), *words], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    try:
        until(lambda: process.poll() is not None or control("status"), "unbound")
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield port, control
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def bound(address: str = "127.0.0.1") -> tuple[int, list[socket.socket], list[socket.socket]]:
    """A port with a UDP and a TCP socket on it."""
    for _ in range(20):
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, 0))
        port = int(tcp.getsockname()[1])
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind((address, port))
        except OSError:
            tcp.close()
            udp.close()
            continue
        tcp.listen(64)
        for one in (udp, tcp):
            one.setblocking(False)
        return port, [udp], [tcp]
    raise AssertionError("no port is free for both UDP and TCP")

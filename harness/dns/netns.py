"""Network namespaces: entering one, running a program in one, and a private pair of them joined by a cable.

Sources: network_namespaces(7), ip-netns(8), veth(4), setns(2), nsenter(1), unshare(1). Needs root.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.errors import CleanupIncomplete, NotReady, NotSupported
from harness.support.shell import Completed, run

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_IP_S = 20
_NAMED = Path("/run/netns")
#: Binds each pair of files over the other in a mount namespace of its own, then becomes the command.
_WITH_FILES = (
    'n=$1; shift; while [ "$n" -gt 0 ]; do [ ! -e "$2" ] || mount --bind "$1" "$2" || exit 126; shift 2; n=$((n-1)); done; exec "$@"'
)


def why_not() -> str:
    """Why network namespaces cannot be used here; "" when they can."""
    missing = [p for p in ("ip", "nsenter", "unshare", "mount") if shutil.which(p) is None]
    if missing:
        return f"{', '.join(missing)} not installed (iproute2, util-linux)"
    return "" if os.geteuid() == 0 else "network namespaces need root"


def inside(namespace: Path, make: Callable[[], T]) -> T:
    """Call ``make`` in ``namespace``, from a thread that ends with it. A socket made so stays there.

    :param namespace: a file of the kind ``/run/netns/NAME`` or ``/proc/PID/ns/net``.
    :raises NotReady: the namespace cannot be entered. Exceptions of ``make`` pass through.
    """
    def work() -> T:
        _enter(namespace)
        return make()

    with ThreadPoolExecutor(1, thread_name_prefix=f"in {namespace.name}") as pool:
        return pool.submit(work).result()


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotReady(f"no such network namespace: {error.strerror}", where=str(namespace)) from error
    try:
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            raise NotReady(f"cannot enter the network namespace: {os.strerror(ctypes.get_errno())}", where=str(namespace))
    finally:
        os.close(handle)


def run_inside(
    namespace: Path, argv: Sequence[str | Path], *, timeout_s: float, files: Mapping[str, Path] | None = None
) -> Completed:
    """Run ``argv`` in ``namespace``, with ``files`` (path as the program sees it → file to find there) bound over the machine's own.

    The binds live in a mount namespace that ends with the program. A path that does not exist on this machine is left out.

    :raises CommandFailed: no end within ``timeout_s``. The exit code is the caller's to judge.
    """
    pairs = [str(w) for path, file in (files or {}).items() for w in (file, path)]
    words = ["nsenter", f"--net={namespace}", "unshare", "--mount", "--propagation", "private"]
    words += ["sh", "-c", _WITH_FILES, "sh", str(len(pairs) // 2), *pairs]
    return run([*words, *argv], timeout_s=timeout_s, check=False)


def run_with_its_files(namespace: Path, mounts: Path | None, argv: Sequence[str | Path], *, timeout_s: float) -> Completed:
    """Run a program of a container's own, with its files and in its network; the exit code is the caller's to judge.

    :param mounts: the container's mount namespace (``/proc/PID/ns/mnt``).
    :raises NotSupported: there is none. :raises CommandFailed: no end within ``timeout_s``.
    """
    if mounts is None:
        raise NotSupported("a program of the pod's own can only run in a pod")
    return run(["nsenter", f"--mount={mounts}", f"--net={namespace}", *argv], timeout_s=timeout_s, check=False)


@dataclass(frozen=True)
class Lab:
    """Two namespaces with a cable between them: ``client`` with interface ``eth0``, and ``server``, each with IPv4 and IPv6.

    The addresses are those of documentation (RFC 5737, RFC 3849); they exist in these namespaces only.
    """

    name: str
    client4: str = "192.0.2.1"
    server4: str = "192.0.2.53"
    client6: str = "2001:db8::1"
    server6: str = "2001:db8::53"
    interface: str = "eth0"

    @property
    def client(self) -> Path:
        return _NAMED / f"{self.name}-client"

    @property
    def server(self) -> Path:
        return _NAMED / f"{self.name}-server"

    def listen(self, port: int = 53) -> tuple[list[socket.socket], list[socket.socket]]:
        """UDP and TCP sockets on ``port`` of the server's addresses."""
        return inside(self.server, lambda: (
            [_bound(f, socket.SOCK_DGRAM, a, port) for f, a in self._addresses()],
            [_bound(f, socket.SOCK_STREAM, a, port) for f, a in self._addresses()],
        ))

    def _addresses(self) -> tuple[tuple[socket.AddressFamily, str], ...]:
        return (socket.AF_INET, self.server4), (socket.AF_INET6, self.server6)


def _bound(family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen(256)
    made.setblocking(False)
    return made


@contextmanager
def lab(name: str) -> Iterator[Lab]:
    """A private network called ``name``; what an earlier process left under this name is removed first.

    Hold a lock that goes with the name. :raises NotSupported: no root, no iproute2, or a kernel without veth.
    :raises CleanupIncomplete: a namespace is still there at the end.
    """
    reason = why_not()
    if reason:
        raise NotSupported(reason)
    made = Lab(name)
    _remove(made)
    try:
        _build(made)
        yield made
    finally:
        _remove(made)
        left = [p.name for p in (made.client, made.server) if p.exists()]
        if left:
            raise CleanupIncomplete(f"network namespaces are left: {', '.join(left)}", todo="ip netns del NAME")


def _build(lab: Lab) -> None:
    client, server = lab.client.name, lab.server.name
    for name in (client, server):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    made = run(
        ["ip", "-n", client, "link", "add", lab.interface, "type", "veth", "peer", "name", lab.interface, "netns", server], timeout_s=_IP_S, check=False
    )
    if made.code != 0:
        raise NotSupported(f"this kernel has no veth: {made.stderr.strip()}")
    for name, addresses in ((client, (f"{lab.client4}/24", f"{lab.client6}/64")), (server, (f"{lab.server4}/24", f"{lab.server6}/64"))):
        for address in addresses:
            _ip("-n", name, "address", "add", address, "dev", lab.interface, *(("nodad",) if ":" in address else ()))
        _ip("-n", name, "link", "set", lab.interface, "up")


def _remove(lab: Lab) -> None:
    for path in (lab.client, lab.server):
        if path.exists():
            run(["ip", "netns", "delete", path.name], timeout_s=_IP_S, check=False)


def _ip(*words: str) -> None:
    run(["ip", *words], timeout_s=_IP_S)

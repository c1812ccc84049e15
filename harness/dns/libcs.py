"""Programs that look up one name: getaddrinfo(3) of glibc by this Python, of musl by a small static program, and Go's own resolver.

The same hints for both C libraries: no flags, SOCK_STREAM. Exit 0 with the addresses, 2 when there are none. A program of a pod's own
(its image's Python) runs in the pod's mount namespace; the others are this machine's, with the pod's network and resolv.conf.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from harness.cluster.golang import host_go, version_of
from harness.errors import NotSupported
from harness.support.checkout import Checkout
from harness.support.shell import run

LIBCS = ("glibc", "musl", "go")
FAMILIES = ("any", "ipv4", "ipv6")
_SOURCE = Path(__file__).with_name("lookup.c")
_GO_SOURCE = Path(__file__).with_name("lookup-go")
_BUILD_S = 60
_GO_BUILD_S = 300
_PYTHON = """\
import socket, sys
family = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}[sys.argv[1]]
try:
    found = socket.getaddrinfo(sys.argv[2], None, family, socket.SOCK_STREAM)
except socket.gaierror as error:
    print(error.strerror)
    sys.exit(2)
print(*(entry[4][0] for entry in found), sep="\\n")
"""


@dataclass(frozen=True)
class Program:
    """A program that looks up a name once. ``version`` of its library, "" where it does not say.

    :param of_the_pod: it is a program of the pod's image, run with the pod's files.
    """

    libc: str
    version: str
    argv: tuple[str, ...]
    of_the_pod: bool = False

    def command(self, family: str, name: str) -> list[str]:
        """The command line that looks up ``name`` (``family``: any, ipv4, ipv6)."""
        return [*self.argv, family, name]


def program(libc: str, checkout: Checkout) -> Program:
    """The program for ``libc``; those of musl and Go are built once and cached.

    :raises NotSupported: this machine has no such library, or no compiler for it.
    """
    if libc == "musl":
        return Program(libc, _musl_version(), (str(_built(checkout)),))
    if libc == "go":
        return _go(checkout)
    name, version = platform.libc_ver()
    if name != "glibc":
        raise NotSupported("this Python does not use glibc")
    return Program(libc, version, (sys.executable, "-I", "-S", "-c", _PYTHON))


def python_of_the_pod() -> Program:
    """The Python of a pod's image; a look-up by it fails where the image has none."""
    return Program("python", "", ("python3", "-I", "-S", "-c", _PYTHON), of_the_pod=True)


def _go(checkout: Checkout) -> Program:
    go = host_go()
    if go is None:
        raise NotSupported("Go 1.24 or newer is not installed (Debian: apt-get install golang-go)")
    version = ".".join(map(str, version_of(run([go, "version"], timeout_s=_BUILD_S).stdout)))
    key = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(_GO_SOURCE.iterdir())) + version.encode()).hexdigest()[:16]
    made = checkout.cache / "lookup" / f"lookup-go-{key}"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        new = made.with_suffix(f".{os.getpid()}")
        built = run([go, "build", "-trimpath", "-o", new, "."], timeout_s=_GO_BUILD_S, check=False, cwd=_GO_SOURCE, env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
        if built.code != 0:
            raise NotSupported(f"Go builds nothing here: {built.stderr.strip().splitlines()[-1:]}")
        os.replace(new, made)
    return Program("go", version, (str(made),))


def _built(checkout: Checkout) -> Path:
    compiler = which("musl-gcc")
    if compiler is None:
        raise NotSupported("musl-gcc is not installed (Debian: apt-get install musl-tools gcc)")
    recipe = hashlib.sha256(_SOURCE.read_bytes() + _musl_version().encode()).hexdigest()[:16]
    made = checkout.cache / "lookup" / f"lookup-musl-{recipe}"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
            built = run([compiler, "-static", "-O1", "-o", Path(scratch) / "lookup", _SOURCE], timeout_s=_BUILD_S, check=False)
            if built.code != 0:
                raise NotSupported(f"musl-gcc builds nothing here: {built.stderr.strip().splitlines()[-1:]}")
            os.replace(Path(scratch) / "lookup", made)
    return made


def _musl_version() -> str:
    """Of the musl that musl-gcc links with; its loader prints it when it is called without a program."""
    loader = next(iter(sorted(Path("/lib").glob("ld-musl-*.so.1"))), None)
    if loader is None:
        return ""
    said = run([loader], timeout_s=_BUILD_S, check=False).stderr
    return next((line.removeprefix("Version ").strip() for line in said.splitlines() if line.startswith("Version ")), "")

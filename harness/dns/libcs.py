"""Programs that call getaddrinfo(3) of one C library: glibc's by this Python, musl's by a small static program.

The same hints for both: no flags, SOCK_STREAM. Exit 0 with the addresses, 2 when there are none.
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

from harness.errors import NotSupported
from harness.support.checkout import Checkout
from harness.support.shell import run

LIBCS = ("glibc", "musl")
FAMILIES = ("any", "ipv4", "ipv6")
_SOURCE = Path(__file__).with_name("lookup.c")
_BUILD_S = 60
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
    """A program that looks up a name once. ``version`` of its C library, "" where it does not say."""

    libc: str
    version: str
    argv: tuple[str, ...]

    def command(self, family: str, name: str) -> list[str]:
        """The command line that looks up ``name`` (``family``: any, ipv4, ipv6)."""
        return [*self.argv, family, name]


def program(libc: str, checkout: Checkout) -> Program:
    """The program for ``libc``; musl's is built once and cached.

    :raises NotSupported: this machine has no such C library, or no compiler for it.
    """
    if libc == "musl":
        return Program(libc, _musl_version(), (str(_built(checkout)),))
    name, version = platform.libc_ver()
    if name != "glibc":
        raise NotSupported("this Python does not use glibc")
    return Program(libc, version, (sys.executable, "-I", "-S", "-c", _PYTHON))


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

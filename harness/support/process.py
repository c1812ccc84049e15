"""Which process is meant: a number alone is used again by the kernel, so its birth goes with it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from harness.support.clock import boot_id


def birth(pid: int) -> str:
    """When a process began, in clock ticks since boot; "" when there is none. Source: proc(5), /proc/pid/stat field 22."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Identity:
    """One process on one boot of one host, as words that another host can read.

    :param boot: the first eight digits of the boot's id.
    """

    host: str
    boot: str
    pid: int
    birth: str

    @classmethod
    def own(cls) -> Identity:
        """This process."""
        return cls(socket.gethostname(), boot_id()[:8], os.getpid(), birth(os.getpid()))

    @classmethod
    def read(cls, text: str) -> Identity | None:
        """The identity that ``str`` made; None when it is none."""
        words = text.split("/")
        if len(words) != 4 or not words[2].isdigit():
            return None
        return cls(words[0], words[1], int(words[2]), words[3])

    def __str__(self) -> str:
        return f"{self.host}/{self.boot}/{self.pid}/{self.birth}"

    @property
    def here(self) -> bool:
        """Whether it belongs to this boot of this host, so that :attr:`alive` can tell."""
        return (self.host, self.boot) == (socket.gethostname(), boot_id()[:8]) and bool(self.boot)

    @property
    def alive(self) -> bool:
        """Whether it still lives; asked only of processes that are :attr:`here`."""
        return bool(self.birth) and birth(self.pid) == self.birth

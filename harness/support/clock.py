"""The one clock of a run: CLOCK_MONOTONIC, shared by every process of this host since boot.

A process on another host is told by OFFSET_ENV how far its own is ahead, and counts on this one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.errors import NotReady

T = TypeVar("T")


#: Nanoseconds that this host's clock is ahead of the run's; not set on the conductor's own.
OFFSET_ENV = "MAILGALE_CLOCK_OFFSET_NS"


def clock(offset_ns: int) -> Callable[[], int]:
    """The run's clock, read on a host whose own is ``offset_ns`` ahead of it."""
    return (lambda: time.monotonic_ns() - offset_ns) if offset_ns else time.monotonic_ns


#: Nanoseconds on the run's clock.
now_ns: Callable[[], int] = clock(int(os.environ.get(OFFSET_ENV) or 0))


def boot_id() -> str:
    """Which boot of this host the clock belongs to: it begins anew with each. "" where the kernel does not say. Source: random(4)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def wait_for(probe: Callable[[], T | None], *, deadline_s: float, what: str, every_s: float = 0.5) -> T:
    """Call ``probe`` until it returns something true.

    :param probe: returns a true value when the condition holds; its exceptions pass through.
    :param what: completes the sentence "waited N s for …".
    :raises NotReady: after ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= end:
            raise NotReady(f"waited {deadline_s:.0f} s for {what}, in vain")
        time.sleep(min(every_s, max(0.01, end - time.monotonic())))

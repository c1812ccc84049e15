"""``python -m tests.fuzz TARGET [libFuzzer's options] [CORPUS]``: fuzz one target until its time is over or it breaks.

Exit 0: nothing broke, and the memory grew by 64 MiB at most. Any other: the input that broke it is named.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harness.mail", "harness.store.log", "harness.store.reader", "harness.census.queue_file", "tests.fuzz.targets"]):
    from tests.fuzz import targets

CORPUS = Path(__file__).parent / "corpus"


def main(argv: list[str]) -> None:
    """Run what the command line names; never returns."""
    target, base = targets.TARGETS.get(argv[1]) or targets.planted, 0

    def one(data: bytes) -> None:
        nonlocal base
        target(data)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        base = base or now
        if now - base > targets.MEMORY_MAX:
            raise MemoryError(f"{(now - base) >> 20} MiB more than at the first input")

    options = [w for w in argv[2:] if w.startswith("-")]
    folders = [w for w in argv[2:] if not w.startswith("-")] or [str(CORPUS / argv[1])]  # the first folder takes what is new
    atheris.Setup([argv[0], "-timeout=10", "-max_len=4096", *options, *folders], one)
    atheris.Fuzz()


main(sys.argv)

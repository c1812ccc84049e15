"""``python -m tests.histories RUN NOTE``; see the package."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.histories.keep import keep

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tests.histories RUN NOTE")
    archive = keep(Path(sys.argv[1]).resolve(), sys.argv[2])
    print(f"{archive.name}: {archive.stat().st_size:,} bytes")

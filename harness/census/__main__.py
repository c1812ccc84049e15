"""``python -m harness.census SPEC.json``: one census in a process of its own. Exit 0 when the log was written and closed."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.census.spec import CensusSpec
from harness.census.take import take
from harness.errors import MailgaleError


def main(argv: list[str]) -> int:
    """Take the census that the spec named on the command line asks for; the exit code."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m harness.census SPEC.json\n")
        return 4
    try:
        take(CensusSpec.load(Path(argv[0])))
    except (MailgaleError, OSError) as error:
        sys.stderr.write(f"census: {error}\n")
        return error.exit_code if isinstance(error, MailgaleError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m harness.census SPEC.json [--survey]``: one census, or the survey before a load, in a process of its own.

Exit 0 when the log was written and closed; 8 when a survey could not read every mailbox.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.census.spec import CensusSpec
from harness.census.survey import take_survey
from harness.census.take import take
from harness.errors import MailgaleError


def main(argv: list[str]) -> int:
    """Take the census that the spec named on the command line asks for; the exit code."""
    words = [a for a in argv if a != "--survey"]
    if len(words) != 1:
        sys.stderr.write("usage: python -m harness.census SPEC.json [--survey]\n")
        return 4
    try:
        spec = CensusSpec.load(Path(words[0]))
        (take_survey if "--survey" in argv else take)(spec)
    except (MailgaleError, OSError) as error:
        sys.stderr.write(f"census: {error}\n")
        return error.exit_code if isinstance(error, MailgaleError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m harness.dns SPEC.json``; see harness.dns.counting."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.dns.counting import main
from harness.errors import MailgaleError

if len(sys.argv) != 2:
    sys.stderr.write("usage: python -m harness.dns SPEC.json\n")
    sys.exit(4)
try:
    sys.exit(main(Path(sys.argv[1])))
except MailgaleError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)

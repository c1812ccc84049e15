"""``python -m harness.observe SPEC.json``; see the package."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.errors import MailgaleError
from harness.observe.observer import main

if len(sys.argv) != 2:
    sys.stderr.write("usage: python -m harness.observe SPEC.json\n")
    sys.exit(4)
try:
    sys.exit(main(Path(sys.argv[1])))
except MailgaleError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)

"""One look-up, captured where this runs: in a pod, with nothing there but Python and a zip of the modules that :data:`PARTS` names.

Standard library only. Needs root and CAP_NET_RAW, no more: it is in the right network already.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.dns.capture import Capture, packet_socket
from harness.errors import MailgaleError
from harness.support.shell import run

#: Of the checkout's package, what this module imports.
PARTS = (
    "__init__.py", "errors.py", "support/__init__.py", "support/shell.py", "dns/__init__.py", "dns/capture.py", "dns/inpod.py", "dns/netns.py", "dns/pcap.py",
)


def look_up(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out ``order``: ``files`` (path → text, written first), ``unset`` (variables), ``argv``, ``timeout_s``.

    What comes back: ``code``, ``stdout``, ``stderr`` of the command, ``pcap`` (base64), the capture's ``packets``, ``drops``, ``cut``, ``broken``.

    :raises NotReady: nothing can be captured here. :raises CommandFailed: no end in time. :raises OSError: a file cannot be written,
        or the program not be run (another architecture).
    """
    for path, text in order["files"].items():
        Path(path).write_text(text)
    for name in order["unset"]:
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as scratch:
        capture = Capture(packet_socket("", 53), Path(scratch) / "lookup.pcap")
        try:
            done = run(order["argv"], timeout_s=float(order["timeout_s"]), check=False)
        finally:
            capture.stop()
        seen = {name: getattr(capture, name) for name in ("packets", "drops", "cut", "broken")}
        return {"code": done.code, "stdout": done.stdout, "stderr": done.stderr, "pcap": base64.b64encode(capture.path.read_bytes()).decode(), **seen}


def main(text: str) -> int:
    """Carry out the order in ``text`` (JSON; without ``argv``: say which C library Python has here) and print what came back."""
    order = json.loads(text)
    try:
        found = look_up(order) if "argv" in order else {"libc": platform.libc_ver()[1]}
    except (MailgaleError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found))
    return 0

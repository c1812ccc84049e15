"""``python -m harness.chaos``: ``chaos run`` on the rendered experiment, with logs that say what really happened.

chaostoolkit's own exit code and journal are kept and not trusted: it calls a run completed whose action failed. Exit 0 only if
every fault of the spec was triggered, proven and undone.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

from chaostoolkit.cli import cli

from harness.chaos import runner, world
from harness.errors import MailgaleError

_NEEDED = frozenset({"triggered", "begin", "evidence", "end", "undone"})


def main() -> int:
    """Run the faults that the environment names; 0, or 1 when a fault is missing, 7 when the lease refuses."""
    try:
        here = world.current()
    except (MailgaleError, OSError) as error:
        sys.stderr.write(f"faults: {error}\n")
        return error.exit_code if isinstance(error, MailgaleError) else 3

    def stop(number: int, frame: FrameType | None) -> None:
        here.stop.set()

    signal.signal(signal.SIGHUP, stop)
    try:
        try:
            _chaos_run(here.spec.directory)
            missing = unproven(here)
        finally:
            here.close()
    except OSError as error:
        sys.stderr.write(f"faults: the record cannot be written: {error}\n")
        return 3
    return 1 if missing else 0


def _chaos_run(directory: Path) -> None:
    words = [
        "--settings", str(directory / runner.SETTINGS), "--no-version-check", "--log-file", str(directory / "chaostoolkit.out"),
        "run", "--rollback-strategy", "never", "--journal-path", str(directory / runner.JOURNAL), str(directory / runner.EXPERIMENT),
    ]
    try:
        cli.main(args=words, prog_name="chaos", standalone_mode=False)
    except SystemExit as ended:
        sys.stderr.write(f"chaostoolkit ended with {ended.code}\n")


def unproven(here: world.World) -> list[str]:
    """Faults of the spec that lack an edge. One that says nothing at all, not even "failed", gets that said here."""
    missing = []
    for name in here.spec.faults:
        seen = here.log.edges.get(name, set())
        if "failed" in seen or not seen >= _NEEDED:
            missing.append(name)
        if "failed" not in seen and not seen >= _NEEDED:
            lacking = ", ".join(sorted(_NEEDED - seen))
            here.log.event(name, "", "failed", [], why=f"chaostoolkit ended without it: no {lacking} (see {runner.JOURNAL})")
    return missing


if __name__ == "__main__":
    sys.exit(main())

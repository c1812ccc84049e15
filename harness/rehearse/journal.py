"""The conductor's own log: what it cannot write keeps nothing from being undone.

A failed write is remembered and raised only where the conductor asks (:meth:`Journal.check`, before it begins something new). So a
disk that fills up ends the run at the next step, with every scope left in order: faults undone, the stack taken down.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from harness.errors import RecordLost
from harness.store.log import LogWriter

#: With less than this a load or a census fails half way, and its last words find no room either.
ROOM_BYTES = 256 << 10


class Journal:
    """One conductor's log. Each event is handed to the kernel at once.

    :raises OSError: it cannot be begun.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._log = path, LogWriter(path, "conductor")
        self.failed: OSError | None = None

    def event(self, kind: str, **fields: Any) -> None:
        """Write one event. Never raises for a disk that takes no more; see :meth:`check`."""
        if self.failed is None:
            try:
                self._log.event(kind, **fields)
                self._log.flush()
            except OSError as error:
                self.failed = error

    def check(self) -> None:
        """Before something new begins.

        :raises RecordLost: something could not be written, or the disk has less than ``ROOM_BYTES`` left.
        """
        room = os.statvfs(self.path.parent)
        full = room.f_bavail * room.f_frsize < ROOM_BYTES
        error = self.failed or (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else None)
        if error is not None:
            raise RecordLost.of(error, str(self.path))

    def close(self) -> None:
        """Close the log. Where that fails it has no end mark, and the judge sees that."""
        try:
            self._log.close()
        except OSError as error:
            self.failed = self.failed or error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""One log for many threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from harness.store.log import LogWriter


class Sink:
    """A LogWriter behind a lock. Events after :meth:`close` are dropped: their threads are being stopped."""

    def __init__(self, path: Path, writer: str) -> None:
        self._lock = threading.Lock()
        self._log: LogWriter | None = LogWriter(path, writer)

    def event(self, kind: str, **fields: Any) -> None:
        """Buffer one event."""
        with self._lock:
            if self._log is not None:
                self._log.event(kind, **fields)

    def missed(self, what: str, why: object) -> None:
        """A sample that could not be taken."""
        self.event("sample_missed", what=what, why=str(why)[:300])

    def flush(self) -> None:
        """Hand the buffered events to the kernel."""
        with self._lock:
            if self._log is not None:
                self._log.flush()

    def close(self) -> None:
        """Close the log well."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

"""The census' copies on their way into the database: as text, in parts, each read in by the database while the next is gathered.

A census of ten million mails has twenty million copies, four gigabytes of text: gathered whole they would cost the disk that much, and
reading the log and parsing would wait for each other.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import duckdb

from harness.store.log import Damage
from harness.store.tables import Tables

PART_BYTES = 64 << 20


class CopyFeed:
    """Takes lines of JSON by :meth:`write`; :meth:`close` says what did not read.

    :param scratch: directory for the parts; two of them are there at most. :param label: their name.
    """

    def __init__(self, tables: Tables, scratch: Path, label: str) -> None:
        self._tables, self._stem = tables, scratch / label
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="copies")
        self._running: Future[None] | None = None
        self._problem = ""
        self._number = 0
        self._begin()

    def write(self, text: bytes | memoryview) -> None:
        """Take whole lines."""
        self._octets += len(text)
        self._part.write(text)
        if self._octets >= PART_BYTES:
            self._hand_on()
            self._begin()

    def close(self) -> list[Damage]:
        """Read in the rest. A part with a line that does not read is left out as a whole: one damage, for the first of them."""
        self._hand_on()
        self._wait()
        self._pool.shutdown()
        return [Damage("census.log", 0, f"a copy that does not read: {self._problem}")] if self._problem else []

    def _begin(self) -> None:
        self._number += 1
        self._octets = 0
        self._path = self._stem.with_name(f"{self._stem.name}.{self._number}.ndjson")
        self._part = self._path.open("wb")

    def _hand_on(self) -> None:
        self._part.close()
        self._wait()
        self._running = self._pool.submit(self._read_in, self._path)

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _read_in(self, path: Path) -> None:
        try:
            self._tables.add_copies(path)
        except duckdb.Error as error:
            self._problem = self._problem or str(error).splitlines()[0]
        path.unlink()

"""The tables of one arm in DuckDB, and how packed rows get into them without passing through Python objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from harness.store.ops import BLOCK_TYPES, DONE, INVOKE, OFFER, USEROP

#: Bytes that DuckDB may hold in memory for one arm; more goes to a temporary file.
MEMORY_LIMIT = "900MB"
THREADS = 2
_TYPES = {"u1": "UTINYINT", "<u2": "USMALLINT", "<u4": "UINTEGER", "<u8": "UBIGINT"}
_NAMES = {OFFER: "offers", INVOKE: "invokes", DONE: "dones", USEROP: "userops"}
#: Block type → table.
TABLES = {number: _NAMES[dtype] for number, dtype in BLOCK_TYPES.items()}
_OTHERS = """
CREATE TABLE recipients (rcpt UINTEGER, address VARCHAR);
CREATE TABLE senders (sender UINTEGER, address VARCHAR, client VARCHAR);
CREATE TABLE scopes (round UTINYINT, source VARCHAR, place VARCHAR, complete BOOLEAN, why VARCHAR, found BIGINT);
CREATE TABLE copies (round UTINYINT, source VARCHAR, place VARCHAR, recipient VARCHAR, mail UBIGINT, sha VARCHAR,
                     uid VARCHAR, queue VARCHAR, bounce_of UBIGINT, orphan BOOLEAN, failed VARCHAR[], flags VARCHAR[]);
CREATE TABLE sights (mail UBIGINT, mailbox VARCHAR, t UBIGINT, from_due_ns BIGINT, from_ok_ns BIGINT);
CREATE TABLE expunged (mail UBIGINT, mailbox VARCHAR, uid VARCHAR, t UBIGINT);
CREATE TABLE deleting (mail UBIGINT, mailbox VARCHAR, uid VARCHAR, t UBIGINT);
CREATE TABLE moving (mail UBIGINT, mailbox VARCHAR, uid VARCHAR, t UBIGINT);
CREATE TABLE moved (mail UBIGINT, mailbox VARCHAR, uid VARCHAR, t UBIGINT);
CREATE TABLE flagged (mail UBIGINT, mailbox VARCHAR, uid VARCHAR, flag VARCHAR);
CREATE TABLE faults (name VARCHAR, fault VARCHAR, edge VARCHAR, t UBIGINT);
"""
_COPY_FIELDS = (
    '{"round": "UTINYINT", "source": "VARCHAR", "where": "VARCHAR", "recipient": "VARCHAR", "mail": "UBIGINT", "sha": "VARCHAR",'
    ' "uid": "VARCHAR", "queue": "VARCHAR", "bounce_of": "UBIGINT", "orphan": "BOOLEAN", "failed": "VARCHAR[]", "flags": "VARCHAR[]"}'
)


class Tables:
    """One arm's database. ``scratch`` is a directory for what does not fit into memory."""

    def __init__(self, scratch: Path) -> None:
        self.con = duckdb.connect(
            ":memory:",
            config={
                "threads": THREADS, "memory_limit": MEMORY_LIMIT, "temp_directory": str(scratch),
                "autoinstall_known_extensions": "false", "preserve_insertion_order": "false",
            },
        )
        self.con.execute("SET enable_progress_bar = false")
        for number, dtype in BLOCK_TYPES.items():
            self.con.execute(f"CREATE TABLE {TABLES[number]} ({', '.join(_columns(dtype))})")
        self.con.execute(_OTHERS)

    def add_rows(self, block_type: int, rows: NDArray[np.void]) -> None:
        """Append packed rows to their table."""
        if len(rows):
            self.con.register("chunk", _split(rows))
            self.con.execute(f"INSERT INTO {TABLES[block_type]} SELECT * FROM chunk")
            self.con.unregister("chunk")

    def add_copies(self, path: Path) -> None:
        """Append the census' copies, one JSON object per line in ``path``; may run in a thread of its own beside :meth:`add_rows`.

        :raises duckdb.Error: a line does not read.
        """
        if path.stat().st_size:
            self.con.cursor().execute(
                f"INSERT INTO copies SELECT round, source, \"where\", lower(recipient), mail, lower(coalesce(sha, '')), uid,"
                " coalesce(queue, ''), bounce_of, coalesce(orphan, false), coalesce(failed, []), flags"
                f" FROM read_json('{path}', format='newline_delimited', columns={_COPY_FIELDS})"
            )

    def add(self, table: str, records: list[tuple[Any, ...]]) -> None:
        """Append a few hundred thousand records at most: these go by way of Python."""
        if records:
            columns = {f"c{i}": _array(list(values)) for i, values in enumerate(zip(*records, strict=True))}
            self.con.register("chunk", columns)
            self.con.execute(f"INSERT INTO {table} SELECT * FROM chunk")
            self.con.unregister("chunk")


def _columns(dtype: np.dtype[np.void]) -> list[str]:
    found = []
    for name in dtype.names or ():
        if name == "sha":
            found += ["sha_lo UBIGINT", "sha_hi UBIGINT"]
        elif name != "pad":
            found.append(f"{name} {_TYPES[dtype[name].str.lstrip('|')]}")
    return found


def _split(rows: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    """One contiguous array per column; the 16 bytes of ``sha`` as two big-endian halves, so that hex reads the same."""
    columns: dict[str, NDArray[Any]] = {}
    for name in rows.dtype.names or ():
        if name == "sha":
            halves = np.ascontiguousarray(rows["sha"]).view(">u8").reshape(-1, 2).astype("<u8")
            columns["sha_lo"], columns["sha_hi"] = np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])
        elif name != "pad":
            columns[name] = np.ascontiguousarray(rows[name])
    return columns


def _array(values: list[Any]) -> NDArray[Any]:
    return np.array(values, dtype=object) if any(v is None or isinstance(v, str) for v in values) else np.array(values)

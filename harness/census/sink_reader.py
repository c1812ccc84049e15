"""Records of the made-up internet's hosts: what left the platform, with the address it came from.

A record is one JSON line (``deploy/components/internet``). Fields used: ``rcpts`` (or ``rcpt``/``to``), ``message`` in base64 (or
``raw``/``data``), ``client`` (or ``peer``), ``host``; a record without a message is counted as not readable.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.census.canonical import examine
from harness.census.found import Copy, Scope

_SUFFIXES = (".jsonl", ".ndjson")


def read_sinks(root: Path, prefix: str) -> Iterator[Scope]:
    """One scope for every file of records under ``root``, a volume's directory."""
    for path in sorted(p for p in root.rglob("*") if p.suffix in _SUFFIXES):
        yield read_file(path, f"{root.name}:{path.name}", prefix)


def read_file(path: Path, where: str, prefix: str) -> Scope:
    """All records of one file. A last line without its end is a record that was being written: not acknowledged, left out."""
    scope = Scope("sink", where)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        return scope.fail(str(error))
    for number, line in enumerate(lines[:-1], 1):
        if not line.strip():
            continue
        try:
            scope.copies += _copies(json.loads(line), where, number, prefix)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            scope.fail(f"line {number} is no record: {error!r}")
    return scope


def _copies(record: Mapping[str, Any], where: str, number: int, prefix: str) -> Iterator[Copy]:
    if record.get("kind", record.get("event", "mail")) not in ("mail", "message", "accepted"):
        return
    seen = examine(_message(record), prefix)
    host = str(record.get("host") or where)
    detail = {"client": record.get("client") or record.get("peer")}
    for rcpt in _recipients(record):
        yield Copy("sink", host, rcpt, seen, uid=str(number), detail=detail)


def _message(record: Mapping[str, Any]) -> bytes:
    for key in ("message", "message_b64", "raw", "data"):
        if key in record:
            return base64.b64decode(str(record[key]), validate=True)
    raise KeyError("message")


def _recipients(record: Mapping[str, Any]) -> list[str]:
    found = next((record[k] for k in ("rcpts", "recipients", "rcpt", "to") if k in record), None)
    if found is None:
        raise KeyError("rcpts")
    return [str(found)] if isinstance(found, str) else [str(r) for r in found]

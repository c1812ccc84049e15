"""Records of the made-up internet's hosts: what left the platform, with the address it came from.

A record is one JSON line of ``deploy/components/internet/sink.py``: ``kind`` (``mail``; ``refused`` ones took nothing), ``host``,
``client``, ``rcpts``, ``message`` in base64. A line that is no record makes its scope incomplete.
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
from harness.errors import MailgaleError
from harness.kube.client import Cluster
from harness.kube.objects import Pod

_SUFFIXES = (".jsonl", ".ndjson")


def read_sinks(root: Path, prefix: str) -> Iterator[Scope]:
    """One scope for every file of records under ``root``, a volume's directory."""
    for path in sorted(p for p in root.rglob("*") if p.suffix in _SUFFIXES):
        yield read_file(path, f"{root.name}:{path.name}", prefix)


def read_file(path: Path, where: str, prefix: str) -> Scope:
    """All records of one file."""
    try:
        return read_records(path.read_bytes(), where, prefix)
    except OSError as error:
        return Scope("sink", where).fail(str(error))


def read_pod(cluster: Cluster, pod: Pod, path: str, prefix: str) -> Scope:
    """All records of a sink's pod, read inside it; for clusters whose volumes are not on this host."""
    where = f"{pod.name}:{path}"
    script = 'for f in "$1"/*.jsonl; do [ -e "$f" ] && cat "$f"; done; true'
    try:
        container = next(c.name for c in pod.containers if not c.init)
        done = cluster.exec(pod.namespace, pod.name, container, ["sh", "-c", script, "sh", path], timeout_s=120)
    except MailgaleError as error:
        return Scope("sink", where).fail(str(error))
    scope = read_records(done.stdout, where, prefix)
    return scope if done.code == 0 else scope.fail(done.stderr[-200:].decode("utf-8", "replace"))


def read_records(data: bytes, where: str, prefix: str) -> Scope:
    """All records in ``data``. A last line without its end is a record that was being written: not acknowledged, left out."""
    scope = Scope("sink", where)
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        if not line.strip():
            continue
        try:
            scope.copies += _copies(json.loads(line), where, number, prefix)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            scope.fail(f"line {number} is no record: {error!r}")
    return scope


def _copies(record: Mapping[str, Any], where: str, number: int, prefix: str) -> Iterator[Copy]:
    if record["kind"] != "mail":
        return  # a refusal: nothing was taken
    seen = examine(_message(record), prefix)
    host = str(record.get("host") or where)
    detail = {"client": record.get("client")}
    for rcpt in _recipients(record):
        yield Copy("sink", host, rcpt, seen, uid=str(number), detail=detail)


def _message(record: Mapping[str, Any]) -> bytes:
    return base64.b64decode(str(record["message"]), validate=True)


def _recipients(record: Mapping[str, Any]) -> list[str]:
    found = record["rcpts"]
    if not isinstance(found, list):
        raise TypeError("rcpts is no list")
    return [str(r) for r in found]

"""Hands out the files of one directory over HTTP, while they grow: how a ledger written in the cluster comes to the run's record.

``GET /files`` is ``{name: octets}``; ``GET /file/NAME/OFFSET`` the octets from there, at most CHUNK_BYTES; ``GET /clock`` this host's
monotonic clock and its boot. It runs in a pod of its own beside the writer's, so it outlives the writer; it holds nothing, so it may itself
be killed and begun again. Standard library only. Usage: ``python -m harness.load.keeper DIRECTORY PORT``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from types import FrameType

from harness.support.clock import boot_id

CHUNK_BYTES = 4 << 20
#: A name without a slash that is not hidden: nothing outside the directory can be asked for.
_FILE = re.compile(r"^/file/([A-Za-z0-9][A-Za-z0-9._-]{0,100})/(\d{1,15})$")


class Keeper(ThreadingHTTPServer):
    """The server. ``port`` 0 takes a free one; bound to every address of both families where there is IPv6, else of IPv4."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, host: str = "") -> None:
        self.folder = folder
        super().__init__((host, port), _Handler)


class _V6(Keeper):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: Keeper

    def do_GET(self) -> None:
        try:
            body = self._answer()
        except OSError as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error.strerror))
            return
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self) -> bytes | None:
        if self.path == "/clock":
            return json.dumps({"monotonic_ns": time.monotonic_ns(), "boot": boot_id()}).encode()
        if self.path == "/files":
            return json.dumps(sizes(self.server.folder)).encode()
        found = _FILE.match(self.path)
        path = self.server.folder / found[1] if found else None
        return _piece(path, int(found[2])) if found and path and path.is_file() and not path.is_symlink() else None

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each look would be several a second."""


def sizes(folder: Path) -> dict[str, int]:
    """Name → octets of the plain files in ``folder``."""
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file() and not p.is_symlink() and not p.name.startswith(".")}


def _piece(path: Path, offset: int) -> bytes:
    with path.open("rb") as handle:
        handle.seek(offset)
        return handle.read(CHUNK_BYTES)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM; returns the exit code."""
    folder, port = Path(argv[0]), int(argv[1])
    kind, host = (_V6, "::") if os.path.exists("/proc/net/if_inet6") else (Keeper, "")
    server = kind(folder, port, host)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    server.serve_forever(poll_interval=0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

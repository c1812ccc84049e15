"""Sidecar of the Postfix pods: what is in the queue, as JSON over HTTP (``GET /queue``, port 9154).

Answers ``{"incoming": n, "active": n, "deferred": n, "hold": n, "corrupt": n, "oldest_s": seconds}``. It counts directory entries
(hashed queues included) and opens none of them; the age of the oldest mail comes from its queue ID, which with
``enable_long_queue_ids`` begins with the time of arrival (Postfix 3.10 src/global/mail_queue.h). So a request costs about 1 ms for
1,000 mails. In ``incoming`` only files that Postfix has marked as whole
count (owner's execute bit: MAIL_QUEUE_STAT_READY in src/global/mail_queue.h): others are being received, or were when their writer was killed, and
nobody has acknowledged them. ``corrupt`` and ``hold`` do not count for the age. A queue that cannot be read answers 503, never zeros.
"""

import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUEUES = ("incoming", "active", "deferred", "hold", "corrupt")
AGEING = ("incoming", "active", "deferred")
_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_VALUE = {c: n for n, c in enumerate(_DIGITS)}
_USEC_DIGITS = 4
_SECONDS_DIGITS_MIN = 6


def arrival_s(queue_id: str) -> int | None:
    """Unix time in a long queue ID, whole seconds; None for a short ID or another file."""
    head, mark, _ = queue_id.rpartition("z")
    seconds = head[:-_USEC_DIGITS]
    if not mark or len(seconds) < _SECONDS_DIGITS_MIN or any(c not in _VALUE for c in seconds):
        return None
    value = 0
    for c in seconds:
        value = value * len(_DIGITS) + _VALUE[c]
    return value


def names(folder: str, whole: bool = False) -> Iterator[str]:
    """File names in ``folder`` and the folders in it. A mail or folder that vanishes meanwhile is no error; ``folder`` itself is.

    With ``whole`` only those that Postfix has marked as such.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from names(entry.path, whole)
                elif not whole or entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR:
                    yield entry.name
            except FileNotFoundError:
                continue


def status(spool: str, now: float) -> dict[str, float]:
    """Mails by queue and the age of the oldest in seconds. Raises OSError when a queue cannot be read."""
    found = {queue: list(names(os.path.join(spool, queue), queue == "incoming")) for queue in QUEUES}
    times = [t for queue in AGEING for name in found[queue] if (t := arrival_s(name)) is not None]
    counts: dict[str, float] = {queue: len(files) for queue, files in found.items()}
    return {**counts, "oldest_s": round(max(0.0, now - min(times)), 1) if times else 0.0}


class Handler(BaseHTTPRequestHandler):
    """GET /queue."""

    spool = "/var/spool/postfix"

    def do_GET(self) -> None:
        if self.path != "/queue":
            self._answer(404, {"error": "only /queue is here"})
            return
        try:
            self._answer(200, status(self.spool, time.time()))
        except OSError as error:
            self._answer(503, {"error": f"the queue cannot be read: {error}"})

    def _answer(self, code: int, body: dict[str, object] | dict[str, float]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Requests are not logged: they come every second or two."""


class Server(ThreadingHTTPServer):
    """On IPv4 and IPv6 at once."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


if __name__ == "__main__":
    # The first process of a container ignores what it does not handle (kill(2)): without this the pod takes its whole grace period to stop.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    Server(("::", int(sys.argv[1]) if len(sys.argv) > 1 else 9154), Handler).serve_forever()

"""A milter that does what filters do to a header: add a field, change one, insert one at the top. Real sockets, no library.

Source: libmilter's protocol as Postfix speaks it (mfdef.h): ``<u32 length><command><data>``.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ADD_AND_CHANGE = 0x01 | 0x10
_REPLIES = (
    b"h" + b"X-Spam-Status\0No, score=1.2 with a value that is longer than what it replaces, and folded\n\tonce\0",
    b"m" + struct.pack(">I", 1) + b"Subject\0changed by the filter to something quite a bit longer than it was\0",
    b"i" + struct.pack(">I", 0) + b"X-Inserted\0at the top\0",
    b"c",
)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while len(head := self._read(4)) == 4:
            (length,) = struct.unpack(">I", head)
            command, _ = (data := self._read(length))[:1], data[1:]
            if command == b"Q":
                return
            for reply in self._answer(command):
                self.request.sendall(struct.pack(">I", len(reply)) + reply)

    def _answer(self, command: bytes) -> tuple[bytes, ...]:
        if command == b"O":
            return (b"O" + struct.pack(">III", 6, _ADD_AND_CHANGE, 0),)
        if command == b"E":
            return _REPLIES
        return () if command in b"DA" else (b"c",)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.request.recv(count - len(data))):
            data += more
        return data


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def milter() -> Iterator[int]:
    """Run it; its port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()

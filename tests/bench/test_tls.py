"""STARTTLS connections per client CPU second, beside bare TLS handshakes with the same server and the same context."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from pathlib import Path

import pytest
import uvloop

from harness.mail.smtp import Endpoint, SessionOptions, SmtpSession, start
from harness.mail.tls import client_context
from tests.bench.book import Book
from tests.bench.processes import python, running
from tests.servers.certificates import make_certificate
from tests.servers.mailservers import free_port

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
TIMES = 600


class Opener:
    """Opens sessions one after the other, each to EHLO under TLS and QUIT."""

    def __init__(self, port: int, options: SessionOptions, left: int, over: asyncio.Event) -> None:
        self.port, self.options, self.left, self.over, self.ready = port, options, left, over, 0

    def next(self) -> None:
        if not self.left:
            self.over.set()
            return
        self.left -= 1
        start(asyncio.get_running_loop(), Endpoint("127.0.0.1", self.port, tls="starttls"), self.options, self)

    def on_ready(self, session: SmtpSession) -> None:
        self.ready += 1
        session.quit()

    def on_closed(self, reason, refused, bad) -> None:
        assert bad is None, bad
        self.next()


def ours(port: int, context) -> float:
    async def work() -> int:
        over = asyncio.Event()
        opener = Opener(port, SessionOptions(tls_context=context), TIMES, over)
        opener.next()
        await over.wait()
        return opener.ready

    begin = time.process_time()
    assert uvloop.run(work()) == TIMES
    return TIMES / (time.process_time() - begin)


def bare(port: int, context) -> float:
    begin = time.process_time()
    for _ in range(TIMES):
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as one:
            one.recv(1)
    return TIMES / (time.process_time() - begin)


def test_starttls(book: Book, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    plain_port, tls_port = free_port(), free_port()
    context = client_context()
    files = (str(certificate), str(key))
    with running(python("tests.bench.servers", "starttls", str(plain_port), *files), plain_port), \
            running(python("tests.bench.servers", "tls", str(tls_port), *files), tls_port):  # fmt: skip
        seen = [(ours(plain_port, context), bare(tls_port, context)) for _ in range(5)]
    unit = "connections per client CPU-s"
    book.add("STARTTLS: connect, EHLO, STARTTLS, EHLO, QUIT", statistics.median(a for a, _ in seen), unit)
    book.add("bare TLS handshake: blocking socket, same server and context", statistics.median(b for _, b in seen), unit)
    book.add("ratio to the bare handshake", statistics.median(a / b for a, b in seen), "×", "≥0.8×", 0.8, note="median of 5 pairs, TLS 1.3, P-256")

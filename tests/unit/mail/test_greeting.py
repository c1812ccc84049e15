"""A greeting that arrives with the connection itself, before anybody could ask for it, is heard all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from harness.mail.imap import ImapClient
from harness.mail.link import Closed, Endpoint, Refused
from harness.mail.pop3 import PopClient
from tests.unit.mail.drive import go

OPENED = 150
GREETINGS = {ImapClient: b"* OK [CAPABILITY IMAP4rev1] ready\r\n", PopClient: b"+OK ready\r\n"}


@contextmanager
def quick(greeting: bytes, then: bytes = b"-ERR no\r\n") -> Iterator[int]:
    """A server in a thread of its own, that greets in the moment it accepts; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=OPENED) as listener:
        listener.settimeout(10)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        one.sendall(greeting)
                        with suppress(OSError):
                            one.recv(100)
                            one.sendall(then)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize("kind", GREETINGS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_is_never_missed(kind: type[ImapClient] | type[PopClient], loop: str) -> None:
    async def work() -> None:
        for _ in range(OPENED):
            (await kind.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), connect_s=5, step_s=5)).abort()

    with quick(GREETINGS[kind]) as port:
        go(work, loop)


@pytest.mark.parametrize("kind", GREETINGS, ids=lambda k: k.__name__)
def test_a_refusal_in_its_place_is_one(kind: type[ImapClient] | type[PopClient]) -> None:
    async def work() -> None:
        with pytest.raises((Refused, Closed), match=r"full|closed|lost"):
            await kind.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), connect_s=5, step_s=5)

    with quick(b"* BYE full\r\n" if kind is ImapClient else b"-ERR full\r\n", b"") as port:
        go(work)

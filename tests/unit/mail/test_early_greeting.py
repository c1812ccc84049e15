"""A server greets before the client's coroutine has run again after connecting: on a busy loop that happens, and the greeting must count.

Seen as an IMAP client of ten thousand that waited its whole deadline for a greeting it had been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from harness.mail.asking import EARLY_OCTETS_MAX, Closed
from harness.mail.imap import ImapClient
from harness.mail.link import Endpoint, open_link
from harness.mail.pop3 import PopClient
from harness.support.clock import now_ns


async def greeted_late(kind: Callable[..., ImapClient | PopClient], greeting: bytes, ask: Callable[[ImapClient | PopClient], Awaitable[object]]) -> object:
    """Connect, let the greeting arrive while nobody waits for it, then wait for it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        client = kind(asyncio.get_running_loop(), endpoint, 2.0)
        await open_link(client, endpoint, None, "", 5.0)
        begin = now_ns()
        while not client._early and not client.ended and now_ns() - begin < 5e9:
            await asyncio.sleep(0.01)
        try:
            return await ask(client)
        finally:
            client.abort()


def test_imap_takes_an_early_greeting():
    async def ask(client: ImapClient) -> frozenset[str]:
        await client._greeting()
        return client.capabilities

    found = asyncio.run(greeted_late(ImapClient, b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n", ask))
    assert found == {"IMAP4REV1", "IDLE"}


def test_pop3_takes_an_early_greeting():
    found = asyncio.run(greeted_late(PopClient, b"+OK ready\r\n", lambda client: client._ask("the greeting", [b""])))
    assert found == [(b"ready", b"")]


def test_a_flood_before_the_first_command_ends_it():
    with pytest.raises(Closed, match="before anything was asked"):
        asyncio.run(greeted_late(ImapClient, b"x" * (3 * EARLY_OCTETS_MAX), lambda client: client._greeting()))

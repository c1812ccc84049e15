"""FETCH of a whole mailbox, again and again, by one client in a process of its own: ``python -m tests.bench.imap_fetch CLIENT PORT ROUNDS``.

``mailgale``, ``aioimaplib`` (both on uvloop), ``imaplib``. Prints one JSON line: mails, and the CPU seconds from connecting to the end of LOGOUT.

aioimaplib leaves its connection open after LOGOUT. Inside the test runner, where warnings are errors, that ended the bench: when a uvloop is
closed it warns of each transport that is still open, the warning became an exception before the handle was closed, and libuv answers a loop
with open handles with EBUSY. So the connection is closed here, and no test runner is around it.
"""

from __future__ import annotations

import asyncio
import imaplib
import json
import sys
import time

import aioimaplib
import uvloop

from harness.mail.imap import ImapClient
from harness.mail.link import Endpoint
from tests.servers.mailservers import DOMAIN, PASSWORD

USER = f"user1@{DOMAIN}"


async def mailgale(port: int, rounds: int) -> int:
    client = await ImapClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port))
    await client.login(USER, PASSWORD)
    await client.select("INBOX")
    found = 0
    for _ in range(rounds):
        found += len(await client.fetch("1:*", "(UID FLAGS BODY.PEEK[])"))
    await client.logout()
    return found


async def aio(port: int, rounds: int) -> int:
    client = aioimaplib.IMAP4("127.0.0.1", port, timeout=60)
    await client.wait_hello_from_server()
    await client.login(USER, PASSWORD)
    await client.select("INBOX")
    found = 0
    for _ in range(rounds):
        answer = await client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")
        found += sum(1 for line in answer.lines if isinstance(line, bytearray))
    await client.logout()
    client.protocol.transport.abort()
    return found


def standard(port: int, rounds: int) -> int:
    """The standard library's own client, which blocks."""
    client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    client.login(USER, PASSWORD)
    client.select("INBOX")
    found = 0
    for _ in range(rounds):
        _, parts = client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")
        found += sum(1 for part in parts if isinstance(part, tuple))
    client.logout()
    return found


def main(client: str, port: int, rounds: int) -> None:
    begin = time.process_time()
    if client == "imaplib":
        found = standard(port, rounds)
    else:
        found = uvloop.run({"mailgale": mailgale, "aioimaplib": aio}[client](port, rounds))
    print(json.dumps({"mails": found, "cpu_s": time.process_time() - begin}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

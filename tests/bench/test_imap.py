"""IMAP: FETCH of 2 kB mails from a real Dovecot beside aioimaplib and imaplib, and thousands of idle connections."""

from __future__ import annotations

import asyncio
import imaplib
import os
import resource
import statistics
import time

import aioimaplib
import pytest
import uvloop

from harness.mail.imap import ImapClient
from harness.mail.link import Endpoint
from tests.bench.book import Book
from tests.bench.processes import python, rss_bytes, running, tree_cpu_s
from tests.servers.mailservers import DOMAIN, PASSWORD, Dovecot, dovecot, free_port

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
MAILS, ROUNDS = 500, 20
MESSAGE = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: t\r\n\r\n" + (b"y" * 76 + b"\r\n") * 25


async def ours(port: int) -> int:
    client = await ImapClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port))
    await client.login(f"user1@{DOMAIN}", PASSWORD)
    await client.select("INBOX")
    found = 0
    for _ in range(ROUNDS):
        found += len(await client.fetch("1:*", "(UID FLAGS BODY.PEEK[])"))
    await client.logout()
    return found


async def theirs(port: int) -> int:
    client = aioimaplib.IMAP4("127.0.0.1", port, timeout=60)
    await client.wait_hello_from_server()
    await client.login(f"user1@{DOMAIN}", PASSWORD)
    await client.select("INBOX")
    found = 0
    for _ in range(ROUNDS // 4):
        answer = await client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")
        found += sum(1 for line in answer.lines if isinstance(line, bytearray))
    await client.logout()
    return found


async def standard(port: int) -> int:
    """The standard library's own client, which blocks."""
    client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    client.login(f"user1@{DOMAIN}", PASSWORD)
    client.select("INBOX")
    found = 0
    for _ in range(ROUNDS // 4):
        _, parts = client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")
        found += sum(1 for part in parts if isinstance(part, tuple))
    client.logout()
    return found


def measured(server: Dovecot, pid: int, work) -> tuple[float, float]:
    """Mails per client CPU second, and the client's CPU as a share of the server's."""
    served, begin = tree_cpu_s(pid), time.process_time()
    found = uvloop.run(work(server.imap))
    used = time.process_time() - begin
    assert found >= MAILS * ROUNDS // 4
    time.sleep(0.3)  # the server's last process has been waited for by then
    return found / used, used / (tree_cpu_s(pid) - served)


def test_fetch(book: Book) -> None:
    with dovecot(1) as server:
        for _ in range(MAILS):
            server.deliver(f"user1@{DOMAIN}", MESSAGE)
        pid = next(int(line) for line in (server.root / "run" / "master.pid").read_text().split())
        uvloop.run(ours(server.imap))  # the server's caches are warm from here on
        seen = [tuple(measured(server, pid, work) for work in (ours, theirs, standard)) for _ in range(3)]
    unit = "mails per client CPU-s"
    mine, peer, plain = (statistics.median(run[i][0] for run in seen) for i in range(3))
    book.add("IMAP FETCH of 2 kB mails from Dovecot", mine, unit)
    book.add("peer: aioimaplib on uvloop", peer, unit)
    book.add("peer: imaplib", plain, unit)
    share = statistics.median(run[0][1] for run in seen)
    book.add("client CPU / server CPU", share, "", "≤0.5", 0.5, False, note=f"{MAILS * ROUNDS:,} mails a run, 3 runs; the server's by /proc, its children included")
    book.add("ratio to the quickest Python peer", mine / max(peer, plain), "×", "≥1×", 1.0)


def test_idle_connections(book: Book) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(10_000, most - 500)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port = free_port()
    try:
        with running(python("tests.bench.servers", "idle", str(port)), port):
            each, share = uvloop.run(hold(port, wanted))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    note = "" if wanted == 10_000 else f"scaled down: the limit of open files is {most}"
    book.add(f"{wanted:,} idle IMAP connections in one process: memory each beside sockets", each / 1024, "KiB", "≤16 KiB", 16.0, False, note=note)
    book.add("〃: CPU while they idle", share * 100, "% of a core", "<5 %", 5.0, False, note="over 10 s")


async def hold(port: int, count: int) -> tuple[float, float]:
    """Resident bytes each, and CPU as a share of a core while idle."""
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(100)
    before = rss_bytes(os.getpid())

    async def one() -> ImapClient:
        async with gate:
            client = await ImapClient.open(loop, Endpoint("127.0.0.1", port))
            await client.login("u", "p")
            await client.select("INBOX")
            await client.idle_start()
            return client

    clients = await asyncio.gather(*(one() for _ in range(count)))
    each = (rss_bytes(os.getpid()) - before) / count
    begin, used = time.monotonic(), time.process_time()
    await asyncio.sleep(10)
    share = (time.process_time() - used) / (time.monotonic() - begin)
    assert not any(c.ended for c in clients)
    for client in clients:
        client.abort()
    return each, share

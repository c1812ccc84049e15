"""IMAP: FETCH of 2 kB mails from a real Dovecot beside aioimaplib and imaplib, and thousands of idle connections."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import time

import pytest
import uvloop

from harness.mail.imap import ImapClient
from harness.mail.link import Endpoint
from tests.bench.book import Book, tried
from tests.bench.processes import environment, python, rss_bytes, running, tree_cpu_s
from tests.servers.mailservers import DOMAIN, Dovecot, dovecot, free_port

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
MAILS, ROUNDS = 500, 20
PEERS = {"aioimaplib": "aioimaplib on uvloop", "imaplib": "imaplib"}
MESSAGE = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: t\r\n\r\n" + (b"y" * 76 + b"\r\n") * 25


def measured(client: str, server: Dovecot, pid: int, rounds: int) -> tuple[float, float]:
    """Mails per client CPU second, and the client's CPU as a share of the server's."""
    served = tree_cpu_s(pid)
    done = subprocess.run(python("tests.bench.imap_fetch", client, str(server.imap), str(rounds)), env=environment(), capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    seen = json.loads(done.stdout)
    assert seen["mails"] == MAILS * rounds, seen
    time.sleep(0.3)  # the server's last process has been waited for by then
    return seen["mails"] / seen["cpu_s"], seen["cpu_s"] / (tree_cpu_s(pid) - served)


def test_fetch(book: Book) -> None:
    with dovecot(1) as server:
        for _ in range(MAILS):
            server.deliver(f"user1@{DOMAIN}", MESSAGE)
        pid = next(int(line) for line in (server.root / "run" / "master.pid").read_text().split())
        measured("mailgale", server, pid, 1)  # the server's caches are warm from here on
        mine, theirs = [], {client: [] for client in PEERS}  # type: list[tuple[float, float]], dict[str, list[tuple[float | None, str]]]
        for _ in range(3):
            mine.append(measured("mailgale", server, pid, ROUNDS))
            for client, runs in theirs.items():
                runs.append(tried(lambda client=client: measured(client, server, pid, ROUNDS // 4)[0]))
    unit = "mails per client CPU-s"
    rate, share = (statistics.median(run[i] for run in mine) for i in range(2))
    book.add("IMAP FETCH of 2 kB mails from Dovecot", rate, unit)
    peers = [book.peer(f"peer: {PEERS[client]}", unit, lambda runs=runs: median_of(runs)) for client, runs in theirs.items()]
    book.add("client CPU / server CPU", share, "", "≤0.5", 0.5, False, note=f"{MAILS * ROUNDS:,} mails a run, 3 runs; the server's by /proc, its children included")
    quickest = max((p for p in peers if p is not None), default=None)
    book.ratio("ratio to the quickest Python peer", rate, quickest, goal="≥1×", bound=1.0)


def median_of(runs: list[tuple[float | None, str]]) -> float:
    """Of a peer's runs that gave a figure."""
    seen = [figure for figure, _ in runs if figure is not None]
    assert seen, runs[-1][1]
    return statistics.median(seen)


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

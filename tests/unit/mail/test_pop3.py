"""POP3 against real Dovecot and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.mail.link import Endpoint
from harness.mail.pop3 import Closed, PopClient, Refused
from harness.mail.tls import client_context
from tests.servers.certificates import make_certificate
from tests.servers.mailservers import PASSWORD, Dovecot, dovecot
from tests.servers.peers import CLOSE, RESET, SILENT, Act, Peer, serve
from tests.unit.mail.drive import go


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dovecot, Path]]:
    tls = make_certificate(tmp_path_factory.mktemp("tls"))
    with dovecot(3, tls) as running:
        yield running, tls[0]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_real_session(server: tuple[Dovecot, Path], tls: str, loop: str) -> None:
    dove, ca = server
    for n in range(5):
        dove.deliver("user1@example.org", b"Subject: %d\r\n\r\n.dots\r\n..\r\nend\r\n" % n)

    async def opened() -> PopClient:
        return await PopClient.open(
            asyncio.get_running_loop(), Endpoint("127.0.0.1", dove.pop3, tls=tls), tls_context=client_context(str(ca)), connect_s=5, step_s=5
        )

    async def work() -> None:
        client = await opened()
        with pytest.raises(Refused):
            await client.login("user1@example.org", "wrong")
        await client.login("user1@example.org", PASSWORD)
        assert "PIPELINING" in client.capabilities
        count, octets = await client.stat()
        assert count == 5
        uidl = await client.uidl()
        assert len(set(uidl.values())) == 5
        texts = await client.retr_all(list(uidl))
        assert all(t.endswith(b"\r\n\r\n.dots\r\n..\r\nend\r\n") for t in texts)
        assert sum(map(len, texts)) == octets == sum((await client.sizes()).values())
        with pytest.raises(Refused):
            await client.retr(99)
        await client.dele(1, 2, 3, 4, 5)
        client.abort()
        again = await opened()
        await again.login("user1@example.org", PASSWORD)
        assert (await again.stat())[0] == 5, "without QUIT nothing is deleted"
        await again.dele(1, 2, 3, 4, 5)
        await again.quit()
        last = await opened()
        await last.login("user1@example.org", PASSWORD)
        assert (await last.stat())[0] == 0
        await last.quit()

    go(work, loop)


async def polite(peer: Peer, bad: dict[str, Act]) -> None:
    await peer.act(bad.get("GREETING", b"+OK hi\r\n"))
    while True:
        verb = (await peer.line()).split()[0].decode()
        default = {"CAPA": b"+OK\r\nPIPELINING\r\n.\r\n", "UIDL": b"+OK\r\n1 a\r\n.\r\n", "RETR": b"+OK\r\n..x\r\n.\r\n", "STAT": b"+OK 1 3\r\n"}.get(verb, b"+OK\r\n")
        await peer.act(bad.get(verb, default))


async def session(port: int) -> list[Any]:
    client = await PopClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), connect_s=0.4, step_s=0.4)
    try:
        await client.login("a", "b")
        told = [await client.stat(), await client.uidl(), await client.retr_all([1, 2, 3, 4, 5])]
        await client.dele(1)
        await client.quit()
        return told
    finally:
        client.abort()


BAD: dict[str, Act] = {
    "close": CLOSE, "reset": RESET, "silent": SILENT, "garbage": b"\x00\xff\r\n", "long line": b"+OK " + b"x" * 200_000, "nearly OK": b"+OKAY\r\n", "two answers": b"+OK 1 1\r\n.\r\n+OK 1 1\r\n+OK\r\n",
    "endless": b"+OK\r\n" + b"1 " + b"x" * 20 + b"\r\n" + b"y" * 60 + b"\r\n" * 6_000_000,
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("verb", ["GREETING", "CAPA", "USER", "PASS", "STAT", "UIDL", "RETR", "DELE", "QUIT"])
def test_every_step_can_go_wrong(verb: str, how: str) -> None:
    if verb == "QUIT" and how in ("two answers", "endless"):
        return  # the +OK counts, and the connection is over

    async def work() -> float:
        loop = asyncio.get_running_loop()
        async with serve(lambda peer: polite(peer, {verb: BAD[how]})) as server:
            begun = loop.time()
            with pytest.raises((Closed, Refused)):
                await session(server.port)
            return loop.time() - begun

    assert go(work) < 1.4


def test_control() -> None:
    async def work() -> list[Any]:
        async with serve(lambda peer: polite(peer, {})) as server:
            return await session(server.port)

    assert go(work) == [(1, 3), {1: "a"}, [b".x\r\n"] * 5]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b".\r\n", b"+OK 1 2\r\n", b"1 a\r\n", b"..\r\n"]) | st.binary(max_size=40), max_size=20))
def test_random_dialogues_end_in_time(script: list[bytes]) -> None:
    async def answers(peer: Peer) -> None:
        for octets in script:
            await peer.act(octets)
            await asyncio.sleep(0)
        await peer.close()

    async def work() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with serve(answers) as server:
            with suppress(Closed, Refused):
                await session(server.port)
        return loop.time() - begun

    assert go(work) < 1.4

"""IMAP against real Dovecot and against servers that misbehave."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.mail.imap import Closed, ImapClient, Refused
from harness.mail.link import ConnectError, Endpoint
from harness.mail.tls import client_context
from tests.servers.certificates import make_certificate
from tests.servers.mailservers import PASSWORD, Dovecot, dovecot
from tests.servers.peers import CLOSE, RESET, SILENT, Act, Peer, serve
from tests.unit.mail.drive import go

USER = "user1@example.org"
MESSAGE = b"From: a@example.net\r\nX-Mailgale-Trace: r.1-a.7\r\nSubject: t\r\n\r\nhello (\"{3}\")\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dovecot, Path]]:
    tls = make_certificate(tmp_path_factory.mktemp("tls"))
    with dovecot(6, tls) as running:
        yield running, tls[0]


async def client_of(port: int, tls: str = "none", ca: Path | None = None) -> ImapClient:
    context = client_context(str(ca)) if ca else None
    return await ImapClient.open(asyncio.get_running_loop(), Endpoint("127.0.0.1", port, tls=tls), tls_context=context, connect_s=5, step_s=5)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_real_session(server: tuple[Dovecot, Path], tls: str, loop: str) -> None:
    dove, ca = server

    async def work() -> None:
        client = await client_of(dove.imaps if tls == "implicit" else dove.imap, tls, ca)
        with pytest.raises(Refused, match="NO"):
            await client.login(USER, "wrong")
        await client.login(USER, PASSWORD)
        assert {"IDLE", "MOVE", "UIDPLUS"} <= client.capabilities
        box = await client.select("INBOX")
        for uid in [f.uid for f in await client.fetch("1:*", "(UID)")] if box.exists else []:
            await client.store(str(uid), "+FLAGS.SILENT", ["\\Deleted"], uid=True)
        await client.expunge()
        first = await client.append("INBOX", MESSAGE, ["\\Seen"])
        second = await client.append("INBOX", MESSAGE * 3)
        assert first.uidvalidity == box.uidvalidity > 0
        assert second.uid == first.uid + 1
        await client.noop()
        assert box.exists == 2
        [one] = await client.fetch(str(first.uid), "(FLAGS BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (X-MAILGALE-TRACE)])", uid=True)
        assert one.uid == first.uid
        assert one.items["BODY[]"] == MESSAGE
        assert b"r.1-a.7" in one.items["BODY[HEADER.FIELDS (X-MAILGALE-TRACE)]"]
        assert box.flags[1] == {"\\Seen", "\\Recent"} or box.flags[1] == {"\\Seen"}
        assert await client.search("SEEN", uid=True) == [first.uid]
        [changed] = await client.store("2", "+FLAGS", ["\\Flagged"])
        assert b"\\Flagged" in changed.items["FLAGS"]
        assert "\\Flagged" in box.flags[2]
        await client.move("1", "Junk")
        assert box.exists == 1
        assert "\\Flagged" in box.flags[1]
        with pytest.raises(Refused):
            await client.select("Nothing here & there")
        assert (await client.select("Junk", read_only=True)).read_only
        await client.logout()
        with pytest.raises(Closed):
            await client.noop()

    go(work, loop)


@pytest.mark.parametrize("mechanism", ["PLAIN"])
def test_authenticate(server: tuple[Dovecot, Path], mechanism: str) -> None:
    async def work() -> None:
        client = await client_of(server[0].imap)
        with pytest.raises(Refused):
            await client.authenticate(mechanism, USER, "wrong")
        await client.authenticate(mechanism, USER, PASSWORD)
        client.capabilities -= {"SASL-IR"}
        other = await client_of(server[0].imap)
        other.capabilities -= {"SASL-IR", "LITERAL+"}
        await other.authenticate(mechanism, USER, PASSWORD)
        other.capabilities -= {"LITERAL+", "LITERAL-"}
        assert (await other.append("INBOX", MESSAGE)).uid > 0
        await client.logout()
        await other.logout()

    go(work)


def test_idle_tells_at_once(server: tuple[Dovecot, Path]) -> None:
    async def work() -> None:
        client, other = await client_of(server[0].imap), await client_of(server[0].imap)
        heard: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        for one in (client, other):
            await one.login("user2@example.org", PASSWORD)
        box = await client.select("INBOX")
        await client.idle_start(lambda kind, number: heard.put_nowait((kind, number)))
        await other.append("INBOX", MESSAGE)
        while (await asyncio.wait_for(heard.get(), 5))[0] != "EXISTS":
            pass
        await client.idle_done()
        assert len(await client.fetch(str(box.exists), "(UID)")) == 1
        await client.idle(0.05)
        await client.logout()
        await other.logout()

    go(work)


# misbehaviour

CAPS = b"* OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ MOVE] hi\r\n"


async def polite(peer: Peer, bad: dict[str, Act]) -> None:
    """Answers every command with OK, and badly where ``bad`` says."""
    await peer.act(bad.get("GREETING", CAPS))
    while True:
        tag, verb, *_ = (await peer.line()).split()
        if verb in (b"DONE",):
            continue
        act = bad.get(verb.decode())
        if act is not None:
            await peer.act(act)
            continue
        if verb == b"IDLE":
            await peer.act(b"+ idling\r\n")
            continue
        await peer.act(tag + b" OK [CAPABILITY IMAP4rev1 IDLE] done\r\n")


def against(bad: dict[str, Act], work: Callable[[ImapClient], Awaitable[Any]], loop: str = "uvloop") -> tuple[BaseException | None, float]:
    """What ``work`` raises against such a server, and after how long."""

    async def whole() -> tuple[BaseException | None, float]:
        running = asyncio.get_running_loop()
        async with serve(lambda peer: polite(peer, bad)) as server:
            begun = running.time()
            try:
                client = await ImapClient.open(running, Endpoint("127.0.0.1", server.port), connect_s=0.4, step_s=0.4)
                await work(client)
            except (OSError, Refused) as error:
                return error, running.time() - begun
            finally:
                took = running.time() - begun
            client.abort()
            return None, took

    return go(whole, loop)


async def session(client: ImapClient) -> None:
    await client.login("a", "b")
    await client.select("INBOX")
    await client.fetch("1:*", "(FLAGS)")


BAD: dict[str, Act] = {
    "close": CLOSE, "reset": RESET, "silent": SILENT, "garbage": b"\x00\xff\r\n", "long line": b"* " + b"x" * 2_000_000, "huge literal": b"* 1 FETCH (BODY[] {999999999}\r\n",
    "absurd literal": b"* 1 FETCH (BODY[] {99999999999999999999}\r\n", "nested": b"* 1 FETCH " + b"(" * 5000 + b"\r\n", "odd pairs": b"* 1 FETCH (FLAGS)\r\n",
    "literal never comes": b"* 1 FETCH (BODY[] {100}\r\nabc", "wrong tag": b"Z9 OK what\r\n", "continuation": b"+ go on\r\n", "bye": b"* BYE going down\r\n", "flags of no list": b"* 1 FETCH FLAGS\r\n",
}  # fmt: skip


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("verb", ["GREETING", "LOGIN", "SELECT", "FETCH"])
def test_every_step_can_go_wrong(verb: str, how: str, loop: str) -> None:
    error, took = against({verb: BAD[how]}, session, loop)
    assert isinstance(error, Closed) or (verb == "GREETING" and how == "bye" and isinstance(error, Refused))
    assert took < 1.4


def test_control_and_refusal() -> None:
    assert against({}, session)[0] is None
    error, _ = against({"SELECT": b"A2 NO [NONEXISTENT] no such box\r\n"}, session)
    assert isinstance(error, Refused)
    assert (error.word, error.text) == ("NO", "[NONEXISTENT] no such box")


@pytest.mark.parametrize("octets", [b"", b"* BYE shutting down\r\n", b"junk\r\n"])
def test_loss_in_idle_is_heard_at_once(octets: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.act(CAPS)
        await peer.line()
        await peer.act(b"+ idling\r\n* 5 EXISTS\r\n")
        await asyncio.sleep(0.1)
        await peer.act(octets)
        await peer.close()

    async def work() -> None:
        loop, heard, reasons = asyncio.get_running_loop(), [], []
        async with serve(script) as server:
            client = await ImapClient.open(loop, Endpoint("127.0.0.1", server.port), step_s=5)
            client.on_closed = reasons.append
            begun = loop.time()
            with pytest.raises(Closed, match="BYE" if b"BYE" in octets else "closed|junk"):
                await client.idle(10, lambda kind, number: heard.append((kind, number)))
            assert loop.time() - begun < 0.4
            assert heard == [("EXISTS", 5)]
            assert len(reasons) == 1

    go(work)


def test_one_command_at_a_time_and_no_injection() -> None:
    async def work(client: ImapClient) -> None:
        from harness.errors import MailgaleError

        with pytest.raises(ValueError, match="CR or LF"):
            await client.search("ALL\r\nA9 LOGOUT")
        task = asyncio.ensure_future(client.noop())
        await asyncio.sleep(0)
        with pytest.raises(MailgaleError, match="on its way"):
            await client.noop()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.reason == "NOOP was given up"

    assert against({"NOOP": SILENT}, work)[0] is None


def test_flood_stays_small() -> None:
    """An answer without an end is cut by its bound or the deadline, whichever comes first."""
    tracemalloc.start()
    try:
        flood = b"* 1 FETCH (FLAGS (\\Seen) BODY[] {60000}\r\n" + b"y" * 60_000 + b")\r\n"
        error, took = against({"FETCH": flood * 700}, session, "asyncio")
        peak = tracemalloc.get_traced_memory()[1] - len(flood) * 700 * 2
    finally:
        tracemalloc.stop()
    assert isinstance(error, Closed)
    assert took < 1.4 + 2.0  # tracemalloc's own cost
    assert peak < 64 << 20


def test_nobody_listens() -> None:
    async def work() -> None:
        async with serve(lambda peer: polite(peer, {})) as server:
            port = server.port
        with pytest.raises(ConnectError):
            await client_of(port)

    go(work)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from([CAPS, b"A1 OK x\r\n", b"A2 OK x\r\n", b"A3 NO x\r\n", b"* 1 FETCH (FLAGS ())\r\n", b"* 3 EXISTS\r\n", b"+ x\r\n", b"* SEARCH 1 2\r\n", b"{3}\r\n", b"* ("])
        | st.binary(max_size=40),
        max_size=12,
    )
)
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
                client = await ImapClient.open(loop, Endpoint("127.0.0.1", server.port), connect_s=0.4, step_s=0.4)
                try:
                    await session(client)
                finally:
                    client.abort()
        return loop.time() - begun

    assert go(work) < 1.4


def test_memory_of_an_idle_connection() -> None:
    """At most 16 KiB of Python's own memory for each (sockets and the loop's handles beside)."""

    async def work() -> float:
        clients = []
        async with serve(lambda peer: polite(peer, {})) as server:
            loop = asyncio.get_running_loop()
            warm = await ImapClient.open(loop, Endpoint("127.0.0.1", server.port))
            tracemalloc.start()
            try:
                before = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/harness/mail/*")])
                for _ in range(200):
                    client = await ImapClient.open(loop, Endpoint("127.0.0.1", server.port))
                    await client.idle_start()
                    clients.append(client)
                after = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/harness/mail/*")])
            finally:
                tracemalloc.stop()
            used = sum(s.size_diff for s in after.compare_to(before, "filename"))
            for client in (*clients, warm):
                client.abort()
            return used / len(clients)

    assert go(work) < 16 << 10

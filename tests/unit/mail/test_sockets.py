"""Plain sockets and deadlines: what the loop's transports did before, now without them."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import socket
import ssl
import time
from pathlib import Path

import pytest

from harness.mail.deadlines import Deadlines
from harness.mail.smtp import Endpoint, SessionOptions, SmtpSession, start
from harness.mail.sockets import HELD_OCTETS_MAX, PlainSocket, Poller, family_of
from harness.mail.tls import client_context
from tests.servers.certificates import make_certificate
from tests.servers.mailservers import free_port
from tests.servers.peers import Peer, serve, smtp
from tests.unit.mail.drive import QUICK, Run, Seen, deliver, go, mail


class Owner:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.got = b""
        self.over, self.up = asyncio.Event(), asyncio.Event()

    def encrypted(self) -> None:
        self.told.append("encrypted")
        self.up.set()

    def reached(self) -> None:
        self.told.append("reached")

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> None:
        self.told.append("eof")
        self.over.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append(f"lost: {type(error).__name__}")
        self.over.set()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.over.set()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_refused_connection_never_was_reached(loop: str) -> None:
    async def work() -> list[str]:
        owner = Owner()
        try:
            PlainSocket(asyncio.get_running_loop(), owner, "127.0.0.1", free_port(), socket.AF_INET, "")
        except ConnectionRefusedError:
            return ["lost: ConnectionRefusedError"]
        await owner.over.wait()
        return owner.told

    assert go(work, loop) == ["lost: ConnectionRefusedError"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_the_peer_said_before_it_went_is_heard(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.write(b"421 bye\r\n")
        await peer.reset()

    async def work() -> Owner:
        async with serve(script) as server:
            owner = Owner()
            one = PlainSocket(asyncio.get_running_loop(), owner, "127.0.0.1", server.port, socket.AF_INET, "")
            await asyncio.sleep(0)
            one.write(b"x" * 10)
            await owner.over.wait()
            return owner

    owner = go(work, loop)
    assert owner.told[0] == "reached"
    assert owner.told[-1] in ("eof", "lost: ConnectionResetError")


def test_what_the_kernel_does_not_take_is_held_and_the_owner_asked_to_pause() -> None:
    async def script(peer: Peer) -> None:
        await asyncio.sleep(0.2)
        assert len(await peer.reader.readexactly(20_000_000)) == 20_000_000
        await peer.silence()

    async def work() -> Owner:
        async with serve(script) as server:
            owner = Owner()
            one = PlainSocket(asyncio.get_running_loop(), owner, "127.0.0.1", server.port, socket.AF_INET, "")
            for _ in range(20):
                one.write(b"z" * 1_000_000)
            assert len(one._held) > HELD_OCTETS_MAX
            await owner.over.wait()
            assert not one._held
            one.abort()
            return owner

    owner = go(work)
    assert owner.told.count("resume") == 1
    assert owner.told[-1] == "resume"


def test_an_event_meant_for_a_closed_socket_harms_none() -> None:
    """A number is given to a new socket while events of the old one wait: nothing may be concluded from them."""

    async def work() -> None:
        async with serve(smtp()) as server:
            owner = Owner()
            one = PlainSocket(asyncio.get_running_loop(), owner, "127.0.0.1", server.port, socket.AF_INET, "")
            for mask in (0x8 | 0x10, 0x1, 0x4):  # error and hang-up, readable, writable
                one.ready(mask)
            assert [t for t in owner.told if t != "reached"] == []
            one.abort()
            one.ready(0x1)

    go(work)


def test_closed_sockets_leave_nothing_behind() -> None:
    async def work() -> None:
        async with serve(smtp()) as server:
            for _ in range(20):
                await deliver(server.port, [mail()])
            loop = asyncio.get_running_loop()
            assert Poller.of(loop)._open == {}
            assert Deadlines.of(loop)._bound == set()

    go(work)


@pytest.mark.parametrize("step_s", [0.3, 0.9])
def test_connected_but_silent_is_the_banners_deadline_not_the_connections(step_s: float) -> None:
    async def script(peer: Peer) -> None:
        await peer.silence()

    async def work() -> Run:
        async with serve(script) as server:
            return await deliver(server.port, [mail()], dataclasses.replace(QUICK, connect_s=0.4, step_s=step_s))

    run = go(work)
    assert run.seen.bad is not None
    assert (run.seen.bad.stage.name, run.seen.bad.outcome.name) == ("BANNER", "FAIL")
    assert max(0.4, step_s) <= run.took_s < max(0.4, step_s) + 0.5


def test_nobody_takes_the_connection() -> None:
    """A listener whose queue is full drops the SYN: CONNECT, at the deadline."""

    async def work() -> Run:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for one in fillers:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            await asyncio.sleep(0.05)
            try:
                return await deliver(full.getsockname()[1], [mail()], dataclasses.replace(QUICK, connect_s=0.3))
            finally:
                for one in fillers:
                    one.close()

    run = go(work)
    assert run.seen.bad is not None
    assert run.seen.bad.stage.name == "CONNECT"
    assert run.took_s < 0.3 + 0.5


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_start_tells_of_a_refused_connection_after_it_returned(tls: str) -> None:
    async def work() -> Seen:
        seen = Seen([])
        start(asyncio.get_running_loop(), Endpoint("127.0.0.1", free_port(), tls=tls), QUICK, seen)
        assert seen.closed_times == 0
        await seen.over.wait()
        return seen

    seen = go(work)
    assert seen.bad is not None
    assert (seen.bad.stage.name, seen.bad.outcome.name, seen.closed_times) == ("CONNECT", "FAIL", 1)


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_a_session_cut_before_it_is_connected_ends_once(tls: str) -> None:
    async def work() -> Seen:
        async with serve(smtp()) as server:
            seen = Seen([])
            session = start(asyncio.get_running_loop(), Endpoint("127.0.0.1", server.port, tls=tls), SessionOptions(connect_s=0.3), seen)
            session.abort()
            await asyncio.sleep(0.5)
            return seen

    assert go(work).closed_times == 1


def test_a_name_is_resolved_by_the_loop() -> None:
    async def work() -> Run:
        async with serve(smtp()) as server:
            return await deliver(0, [mail()], endpoint=Endpoint("localhost", server.port))

    assert go(work).outcomes() == [("OK", "DOT", 250)]
    assert [family_of(h) for h in ("127.0.0.1", "::1", "localhost")] == [socket.AF_INET, socket.AF_INET6, 0]


def test_deadlines_are_noticed_in_time_and_only_when_passed() -> None:
    class One:
        def __init__(self, due: float) -> None:
            self.due, self.fired = due, 0.0

        def fires(self) -> None:
            self.fired, self.due = time.monotonic(), 0.0

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        begin, now = time.monotonic(), loop.time()
        all_of_them = [One(now + 0.15), One(now + 0.4), One(0.0), One(now + 60)]
        for one in all_of_them:
            Deadlines.of(loop).add(one, loop)
        await asyncio.sleep(0.8)
        return [one.fired - begin if one.fired else 0.0 for one in all_of_them]

    soon, later, never, far = go(work)
    assert 0.14 < soon < 0.35
    assert 0.39 < later < 0.6
    assert (never, far) == (0, 0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_megabyte_goes_both_ways_through_tls_past_a_peer_that_reads_late(tmp_path: Path, loop: str) -> None:
    octets = bytes(range(256)) * 8192
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(*make_certificate(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(await reader.readexactly(len(octets)))
        await writer.drain()
        writer.close()

    async def work() -> Owner:
        owner = Owner()
        async with await asyncio.start_server(echo, sock=listener, ssl=served) as server:
            one = PlainSocket(asyncio.get_running_loop(), owner, *server.sockets[0].getsockname(), socket.AF_INET, "", eager=True)
            owner.reached = lambda: one.secure(client_context(), "")  # type: ignore[method-assign]
            await owner.up.wait()
            one._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            for at in range(0, len(octets), 65536):
                one.write(octets[at : at + 65536])
            await asyncio.wait_for(owner.over.wait(), 10)
            owner.over.clear()
            while len(owner.got) < len(octets):
                await asyncio.wait_for(asyncio.sleep(0.01), 10)
            one.abort()
        return owner

    owner = go(work, loop)
    assert owner.got == octets
    assert (owner.told[0], owner.told[-1] in ("resume", "eof")) == ("encrypted", True)
    assert {"pause", "resume"} <= set(owner.told)


@pytest.mark.parametrize("way", ["start", "pull"])
def test_a_closed_session_leaves_nothing_to_the_collector(way: str) -> None:
    """With a connection for each mail what is left in cycles costs a collection every few hundred mails."""

    async def work() -> tuple[list[tuple[str, str, int]], list[object]]:
        async with serve(smtp()) as server:
            gc.collect()
            gc.disable()
            try:
                run = await deliver(server.port, [mail(), mail()], way=way)
                outcomes, run.seen.session = run.outcomes(), None
                del run
                return outcomes, [type(o) for o in gc.get_objects() if isinstance(o, SmtpSession | PlainSocket)]
            finally:
                gc.enable()

    assert go(work) == ([("OK", "DOT", 250)], [])

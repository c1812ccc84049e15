"""A server that misbehaves at any step: a clear outcome, no later than the deadline and a second, memory bounded."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.mail.smtp import Endpoint
from tests.servers.peers import CLOSE, DRIP, ENDLESS, HALF, RESET, SILENT, Act, Gone, Peer, serve, smtp
from tests.unit.mail.drive import QUICK, Run, deliver, go, mail

STEPS = ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "DOT"]
BAD: dict[str, Act] = {
    "close": CLOSE, "reset": RESET, "silent": SILENT, "endless": ENDLESS, "garbage": b"\x00\xff\x16 whatever\r\n", "long line": b"2" * 100_000,
    "half a reply": HALF, "changes its code": b"250-a\r\n550 b\r\n", "421": b"421 4.3.2 going down\r\n", "451": b"451 4.3.0 not now\r\n",
    "550": b"550 5.7.1 never\r\n", "354": b"354 what\r\n", "unknown class": b"900 what\r\n",
}  # fmt: skip


def run(step: str, act: Act, loop: str, *, way: str = "start") -> Run:
    async def work() -> Run:
        async with serve(smtp({step: act})) as server:
            return await deliver(server.port, [mail()], way=way)

    return go(work, loop)


@pytest.mark.parametrize(("loop", "way"), [("asyncio", "connect"), ("uvloop", "connect"), ("asyncio", "start"), ("uvloop", "start")])
@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_can_go_wrong(step: str, how: str, loop: str, way: str) -> None:
    act = BAD[how]
    if (step, how) == ("DATA", "354"):
        return  # that is what it should say
    seen = run(step, act, loop, way=way)
    assert seen.took_s < 0.3 + 1.0
    if step in ("BANNER", "EHLO"):
        assert seen.seen.results == []
        assert seen.seen.ready_times == 0
        assert seen.seen.bad is not None
        assert (seen.seen.bad.outcome.name, seen.seen.bad.stage.name) == ("FAIL", step)
        assert seen.seen.bad.code == (int(how) if how in ("421", "451", "550", "354") else 0)
        return
    [(outcome, stage, code)] = seen.outcomes()
    unknown = step == "DOT" and how not in ("421", "451", "550")
    assert (outcome, stage) == ("INFO" if unknown else "FAIL", step)
    assert code == (int(how) if how in ("421", "451", "550") or how == "354" else 0)


@pytest.mark.parametrize("step", STEPS)
def test_one_octet_at_a_time_is_slow_but_right(step: str) -> None:
    assert run(step, DRIP, "uvloop").outcomes() == [("OK", "DOT", 250)]


def test_polite_server_is_the_control() -> None:
    seen = run("MAIL", b"250 ok\r\n", "uvloop")
    assert seen.outcomes() == [("OK", "DOT", 250)]
    assert seen.seen.reason == "quit"


def test_endless_reply_stays_small() -> None:
    tracemalloc.start()
    try:
        run("DOT", ENDLESS, "asyncio")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("octets", "reason"), [(b"421 4.4.2 idle\r\n", "421"), (b"250 2.0.0 surprise\r\n", "nobody asked"), (b"", "closed")])
def test_idle_session_hears_of_it_at_once(octets: bytes, reason: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.act(b"220 x\r\n")
        await peer.line()
        await peer.act(b"250 x\r\n")
        await asyncio.sleep(0.1)
        await peer.act(octets) if octets else await peer.close()
        await peer.line()

    async def work() -> tuple[str, float]:
        from harness.mail.smtp import connect
        from tests.unit.mail.drive import Seen

        class Idle(Seen):
            def _more(self) -> None: ...

        seen, loop = Idle([]), asyncio.get_running_loop()
        async with serve(script) as server:
            await connect(loop, Endpoint("127.0.0.1", server.port), QUICK, seen)
            begun = loop.time()
            await seen.over.wait()
            return seen.reason, loop.time() - begun

    told, took = go(work)
    assert reason in told
    assert took < 0.25


def test_big_message_cut_in_the_middle_surely_failed() -> None:
    async def script(peer: Peer) -> None:
        for answer in (b"220 x\r\n", b"250 PIPELINING\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.act(answer)
            await peer.line() if not answer.startswith(b"354") else await peer.reader.readexactly(500_000)
        await peer.reset()

    async def work() -> Run:
        async with serve(script) as server:
            return await deliver(server.port, [mail(body=b"x" * 70 + b"\r\n" + b"y" * 30_000_000)])

    assert go(work).outcomes()[0][:2] == ("FAIL", "BODY")


def test_big_message_that_nobody_reads_runs_into_the_deadline() -> None:
    async def work() -> Run:
        async def script(peer: Peer) -> None:
            for answer in (b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await peer.act(answer)
                await peer.line()
            await asyncio.sleep(3)
            raise Gone

        async with serve(script) as server:
            return await deliver(server.port, [mail(body=b"y" * 40_000_000)])

    seen = go(work)
    assert seen.outcomes()[0][:2] == ("FAIL", "BODY")
    assert seen.took_s < 1.3 + 0.5


def test_early_refusal_of_a_big_message_is_heard() -> None:
    async def script(peer: Peer) -> None:
        for answer in (b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.act(answer)
            await peer.line() if not answer.startswith(b"354") else None
        await peer.act(b"552 5.3.4 too big\r\n")
        await asyncio.sleep(0.2)

    async def work() -> Run:
        async with serve(script) as server:
            return await deliver(server.port, [mail(body=b"y" * 40_000_000)])

    assert go(work).outcomes() == [("FAIL", "BODY", 552)]


class TestBehindTheDot:
    """The next envelope goes out behind the dot of the one before, whether it waited or was asked for."""

    @pytest.fixture(params=["connect", "start", "pull"], autouse=True)
    def way(self, request: pytest.FixtureRequest) -> None:
        self.opened = request.param

    def run(self, **bad: Act | list[Act]) -> tuple[Run, Peer]:
        async def work() -> tuple[Run, Peer]:
            async with serve(smtp(bad)) as server:
                envelopes = [mail(token=1), mail(token=2)]
                return await deliver(server.port, envelopes, ahead=self.opened != "pull", way=self.opened), server.peers[0]

        return go(work)

    def test_both_arrive(self) -> None:
        seen, peer = self.run()
        assert [seen.outcomes(0), seen.outcomes(1)] == [[("OK", "DOT", 250)]] * 2
        assert seen.seen.started == [1, 2]
        assert len(peer.messages) == 2

    @pytest.mark.parametrize(("act", "first"), [(CLOSE, ("INFO", "DOT", 0)), (SILENT, ("INFO", "DOT", 0)), (b"421 4.3.2 x\r\n", ("FAIL", "DOT", 421))])
    def test_cut_after_the_first_dot_ends_both(self, act: Act, first: tuple[str, str, int]) -> None:
        seen, _ = self.run(DOT=act)
        assert seen.outcomes(0) == [first]
        assert seen.outcomes(1) == [("FAIL", "MAIL", 421 if first[2] else 0)]

    def test_refused_data_lets_the_next_begin(self) -> None:
        seen, peer = self.run(DATA=[b"451 4.3.0 x\r\n", b"354 go\r\n"])
        assert [seen.outcomes(0), seen.outcomes(1)] == [[("FAIL", "DATA", 451)], [("OK", "DOT", 250)]]
        assert b"RSET\r\n" in peer.heard

    @pytest.mark.parametrize(
        ("answers", "first", "second"),
        [
            (b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", ("OK", "DOT", 250), ("OK", "DOT", 250)),
            (b"451 4.3.0 x\r\n250 ok\r\n250 ok\r\n354 go\r\n", ("FAIL", "DOT", 451), ("OK", "DOT", 250)),
            (b"421 4.3.2 x\r\n250 ok\r\n250 ok\r\n354 go\r\n", ("FAIL", "DOT", 421), ("FAIL", "MAIL", 421)),
            (b"250 ok\r\n421 4.3.2 x\r\n250 ok\r\n354 go\r\n", ("OK", "DOT", 250), ("FAIL", "MAIL", 421)),
            (b"250 ok\r\n550 5.7.1 x\r\n503 no\r\n503 no\r\n", ("OK", "DOT", 250), ("FAIL", "MAIL", 550)),
            (b"250 ok\r\n250 ok\r\n450 4.2.0 x\r\n554 no\r\n", ("OK", "DOT", 250), ("FAIL", "RCPT", 450)),
            (b"250 ok\r\n250 ok\r\n250 ok\r\n451 4.3.0 x\r\n", ("OK", "DOT", 250), ("FAIL", "DATA", 451)),
            (b"250 ok\r\n250 ok\r\n250 ok\r\n421 4.3.2 x\r\n", ("OK", "DOT", 250), ("FAIL", "DATA", 421)),
            (b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n451 4.3.0 early\r\n", ("OK", "DOT", 250), ("FAIL", "DOT", 451)),
        ],
    )  # fmt: skip
    def test_replies_to_a_dot_and_the_envelope_behind_it_in_one_piece(self, answers: bytes, first: Any, second: Any) -> None:
        async def script(peer: Peer) -> None:
            for answer in (b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await peer.act(answer)
                await peer.line() if not answer.startswith(b"354") else await peer.message()
            for _ in range(3):
                await peer.line()
            await peer.act(answers)
            if b"354" in answers and not answers.startswith(b"421") and b"early" not in answers:
                await peer.message()
                await peer.act(b"250 ok\r\n")
            await peer.silence()

        async def work() -> Run:
            async with serve(script) as server:
                return await deliver(server.port, [mail(token=1), mail(token=2)], ahead=self.opened != "pull", way=self.opened)

        seen = go(work)
        assert [seen.outcomes(0), seen.outcomes(1)] == [[first], [second]]

    def test_waiting_envelope_is_refused_when_cut_before(self) -> None:
        seen, _ = self.run(MAIL=CLOSE)
        assert seen.outcomes(0) == [("FAIL", "MAIL", 0)]
        assert [e.token for e in seen.seen.refused or seen.seen.envelopes] == [2]
        assert bool(seen.seen.refused) is (self.opened != "pull"), "what was never asked for stays with its owner"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from([b"220 x\r\n", b"250 ok\r\n", b"250-a\r\n", b"354 go\r\n", b"421 x\r\n", b"250 PIPELINING\r\n", b"550 no\r\n"]) | st.binary(max_size=60),
        max_size=14,
    ),
    st.booleans(),
    st.sampled_from(["connect", "start", "pull"]),
)
def test_random_dialogues_end_in_time(script: list[bytes], ahead: bool, way: str) -> None:
    async def answers(peer: Peer) -> None:
        for octets in script:
            await peer.act(octets)
            await asyncio.sleep(0)
        await peer.close()

    async def work() -> Run:
        async with serve(answers) as server:
            return await deliver(server.port, [mail(token=1), mail(token=2), mail(token=3)], ahead=ahead, way=way)

    seen = go(work)
    assert seen.took_s < 1.3
    told = [e.token for e, _, _ in seen.seen.results] + [e.token for e in seen.seen.refused] + [e.token for e in seen.seen.envelopes]
    assert sorted(told) == [1, 2, 3]

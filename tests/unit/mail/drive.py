"""Drives SMTP sessions for tests: sends envelopes one after the other, keeps every callback."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from harness.mail.replies import RecipientResult
from harness.mail.smtp import Endpoint, Envelope, SessionOptions, SmtpSession, Timings, connect, start

T = TypeVar("T")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
QUICK = SessionOptions(hello="client.example", connect_s=1.0, step_s=0.3, dot_s=0.3)


def go(work: Callable[[], Awaitable[T]], loop: str = "uvloop", longest_s: float = 20.0) -> T:
    """Run a coroutine on a new loop."""

    async def bounded() -> T:
        return await asyncio.wait_for(work(), longest_s)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(bounded())


@dataclass
class Seen:
    """A handler that keeps what it is told."""

    envelopes: list[Envelope]
    ahead: bool = False  #: send the next envelope while the first is on its way
    quit_early: bool = False
    results: list[tuple[Envelope, list[RecipientResult], Timings]] = field(default_factory=list)
    started: list[Any] = field(default_factory=list)
    reason: str = ""
    refused: list[Envelope] = field(default_factory=list)
    bad: RecipientResult | None = None
    closed_times: int = 0
    ready_times: int = 0
    session: SmtpSession | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def on_ready(self, session: SmtpSession) -> None:
        self.ready_times += 1
        self.session = session
        self._more()

    def on_started(self, envelope: Envelope) -> None:
        self.started.append(envelope.token)

    def on_result(self, envelope: Envelope, results: Sequence[RecipientResult], timings: Timings) -> None:
        self.results.append((envelope, list(results), timings))
        if self.session is not None and not self.session.ended:
            self._more()

    def following(self) -> Envelope | None:
        return self.envelopes.pop(0) if self.envelopes else None

    def on_closed(self, reason: str, refused: Sequence[Envelope], bad: RecipientResult | None) -> None:
        self.closed_times += 1
        self.reason, self.refused, self.bad = reason, list(refused), bad
        self.over.set()

    def _more(self) -> None:
        session = self.session
        assert session is not None
        while self.envelopes and session.can_follow and (self.ahead or not session.busy):
            session.send(self.envelopes.pop(0))
        if not self.envelopes and (self.quit_early or not session.busy):
            session.quit()


@dataclass
class Run:
    seen: Seen
    took_s: float

    def outcomes(self, which: int = 0) -> list[tuple[str, str, int]]:
        return [(r.outcome.name, r.stage.name, r.code) for r in self.seen.results[which][1]]


async def deliver(
    port: int, envelopes: Sequence[Envelope], options: SessionOptions = QUICK, *, ahead: bool = False, quit_early: bool = False,
    endpoint: Endpoint | None = None, way: str = "start",
) -> Run:
    """One session with these envelopes, to its end. ``way``: opened by ``connect`` or by ``start``, or ``pull``: ``start``, and the session
    asks for what follows.
    """
    seen, begun = Seen(list(envelopes), ahead, quit_early), time.monotonic()
    if way == "pull":
        options = dataclasses.replace(options, ahead=True)
    loop, target = asyncio.get_running_loop(), endpoint or Endpoint("127.0.0.1", port)
    await connect(loop, target, options, seen) if way == "connect" else start(loop, target, options, seen)
    await seen.over.wait()
    took = time.monotonic() - begun
    await asyncio.sleep(0)
    assert seen.closed_times == 1
    assert seen.ready_times <= 1
    return Run(seen, took)


def mail(*recipients: str, body: bytes = b"Subject: t\r\n\r\nhello\r\n", token: Any = None) -> Envelope:
    return Envelope(b"a@example.net", [r.encode() for r in recipients or ("b@example.org",)], body, token)

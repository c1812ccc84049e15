"""Messages per client CPU-second: the SMTP client against ``smtp-source``, both sending to ``smtp-sink`` on loopback.

Run: ``python -m tests.bench.smtp_client [--messages 20000] [--connections 50]``. Needs Postfix's smtp-sink and smtp-source. Only ratios
of one run mean anything. No ledger and no histograms here: those are the engine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator

import uvloop

from harness.mail.smtp import Endpoint, Envelope, SessionOptions, SmtpSession, start
from harness.model.outcome import Outcome
from tests.servers.mailservers import free_port

BODY = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: t\r\n\r\n" + (b"y" * 76 + b"\r\n") * 24


class Sender:
    """Keeps one session busy, or opens one for each mail."""

    def __init__(self, load: Load) -> None:
        self.load, self.session = load, None  # type: Load, SmtpSession | None

    def on_ready(self, session: SmtpSession) -> None:
        self.session = session
        self.next()

    def next(self) -> None:
        session, load = self.session, self.load
        assert session is not None
        if session.busy:
            return  # the mail behind the dot
        envelope = self.following()
        if envelope is not None:
            session.send(envelope)
        if envelope is None or load.one_each:
            session.quit()

    def following(self) -> Envelope | None:
        if not self.load.left:
            return None
        self.load.left -= 1
        return Envelope(b"a@example.org", [b"b@example.net"], BODY)

    def on_started(self, envelope: Envelope) -> None: ...

    def on_result(self, envelope, results, timings) -> None:
        self.load.accepted += results[0].outcome is Outcome.OK
        if not self.load.one_each:
            self.next()

    def on_closed(self, reason, refused, bad) -> None:
        self.load.closed()


class Load:
    def __init__(self, port: int, messages: int, connections: int, *, ahead: bool = False, one_each: bool = False) -> None:
        self.port, self.left, self.connections, self.ahead, self.one_each = port, messages, connections, ahead, one_each
        self.accepted, self.open = 0, connections
        self.options = SessionOptions(step_s=60, dot_s=60, ahead=ahead)

    async def run(self) -> int:
        self.over = asyncio.Event()
        for _ in range(self.connections):
            self.dial()
        await self.over.wait()
        return self.accepted

    def dial(self) -> None:
        start(asyncio.get_running_loop(), Endpoint("127.0.0.1", self.port), self.options, Sender(self))

    def closed(self) -> None:
        if self.one_each and self.left:
            self.dial()
            return
        self.open -= 1
        if not self.open:
            self.over.set()


@contextlib.contextmanager
def sink() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(["/usr/sbin/smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "1000"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def ours(messages: int, connections: int, **how: bool) -> float:
    with sink() as port:
        before = time.process_time()
        accepted = uvloop.run(Load(port, messages, connections, **how).run())
        assert accepted == messages
        return messages / (time.process_time() - before)


def theirs(messages: int, connections: int, *words: str) -> float:
    with sink() as port:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["/usr/sbin/smtp-source", *words, "-s", str(connections), "-l", "2000", "-m", str(messages), f"127.0.0.1:{port}"]
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, before
        return messages / (used.ru_utime + used.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=50)
    given = parser.parse_args()
    n, c, few = given.messages, given.connections, given.messages // 4
    persistent = theirs(n, c, "-d")
    single = theirs(few, c)
    rows = [
        ("smtp-source -d", persistent, persistent), ("client, pipelined", ours(n, c), persistent),
        ("client, next envelope behind the dot", ours(n, c, ahead=True), persistent),
        ("smtp-source, a connection for each mail", single, single), ("client, a connection for each mail", ours(few, c, one_each=True), single),
    ]  # fmt: skip
    print(f"{'':44}{'msg/cpu-s':>10} ratio")
    for name, figure, base in rows:
        print(f"{name:44}{figure:10.0f} {figure / base:5.2f}")


if __name__ == "__main__":
    main()

"""Python peers of the SMTP client, each a process of its own: ``python -m tests.bench.peers_python aiosmtplib PORT MESSAGES CONNECTIONS``.

``aiosmtplib``: on uvloop, ``smtplib``: a locustfile's users in greenlets with Locust's statistics (run by
``locust -f`` on this file with BENCH_PORT, BENCH_MESSAGES).
"""

from __future__ import annotations

import asyncio
import os
import sys

BODY = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: t\r\n\r\n" + (b"y" * 76 + b"\r\n") * 24


async def aiosmtplib_load(port: int, messages: int, connections: int) -> None:
    import aiosmtplib

    left = messages

    async def one() -> None:
        nonlocal left
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="localhost")
        await client.connect()
        while left:
            left -= 1
            await client.sendmail("a@example.org", ["b@example.net"], BODY)
        await client.quit()

    await asyncio.gather(*(one() for _ in range(connections)))


if __name__ == "__main__":
    import uvloop

    uvloop.run(aiosmtplib_load(*map(int, sys.argv[2:5])))
elif "BENCH_PORT" in os.environ:
    import smtplib
    import time

    import gevent
    from locust import User, task
    from locust.exception import StopUser

    left = unfinished = int(os.environ["BENCH_MESSAGES"])

    class Smtplib(User):
        """One user, one connection, the library's own dialogue, one Locust event a mail."""

        host = "127.0.0.1"

        def on_start(self) -> None:
            self.client = smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_PORT"]), local_hostname="localhost")

        @task
        def mail(self) -> None:
            global left, unfinished
            if left <= 0:
                raise StopUser
            left -= 1
            begin = time.perf_counter()
            self.client.sendmail("a@example.org", ["b@example.net"], BODY)
            self.environment.events.request.fire(
                request_type="smtp", name="mail", response_time=(time.perf_counter() - begin) * 1000, response_length=len(BODY), exception=None
            )
            unfinished -= 1
            if not unfinished:
                gevent.spawn(self.environment.runner.quit)  # a user that quits the runner itself waits for its own end

"""Locust alone: users with smtplib at a constant throughput, as its documentation has it. For tests.bench.test_open_loop."""

from __future__ import annotations

import os
import smtplib
import time

from locust import User, constant_throughput, task

BODY = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: t\r\nX-Mailgale-Trace: x\r\n\r\n" + (b"y" * 76 + b"\r\n") * 20


class Paced(User):
    """Ten mails a second, if the server lets it."""

    host = "127.0.0.1"
    wait_time = constant_throughput(10)

    @task
    def mail(self) -> None:
        begin = time.perf_counter()
        with smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_PORT"]), local_hostname="localhost") as client:
            client.sendmail("a@example.org", ["user1@example.net"], BODY)
        self.environment.events.request.fire(
            request_type="smtp", name="mail", response_time=(time.perf_counter() - begin) * 1000, response_length=len(BODY), exception=None
        )

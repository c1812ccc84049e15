"""The made-up internet's MX host as its own process, spoken to over a real socket."""

from __future__ import annotations

import base64
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SINK = Path(__file__).resolve().parents[3] / "deploy" / "components" / "internet" / "sink.py"
TEXT = b"Subject: a\r\n\r\n.dots\r\n..more\r\nend\r\n"


@dataclass
class Sink:
    port: int
    folder: Path
    process: subprocess.Popen[str]

    def records(self) -> list[dict[str, object]]:
        (path,) = self.folder.glob("*.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines() if line]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    yield from started(tmp_path)


def started(folder: Path) -> Iterator[Sink]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "RECORDS": str(folder), "SECRETS": str(folder / "none"), "PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-u", str(SINK)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while '"listening"' not in process.stdout.readline():
        assert process.poll() is None
    try:
        yield Sink(port, folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 0


def client(sink: Sink) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", sink.port, local_hostname="me.example.org", timeout=20)


def test_a_mail_is_recorded_as_it_was_sent_with_its_source(sink: Sink) -> None:
    with client(sink) as smtp:
        smtp.sendmail("a@example.org", ["b@example.net", "c@example.net"], TEXT)
    (found,) = sink.records()
    assert (found["kind"], found["client"], found["from"]) == ("mail", "127.0.0.1", "a@example.org")
    assert found["rcpts"] == ["b@example.net", "c@example.net"]
    assert base64.b64decode(str(found["message"])) == TEXT


def test_the_record_is_there_when_the_reply_is(sink: Sink) -> None:
    """Killed right after its 250, the sink has the mail on record."""
    with client(sink) as smtp:
        smtp.sendmail("a@example.org", ["b@example.net"], TEXT)
        sink.process.kill()
        assert len(sink.records()) == 1
        sink.process.wait(5)
        sink.process.returncode = 0
        smtp.close()


@pytest.mark.parametrize(
    ("rcpt", "code"), [("defer@example.net", 451), ("reject+x@example.net", 550), ("any@defer.example.net", 451), ("b@example.net", 250)]
)
def test_recipients_choose_the_reply_to_rcpt(sink: Sink, rcpt: str, code: int) -> None:
    with client(sink) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        assert smtp.rcpt(rcpt)[0] == code


@pytest.mark.parametrize(("rcpt", "code"), [("defer-dot@example.net", 451), ("reject-dot@example.net", 554)])
def test_recipients_choose_the_reply_to_the_final_dot(sink: Sink, rcpt: str, code: int) -> None:
    with client(sink) as smtp, pytest.raises(smtplib.SMTPDataError) as refused:
        smtp.sendmail("a@example.org", [rcpt], TEXT)
    assert refused.value.smtp_code == code
    assert [r["kind"] for r in sink.records()] == ["refused"]


def test_a_slow_recipient_delays_the_reply(sink: Sink) -> None:
    begin = time.monotonic()
    with client(sink) as smtp:
        smtp.sendmail("a@example.org", ["slow-1@example.net"], TEXT)
    assert 1.0 <= time.monotonic() - begin < 10


def test_a_cut_off_mail_is_not_recorded(sink: Sink) -> None:
    with client(sink) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        smtp.rcpt("b@example.net")
        smtp.putcmd("data")
        smtp.getreply()
        smtp.send(b"Subject: half\r\n\r\nno end\r\n")
        smtp.close()
    with client(sink) as smtp:
        smtp.sendmail("a@example.org", ["b@example.net"], TEXT)
    assert len(sink.records()) == 1


def test_a_line_that_a_killed_predecessor_left_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / f"{socket.gethostname()}.jsonl").write_text('{"kind": "mail", "mess')
    for sink in started(tmp_path):
        with client(sink) as smtp:
            smtp.sendmail("a@example.org", ["b@example.net"], TEXT)
        lines = next(sink.folder.glob("*.jsonl")).read_text().splitlines()
        assert json.loads(lines[-1])["kind"] == "mail"

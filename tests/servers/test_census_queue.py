"""The queue reader against the files of a real Postfix: deferred, held, partly delivered, and rewritten by a milter."""

from __future__ import annotations

import smtplib
import socketserver
import subprocess
import threading

import pytest

from harness.census.canonical import examine
from harness.census.queue_file import parse
from harness.census.queue_reader import DirectoryPlace, read_place, spools
from harness.support.clock import wait_for
from tests.servers.mailservers import postfix
from tests.servers.milter import milter
from tests.unit.census.mails import B64, PREFIX, mail, text

FULL_LINE = b"long " * 900


class _Lmtp(socketserver.StreamRequestHandler):
    """Takes mail for user1 and defers everything else: the misbehaving peer that leaves a half-delivered mail in the queue."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        while line := self.rfile.readline().upper():
            if line.startswith(b"LHLO"):
                self.wfile.write(b"250 sink\r\n")
            elif line.startswith(b"RCPT"):
                self.wfile.write(b"250 ok\r\n" if b"USER1@" in line else b"451 4.3.0 later\r\n")
            elif line.startswith(b"DATA"):
                self.wfile.write(b"354 go\r\n")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
                self.wfile.write(b"250 stored\r\n")
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture(scope="module")
def server():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Lmtp) as sink, milter() as milter_port:
        sink.daemon_threads = True
        threading.Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with postfix(sink.server_address[1], milter_port) as running:
            _fill(running.port)
            wait_for(lambda: len(running.queue("deferred")) == 2 and not running.queue("active") and running.queue("hold"),
                     deadline_s=20, what="the queue to come to rest", every_s=0.1)
            yield running
        sink.shutdown()


def _fill(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        subject = b"Subject: x\r\n"
        client.sendmail("a@example.net", ["user1@example.org", "user2@example.org", "user3@example.org"], subject + mail(1))
        client.sendmail("a@example.net", ["user4@example.org"], subject + mail(2, text("utf-8", "base64"), B64))
        client.sendmail("a@example.net", ["hold@example.org"], subject + mail(3, body=b"short\r\n" + FULL_LINE + b"\r\nend\r\n"))


def test_each_undelivered_recipient_is_one_copy(server):
    scopes = {s.where: s for s in read_place(DirectoryPlace(server.spool, "mx-0"), PREFIX)}
    deferred = scopes["mx-0:deferred"]
    assert deferred.complete
    assert sorted((c.seen.mail, c.recipient, c.queue) for c in deferred) == [
        (1, "user2@example.org", "deferred"), (1, "user3@example.org", "deferred"), (2, "user4@example.org", "deferred"),
    ]
    assert [(c.seen.mail, c.recipient) for c in scopes["mx-0:hold"]] == [(3, "hold@example.org")]
    assert not list(scopes["mx-0:active"])


def test_hashes_survive_the_queue_and_the_milter(server):
    copies = [c for s in read_place(DirectoryPlace(server.spool, "mx-0"), PREFIX) for c in s]
    expected = {1: mail(1), 2: mail(2, text("utf-8", "base64"), B64), 3: mail(3, body=b"short\r\n" + FULL_LINE + b"\r\nend\r\n")}
    assert {c.seen.mail: c.seen.sha for c in copies} == {n: examine(raw, PREFIX).sha for n, raw in expected.items()}


def test_the_content_is_what_postcat_shows(server):
    for path in server.queue("deferred") + server.queue("hold"):
        shown = subprocess.run(["postcat", "-c", str(server.root / "etc"), "-bh", str(path)], capture_output=True, check=True).stdout
        assert b"X-Inserted: at the top" in shown
        assert b"changed by the filter" in shown
        assert parse(path.read_bytes()).content == shown


def test_delivered_recipients_are_done(server):
    parsed = [parse(p.read_bytes()) for p in server.queue("deferred")]
    assert sorted(len(m.done) for m in parsed) == [0, 1]


def test_the_spool_is_found_below_the_volume(server):
    assert list(spools(server.root)) == [server.spool]


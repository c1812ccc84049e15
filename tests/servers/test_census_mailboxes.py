"""IMAP and POP3 readers against a real Dovecot, and against servers that misbehave."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import threading
import time

import pytest

from harness.census import take as census_take
from harness.census.canonical import examine
from harness.census.spec import CensusSpec, Server
from harness.census.take import take
from harness.store.log import Damage, read_events
from harness.support.checkout import Checkout
from tests.servers.mailservers import DOMAIN, PASSWORD, dovecot, free_port
from tests.unit.census.mails import ARM, PREFIX, RUN, dsn, mail

USERS = 12


@pytest.fixture(scope="module")
def server():
    with dovecot(USERS) as running:
        for n in range(1, USERS + 1):
            running.deliver(f"user{n}@{DOMAIN}", mail(n))
        for n in range(100, 170):
            running.deliver(f"user2@{DOMAIN}", mail(n, body=b"(unmatched ( parentheses\r\n" * n))
        running.deliver(f"user3@{DOMAIN}", mail(3))  # the planted duplicate
        running.deliver(f"user4@{DOMAIN}", mail(4).replace(b"Hello", b"Hell"))  # the planted damage
        running.deliver(f"user5@{DOMAIN}", mail(50), "Junk")
        running.deliver(f"user6@{DOMAIN}", b"Subject: somebody else's\r\n\r\nx\r\n")
        running.deliver(f"user7@{DOMAIN}", dsn(70))
        yield running


def census(tmp_path, server, **more):
    given = {"imap": Server("127.0.0.1", server.imap), "pop3": Server("127.0.0.1", server.pop3), "pop3_users": USERS, "users": USERS, **more}
    spec = CensusSpec(RUN, ARM, str(tmp_path), "ns", password=PASSWORD, **given)
    take(spec)
    events = list(read_events(tmp_path / "census.log"))
    assert not any(isinstance(e, Damage) for e in events)
    assert events[-1]["kind"] == "log_closed"
    return [e for e in events if e["kind"] == "copy"], [e for e in events if e["kind"] == "scope"]


@pytest.fixture(scope="module")
def taken(server, tmp_path_factory):
    return census(tmp_path_factory.mktemp("census"), server)


def of(copies, user, number=1):
    return [c for c in copies if c["recipient"] == f"user{user}@{DOMAIN}" and c["round"] == number]


def test_everything_is_read_in_both_rounds(taken):
    copies, scopes = taken
    assert [s for s in scopes if not s["complete"]] == []
    for number in (1, 2):
        inboxes = [s for s in scopes if s["round"] == number and s["where"].endswith("/INBOX")]
        assert len(inboxes) == USERS
        assert len([s for s in scopes if s["round"] == number and s["where"].endswith("by POP3")]) == USERS
        assert {c["mail"] for c in of(copies, 2, number)} == {2, *range(100, 170)}
    assert {s["source"] for s in scopes} == {"mailbox", "quarantine"}


def test_hashes_are_those_of_what_was_sent(taken):
    for copy in of(taken[0], 2):
        expected = mail(2) if copy["mail"] == 2 else mail(copy["mail"], body=b"(unmatched ( parentheses\r\n" * copy["mail"])
        assert copy["sha"] == examine(expected, PREFIX).sha


def test_a_duplicate_is_two_copies(taken):
    assert len({c["uid"] for c in of(taken[0], 3)}) == 2


def test_a_truncated_body_has_another_hash(taken):
    assert len({c["sha"] for c in of(taken[0], 4)}) == 2


def test_quarantine_foreign_mail_and_bounces_are_told_apart(taken):
    copies = taken[0]
    assert sorted((c["source"], c["mail"]) for c in of(copies, 5)) == [("mailbox", 5), ("quarantine", 50)]
    assert [c["mail"] for c in of(copies, 6)] == [6, None]
    assert [c["bounce_of"] for c in of(copies, 7)] == [None, 70]


def test_a_user_that_cannot_log_in_is_an_incomplete_scope(server, tmp_path):
    copies, scopes = census(tmp_path, server, users=USERS + 1, pop3_users=USERS + 1)
    bad = {s["where"]: s["why"] for s in scopes if not s["complete"]}
    assert set(bad) == {f"user13@{DOMAIN}/*", f"user13@{DOMAIN}/INBOX by POP3"}
    assert "LOGIN" in bad[f"user13@{DOMAIN}/*"]
    assert of(copies, 9)


def test_no_server_at_all_ends_in_time_with_every_scope_incomplete(server, tmp_path):
    _, scopes = census(tmp_path, server, imap=Server("127.0.0.1", free_port()), pop3=None, deadline_s=3.0)
    assert len(scopes) == 2 * USERS
    assert not any(s["complete"] for s in scopes)


class _Cut(socketserver.StreamRequestHandler):
    """Greets, takes the login, and is gone in the middle of a literal."""

    def handle(self):
        self.wfile.write(b"* OK ready\r\n")
        while line := self.rfile.readline():
            tag, command = line.split()[0], line.upper()
            if b" LIST " in command:
                self.wfile.write(b'* LIST (\\HasNoChildren) "." INBOX\r\n' + tag + b" OK done\r\n")
            elif b" SELECT " in command:
                self.wfile.write(b"* 1 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n" + tag + b" OK done\r\n")
            elif b" SEARCH " in command:
                self.wfile.write(b"* SEARCH 1\r\n" + tag + b" OK done\r\n")
            elif b"CAPABILITY" in command:
                self.wfile.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
            elif b" FETCH " in command:
                self.wfile.write(b"* 1 FETCH (UID 1 BODY[] {5000}\r\nFrom: x\r\n")
                return
            else:
                self.wfile.write(tag + b" OK done\r\n")


class _Hang(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(100):
            pass


@pytest.mark.parametrize(("peer", "why"), [(_Cut, "closed the connection"), (_Hang, "no end within")])
def test_a_server_that_cuts_or_hangs(peer, why, tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), peer) as bad:
        bad.daemon_threads = True
        threading.Thread(target=bad.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        spec = CensusSpec(RUN, ARM, str(tmp_path), "ns", Server("127.0.0.1", bad.server_address[1]), 2, PASSWORD, deadline_s=2.0)
        take(spec)
        bad.shutdown()
    scopes = [e for e in read_events(tmp_path / "census.log") if e["kind"] == "scope"]
    assert len(scopes) == 4
    assert all(not s["complete"] and why in s["why"] for s in scopes)


@pytest.fixture
def locked():
    """A Dovecot with a lock in the mailbox of user1 whose owner seems to live, as a killed one leaves it to its successor."""
    with dovecot(2) as running:
        for n in (1, 2):
            running.deliver(f"user{n}@{DOMAIN}", mail(n))
        home = running.root / "mail" / f"user1@{DOMAIN}"
        (home / "dovecot-uidlist.lock").write_text(f"{os.getpid()}:{socket.gethostname()}")
        yield running, home


def test_a_mailbox_that_nobody_can_read_is_said_to_be_unread_in_time(locked, tmp_path, monkeypatch):
    monkeypatch.setattr(census_take, "POP_LEAST_S", 1.0)
    begin = time.monotonic()
    copies, scopes = census(tmp_path, locked[0], users=2, pop3_users=2, deadline_s=4.0)
    assert time.monotonic() - begin < CensusSpec(RUN, ARM, "", "ns", None, deadline_s=4.0).longest_s - 40
    unread = {(s["round"], s["where"]) for s in scopes if not s["complete"]}
    assert unread == {(n, f"user1@{DOMAIN}/{what}") for n in (1, 2) for what in ("*", "INBOX by POP3")}
    assert {c["mail"] for c in copies} == {2}


def test_the_lock_that_a_killed_dovecot_left_is_removed_before_the_next_one_begins(locked, tmp_path):
    unlock, home = Checkout.find().root / "deploy" / "components" / "dovecot" / "unlock", locked[1]
    others = home / "dovecot.index.log.lock"
    others.write_text("17:mailbox-elsewhere")
    subprocess.run(["bash", unlock, locked[0].root / "mail", socket.gethostname()], check=True, timeout=20)
    assert not (home / "dovecot-uidlist.lock").exists()
    assert others.exists()
    others.unlink()
    copies, scopes = census(tmp_path, locked[0], users=2, pop3_users=2, deadline_s=20.0)
    assert [s for s in scopes if not s["complete"]] == []
    assert {c["mail"] for c in copies} == {1, 2}


class _Short(_Cut):
    """Says that two messages exist and lists one."""

    def handle(self):
        self.wfile.write(b"* OK ready\r\n")
        raw = mail(1)
        while line := self.rfile.readline():
            tag, command = line.split()[0], line.upper()
            if b" LIST " in command:
                self.wfile.write(b'* LIST () "." INBOX\r\n')
            elif b" SELECT " in command:
                self.wfile.write(b"* 2 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n")
            elif b" SEARCH " in command:
                self.wfile.write(b"* SEARCH 1\r\n")
            elif b"CAPABILITY" in command:
                self.wfile.write(b"* CAPABILITY IMAP4rev1\r\n")
            elif b" FETCH " in command:
                self.wfile.write(b"* 1 FETCH (BODY[]<0> {%d}\r\n%b UID 1)\r\n" % (len(raw), raw))
            self.wfile.write(tag + b" OK done\r\n")


def test_a_server_that_hides_a_message_and_puts_the_uid_behind(tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Short) as bad:
        bad.daemon_threads = True
        threading.Thread(target=bad.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        take(CensusSpec(RUN, ARM, str(tmp_path), "ns", Server("127.0.0.1", bad.server_address[1]), 1, PASSWORD, deadline_s=5.0))
        bad.shutdown()
    events = list(read_events(tmp_path / "census.log"))
    assert [e["mail"] for e in events if e["kind"] == "copy"] == [1, 1]
    assert ["2 messages exist, 1 were listed" in e["why"] for e in events if e["kind"] == "scope"] == [True, True]


def test_the_spec_survives_its_file(tmp_path):
    spec = CensusSpec(RUN, ARM, str(tmp_path), "ns", Server("::1", 993, True), 2, "p", pop3=Server("::1", 995, True))
    spec.save(tmp_path / "spec.json")
    assert CensusSpec.load(tmp_path / "spec.json") == spec
    assert json.loads((tmp_path / "spec.json").read_text())["password"] == "p"
    assert (tmp_path / "spec.json").stat().st_mode & 0o077 == 0

"""Start scripts and probes: they parse, and each probe is shown servers that are and are not well."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMPONENTS = Path(__file__).resolve().parents[3] / "deploy" / "components"
SCRIPTS = sorted(p for p in COMPONENTS.rglob("*") if p.is_file() and p.read_bytes().startswith(b"#!/bin/bash"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)


@contextmanager
def server(replies: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Says each reply after a line was read (the first at once); collects the lines."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for n, reply in enumerate(replies):
                if n:
                    heard.append(lines.readline())
                connection.sendall(reply)
            heard.extend(lines)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1], heard
        thread.join(10)


def probe(script: str, *words: str) -> int:
    done = subprocess.run(["bash", str(COMPONENTS / script), *words], env={"PATH": "/usr/bin:/bin", "MAIL_DOMAIN": "example.org"}, timeout=30, check=False, capture_output=True)
    return done.returncode


GOOD = [b"220 mx\r\n", b"250-mx\r\n250 SIZE\r\n", b"250 ok\r\n", b"250 ok\r\n"]


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        (GOOD, 0),
        ([*GOOD[:3], b"450 4.7.1 too much\r\n"], 0),  # a rate limit is no illness
        ([b"421 busy\r\n"], 1),
        ([*GOOD[:3], b"550 5.1.1 no such user\r\n"], 1),
        ([*GOOD[:2], b"502 what\r\n"], 1),
    ],
)
def test_the_probe_of_postfix(replies: list[bytes], code: int) -> None:
    with server(replies) as (port, heard):
        assert probe("postfix/probe", str(port)) == code
    assert not any(b"PROXY" in h for h in heard)


def test_the_probe_of_postfix_with_a_proxy_header() -> None:
    with server([b"", *GOOD]) as (port, heard):
        assert probe("postfix/probe", str(port), "proxy") == 0
    assert heard[0].startswith(b"PROXY TCP4 127.0.0.1")
    assert b"RCPT TO:<user1@example.org>\r\n" in heard


def test_a_probe_of_nothing_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for script in (("postfix/probe", str(port)), ("dovecot/probe", "lmtp", str(port)), ("dovecot/probe", "imap", str(port))):
        assert probe(*script) == 1


@pytest.mark.parametrize(("reply", "code"), [(b"250 2.1.5 ok\r\n", 0), (b"451 4.3.0 later\r\n", 1), (b"550 5.1.1 who\r\n", 1)])
def test_the_probe_of_a_backend_wants_its_user(reply: bytes, code: int) -> None:
    with server([b"220 hi\r\n", b"250-a\r\n250 b\r\n", b"250 ok\r\n", reply]) as (port, _):
        assert probe("dovecot/probe", "lmtp", str(port), "user") == code


@pytest.mark.parametrize(("banner", "code"), [(b"* OK ready\r\n", 0), (b"* BYE no\r\n", 1)])
def test_the_probe_of_a_proxy(banner: bytes, code: int) -> None:
    with server([b"", banner]) as (port, heard):
        assert probe("dovecot/probe", "imap", str(port)) == code
    assert heard[0].startswith(b"PROXY TCP4")


@pytest.mark.parametrize(("seconds", "scale", "least", "result"), [(300, "30", 1, "10"), (300, "1", 1, "300"), (300, "1000", 1, "1"), (432000, "60", 21600, "21600"), (300, "7.5", 1, "40")])
def test_times_are_scaled_down_to_a_floor(seconds: int, scale: str, least: int, result: str) -> None:
    text = next(line for line in (COMPONENTS / "postfix" / "start").read_text().splitlines() if line.startswith("scaled()"))
    done = subprocess.run(["bash", "-c", f"{text}; TIME_SCALE={scale} scaled {seconds} {least}"], capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout.strip() == result


def test_only_locks_of_a_killed_dovecot_of_this_host_go(tmp_path: Path) -> None:
    user = tmp_path / "example.org" / "user 1" / "Maildir"
    (user / "cur").mkdir(parents=True)
    own, other, odd = user / "dovecot-uidlist.lock", user / "subscriptions.lock", user / "dovecot.index.log.lock"
    mail, uidlist = user / "cur" / "1.lock", user / "dovecot-uidlist"
    own.write_text("46:mailbox-1")
    other.write_text("46:mailbox-11")
    odd.write_bytes(b"\0\0\0")
    mail.write_text("46:mailbox-1")
    uidlist.write_text("46:mailbox-1")
    done = subprocess.run(["bash", str(COMPONENTS / "dovecot/unlock"), str(tmp_path), "mailbox-1"], check=True, capture_output=True, text=True, timeout=10)
    assert not own.exists()
    assert all(p.exists() for p in (other, odd, mail, uidlist))
    assert done.stdout == f"a killed process' lock is removed: {own}\n"

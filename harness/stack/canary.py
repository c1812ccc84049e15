"""Function probes through the edge, with clients that share no code with the generator: does mail really pass?

Sending is by aiosmtplib, reading by the standard library's imaplib and poplib.
"""

from __future__ import annotations

import asyncio
import imaplib
import poplib
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial

import aiosmtplib

from harness.errors import NotReady, StackFailed
from harness.stack.deployed import Stack
from harness.support.clock import wait_for
from harness.support.progress import Progress

#: One try of one probe, in seconds; a stack that is starting answers slowly.
_TRY_S = 10.0
_EVERY_S = 0.5
#: The canary's mailbox: the last of the probe users.
CANARY_USER = 8
_SENDER = "canary@example.net"
#: Ports that demand a PROXY v2 header and greet without TLS.
_PROXIED = (10025, 10143, 10110)
_PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"

Probe = tuple[str, Callable[[], None]]


def prove(stack: Stack, *, deadline_s: float, progress: Progress) -> None:
    """Wait until every protocol works through the edge, on IPv4 and, where there is one, IPv6.

    MX delivery to a mailbox, submission with authentication, IMAP, POP3, and the generator's ports with their PROXY v2
    header. The mails are removed again.

    :raises StackFailed: a probe still fails after ``deadline_s``; the message has its last error.
    """
    pause = threading.Event()
    with progress.stage("mail through the edge"), ThreadPoolExecutor(8) as pool:
        end = time.monotonic() + deadline_s
        failed = [f for f in pool.map(lambda p: _until(p, end, pause), probes(stack)) if f]
    if failed:
        raise StackFailed("mail does not pass: " + "; ".join(failed), where=stack.namespace, todo="mailgale stack status")


def probes(stack: Stack) -> list[Probe]:
    """Every probe with what it proves."""
    found: list[Probe] = []
    for edge in stack.edges:
        found += [
            (f"MX to mailbox over {edge}", partial(_mx_to_mailbox, stack, edge)),
            (f"submission over {edge}", partial(_submission, stack, edge)),
            (f"POP3 over {edge}", partial(_pop3, stack, edge)),
            *((f"generator's port {port} over {edge}", partial(_proxied_banner, edge, port)) for port in _PROXIED),
        ]
    return found


def _until(probe: Probe, end: float, pause: threading.Event) -> str:
    """Try a probe until it passes; what went wrong last when time is up."""
    what, act = probe
    while True:
        try:
            act()
            return ""
        except (OSError, EOFError, aiosmtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, NotReady) as error:
            if time.monotonic() + _EVERY_S >= end:
                return f"{what}: {type(error).__name__}: {error}"
        pause.wait(_EVERY_S)


def _mx_to_mailbox(stack: Stack, edge: str) -> None:
    token = _send(stack, edge, 25)
    _fetch_and_remove(stack, edge, token)


def _submission(stack: Stack, edge: str) -> None:
    token = _send(stack, edge, 587, login=True)
    _fetch_and_remove(stack, edge, token)


def _send(stack: Stack, edge: str, port: int, *, login: bool = False) -> str:
    """Hand over one mail to the canary's mailbox; its token."""
    token, user = secrets.token_hex(8), stack.user(CANARY_USER)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (user if login else _SENDER), user, f"canary {token}"
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="example.net")
    message["X-Mailgale-Canary"] = token
    message.set_content("This mail proves that the stack is ready.\n")
    asyncio.run(
        aiosmtplib.send(
            message, hostname=edge, port=port, timeout=_TRY_S, local_hostname="canary.example.net", tls_context=stack.tls_context(),
            start_tls=True if login else None, username=user if login else None, password=stack.password if login else None,
        )
    )
    return token


def _fetch_and_remove(stack: Stack, edge: str, token: str) -> None:
    with imaplib.IMAP4_SSL(edge, 993, ssl_context=stack.tls_context(), timeout=_TRY_S) as reader:
        reader.login(stack.user(CANARY_USER), stack.password)
        reader.select("INBOX")
        # IDLE would be nicer; imaplib has it from Python 3.14 only.
        numbers = wait_for(partial(_search, reader, token), deadline_s=_TRY_S, what="the canary in its mailbox", every_s=0.2)
        for number in numbers:
            reader.store(number.decode(), "+FLAGS.SILENT", r"(\Deleted)")
        reader.expunge()


def _search(reader: imaplib.IMAP4_SSL, token: str) -> list[bytes]:
    reader.noop()
    _, found = reader.search(None, "HEADER", "X-Mailgale-Canary", token)
    return list(found[0].split()) if found and found[0] else []


def _pop3(stack: Stack, edge: str) -> None:
    reader = poplib.POP3_SSL(edge, 995, context=stack.tls_context(), timeout=_TRY_S)
    try:
        reader.user(stack.user(CANARY_USER))
        reader.pass_(stack.password)
        reader.stat()
    finally:
        reader.quit()


def _proxied_banner(edge: str, port: int) -> None:
    """A PROXY v2 header for a made-up client, and then a banner. Source: haproxy's proxy-protocol.txt section 2.2."""
    family = socket.AF_INET6 if ":" in edge else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(_TRY_S)
        client.connect((edge, port))
        addresses = socket.inet_aton("198.51.100.7") + socket.inet_aton("198.51.100.8") + struct.pack(">HH", 40000, 25)
        client.sendall(_PROXY_V2 + b"\x21\x11" + struct.pack(">H", len(addresses)) + addresses)
        banner = client.recv(512)
    if not banner.startswith((b"220", b"* OK", b"+OK")):
        raise StackFailed(f"no banner: {banner[:80]!r}", where=f"{edge}:{port}")

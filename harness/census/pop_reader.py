"""The second reader of mailboxes: POP3 with the standard library, for a sample of the users.

What POP3 shows must be what IMAP shows. A mail that POP3 alone shows becomes a copy all the same (seen by any reader is
delivered); one that IMAP alone shows makes the scope incomplete, since two readers of one mailbox may not differ.
Limits: POP3 sees the INBOX only; ``RETR`` may set ``\\Seen``. Nothing is deleted, and the session ends with QUIT (RFC 1939).
"""

from __future__ import annotations

import poplib
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.census.canonical import Seen, examine
from harness.census.found import Copy, Scope
from harness.census.spec import CensusSpec, Server
from harness.support.clock import now_ns

LINE_OCTETS_MAX = 1 << 20
_TRIES = 2


def sample(spec: CensusSpec) -> tuple[str, ...]:
    """The users that are read by POP3: evenly spread, the first one among them."""
    wanted = min(spec.pop3_users, spec.users) if spec.pop3 else 0
    return tuple(spec.addresses[i * spec.users // wanted] for i in range(wanted)) if wanted else ()


def read_sample(
    spec: CensusSpec, by_imap: Mapping[str, Sequence[Seen]], context: ssl.SSLContext | None, on_scope: Callable[[Scope], None]
) -> None:
    """Read the sample's INBOXes and compare.

    :param by_imap: what IMAP found in the INBOX of each address; an address that it could not read is absent.
    """
    poplib._MAXLINE = LINE_OCTETS_MAX  # type: ignore[attr-defined]  # 2048 by default, below what SMTP lets pass
    end = now_ns() + int(spec.deadline_s * 1e9)
    with ThreadPoolExecutor(max(1, spec.connections), "pop3") as pool:
        for scope in pool.map(lambda a: _one(spec, a, by_imap.get(a), context, end), sample(spec)):
            on_scope(scope)


def _one(spec: CensusSpec, address: str, by_imap: Sequence[Seen] | None, context: ssl.SSLContext | None, end: int) -> Scope:
    scope, why = Scope("mailbox", f"{address}/INBOX by POP3"), "no time was left"
    for _ in range(_TRIES):
        left_s = (end - now_ns()) / 1e9
        if left_s <= 0:
            break
        try:
            found = _inbox(spec, address, context, min(left_s, 60), end)
        except (OSError, EOFError, poplib.error_proto) as error:
            why = f"{type(error).__name__}: {error}"
            continue
        return _compared(scope, address, found, by_imap)
    return scope.fail(why)


def _inbox(spec: CensusSpec, address: str, context: ssl.SSLContext | None, timeout_s: float, end: int) -> list[tuple[str, Seen]]:
    assert spec.pop3 is not None
    session = _connect(spec.pop3, context, timeout_s)
    try:
        session.user(address)
        session.pass_(spec.password)
        found = []
        for line in session.uidl()[1]:
            number, _, uidl = line.decode("utf-8", "replace").partition(" ")
            if now_ns() > end:
                raise TimeoutError("the round's deadline passed")
            raw = b"\r\n".join(session.retr(int(number))[1]) + b"\r\n"
            found.append((uidl, examine(raw, spec.prefix)))
        session.quit()
        return found
    finally:
        session.close()


def _connect(server: Server, context: ssl.SSLContext | None, timeout_s: float) -> poplib.POP3:
    if server.tls:
        return poplib.POP3_SSL(server.host, server.port, context=context, timeout=timeout_s)
    return poplib.POP3(server.host, server.port, timeout=timeout_s)


def _compared(scope: Scope, address: str, found: Sequence[tuple[str, Seen]], by_imap: Sequence[Seen] | None) -> Scope:
    scope.detail = {"by_pop3": len(found)}
    if by_imap is None:
        known: Counter[Seen] = Counter()
    else:
        known = Counter(by_imap)
    for uidl, seen in found:
        if known[seen]:
            known[seen] -= 1
        else:
            scope.copies.append(Copy(scope.source, scope.where, address, seen, uid=f"pop3:{uidl}"))
    left = +known
    if left:
        first = next(iter(left))
        scope.fail(f"{left.total()} messages that IMAP shows are not there, mail {first.mail} the first")
    return scope

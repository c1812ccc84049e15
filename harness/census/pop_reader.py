"""The second reader of mailboxes: POP3 with the standard library, for a sample of the users, or for all where there is no IMAP.

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
from dataclasses import dataclass, field

from harness.census.canonical import Seen, examine
from harness.census.found import Copy, Scope
from harness.census.imap_reader import tls_context
from harness.census.spec import CensusSpec, Server
from harness.support.clock import now_ns

LINE_OCTETS_MAX = 1 << 20
_TRIES = 2
_NOTHING = Seen(None, "")


def sample(spec: CensusSpec) -> tuple[str, ...]:
    """The users that are read by POP3: evenly spread, the first one among them; then those whom the load has read so."""
    users = len(spec.addresses)
    wanted = min(spec.pop3_users, users) if spec.pop3 else 0
    spread = tuple(spec.addresses[i * users // wanted] for i in range(wanted))
    return tuple(dict.fromkeys((*spread, *spec.pop3_first))) if wanted else ()


@dataclass
class PopMemory:
    """What earlier rounds read: address → unique ID → what it was.

    :param before: address → unique IDs there before the load; they are not read.
    :param survey: nothing is read; each scope's detail holds the unique IDs.
    """

    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)
    before: Mapping[str, frozenset[str]] = field(default_factory=dict)
    survey: bool = False


def read_all(spec: CensusSpec, memory: PopMemory, on_scope: Callable[[Scope], None], addresses: Sequence[str] = ()) -> None:
    """Read the INBOX of every user (or of ``addresses``) by POP3 alone; each ends as one scope ``<address>/INBOX``, read or not.

    :param memory: kept between rounds; a message keeps its unique ID (RFC 1939, UIDL).
    """
    _in_parallel(spec, addresses or spec.addresses, lambda address, context, end: _alone(spec, memory, address, context, end), on_scope)


def read_sample(
    spec: CensusSpec, by_imap: Mapping[str, Sequence[Seen]], on_scope: Callable[[Scope], None], memory: PopMemory | None = None
) -> None:
    """Read the sample's INBOXes and compare.

    :param by_imap: what IMAP found in the INBOX of each address; an address that it could not read is absent.
    :param memory: of a survey before the load; then only mail of this run is compared, since other mail may come and go.
    """
    known = memory or PopMemory()

    def one(address: str, context: ssl.SSLContext | None, end: int) -> Scope:
        scope = Scope("mailbox", f"{address}/INBOX by POP3")
        found = _tried(spec, known, scope, address, context, end)
        return scope if found is None else _compared(scope, address, found, by_imap.get(address), ours=bool(known.before))

    _in_parallel(spec, sample(spec), one, on_scope)


def _in_parallel(
    spec: CensusSpec, addresses: Sequence[str], one: Callable[[str, ssl.SSLContext | None, int], Scope], on_scope: Callable[[Scope], None]
) -> None:
    poplib._MAXLINE = LINE_OCTETS_MAX  # type: ignore[attr-defined]  # 2048 by default, below what SMTP lets pass
    end = now_ns() + int(spec.deadline_s * 1e9)
    context = tls_context(spec) if spec.pop3 is not None and spec.pop3.encrypted else None
    with ThreadPoolExecutor(max(1, spec.connections), "pop3") as pool:
        for scope in pool.map(lambda a: one(a, context, end), addresses):
            on_scope(scope)


def _alone(spec: CensusSpec, memory: PopMemory, address: str, context: ssl.SSLContext | None, end: int) -> Scope:
    scope = Scope("mailbox", f"{address}/INBOX")
    found = _tried(spec, memory, scope, address, context, end)
    if memory.survey:
        scope.detail = {"uidls": [uidl for uidl, _ in found or ()]}
    elif found is not None:
        scope.detail = {"uidls": _uidls(found)}
        scope.copies += [Copy(scope.source, scope.where, address, seen, uid=f"pop3:{uidl}") for uidl, seen in found]
    return scope


def _uidls(found: Sequence[tuple[str, Seen]]) -> list[tuple[int, str]]:
    """(mail, unique ID) of our mails, for the check of both rounds against each other and against what the load saw."""
    return [(seen.mail, uidl) for uidl, seen in found if seen.mail is not None]


def _tried(
    spec: CensusSpec, memory: PopMemory, scope: Scope, address: str, context: ssl.SSLContext | None, end: int
) -> list[tuple[str, Seen]] | None:
    """The INBOX of ``address``; None when it could not be read, which ``scope`` then says."""
    why = "no time was left"
    for _ in range(_TRIES):
        left_s = (end - now_ns()) / 1e9
        if left_s <= 0:
            break
        try:
            return _inbox(spec, memory, address, context, min(left_s, 60), end)
        except (OSError, EOFError, poplib.error_proto) as error:
            why = f"{type(error).__name__}: {error}"
    scope.fail(why)
    return None


def _inbox(
    spec: CensusSpec, memory: PopMemory, address: str, context: ssl.SSLContext | None, timeout_s: float, end: int
) -> list[tuple[str, Seen]]:
    assert spec.pop3 is not None
    session = _connect(spec.pop3, context, timeout_s)
    known, old = memory.seen.setdefault(address, {}), memory.before.get(address, frozenset())
    try:
        session.user(address)
        session.pass_(spec.passwords[address])
        found = []
        for line in session.uidl()[1]:
            number, _, uidl = line.decode("utf-8", "replace").partition(" ")
            if now_ns() > end:
                raise TimeoutError("the round's deadline passed")
            if uidl in old:
                continue
            if uidl not in known:
                known[uidl] = _NOTHING if memory.survey else examine(_message(session, int(number)), spec.prefix)
            found.append((uidl, known[uidl]))
        session.quit()
        return found
    finally:
        session.close()


def _message(session: poplib.POP3, number: int) -> bytes:
    return b"\r\n".join(session.retr(number)[1]) + b"\r\n"


def _connect(server: Server, context: ssl.SSLContext | None, timeout_s: float) -> poplib.POP3:
    if server.tls:
        return poplib.POP3_SSL(server.host, server.port, context=context, timeout=timeout_s)
    session = poplib.POP3(server.host, server.port, timeout=timeout_s)
    if server.starttls:
        session.stls(context)
    return session


def _compared(
    scope: Scope, address: str, found: Sequence[tuple[str, Seen]], by_imap: Sequence[Seen] | None, *, ours: bool = False
) -> Scope:
    scope.detail = {"by_pop3": len(found), "uidls": _uidls(found)}
    if by_imap is None:
        known: Counter[Seen] = Counter()
    else:
        known = Counter(by_imap)
    for uidl, seen in found:
        if known[seen]:
            known[seen] -= 1
        else:
            scope.copies.append(Copy(scope.source, scope.where, address, seen, uid=f"pop3:{uidl}"))
    left = Counter({seen: n for seen, n in known.items() if n > 0 and not (ours and seen.mail is None)})
    if left:
        first = next(iter(left))
        scope.fail(f"{left.total()} messages that IMAP shows are not there, mail {first.mail} the first")
    return scope

"""The mailboxes of the self-test's platform, and how IMAP and POP3 users get at them; what they should keep and forget is a parameter.

IMAP (RFC 9051): LOGIN, LIST, SELECT, EXAMINE, UID SEARCH by ALL, a UID range, FLAGGED or SEEN, UID FETCH of whole bodies, UID STORE +FLAGS.
POP3 (RFC 1939): USER, PASS, UIDL, RETR, QUIT. A UID is the place of a mail in its mailbox.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

INBOX, JUNK = "INBOX", "Junk"
UIDVALIDITY = 1_700_000_000


@dataclass(frozen=True)
class Forgetful:
    """What the mailboxes forget; each callable gets a running number from 0.

    :param uidvalidity: the UIDVALIDITY that the n-th SELECT is told.
    :param uidl: the unique ID of the mail at a place, at the n-th login by POP3.
    :param drops_flags: STORE is answered with OK, and nothing is kept.
    :param keeps_deleted: EXPUNGE and DELE are answered with OK, and the mail stays. Without it DELE is unknown here.
    """

    uidvalidity: Callable[[int], int] = lambda n: UIDVALIDITY
    uidl: Callable[[int, int], str] = lambda place, n: f"{place:08x}"
    drops_flags: bool = False
    keeps_deleted: bool = False


@dataclass
class Kept:
    """One mail in a mailbox."""

    raw: bytes
    flags: set[str] = field(default_factory=set)


class Boxes:
    """All mailboxes."""

    def __init__(self, forgetful: Forgetful) -> None:
        self._forgetful, self._selects, self._logins = forgetful, 0, 0
        self._mails: dict[tuple[str, str], list[Kept]] = {}

    def keep(self, owner: str, name: str, raw: bytes) -> None:
        """One mail more."""
        self._mails.setdefault((owner, name), []).append(Kept(raw))

    def everything(self) -> list[bytes]:
        """The octets of every mail that was kept."""
        return [mail.raw for box in list(self._mails.values()) for mail in box]

    # -- IMAP -----------------------------------------------------------------------------------------------------
    async def imap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        writer.write(b"* OK platform ready\r\n")
        user, box = "", INBOX
        while line := await reader.readline():
            tag, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            words = rest.split()
            verb = words[0].upper() if words else ""
            if verb == "LOGIN":
                user = words[1].strip('"')
            elif verb in ("SELECT", "EXAMINE"):
                box = words[1].strip('"')
            writer.write(self._told(verb, rest, self._mails.get((user, box), [])) + f"{tag} OK {verb} done\r\n".encode())
            if verb == "LOGOUT":
                return

    def _told(self, verb: str, rest: str, mails: Sequence[Kept]) -> bytes:
        """The untagged part of an answer."""
        if verb in ("SELECT", "EXAMINE"):
            return self._selected(mails)
        if verb == "UID":
            return self._uid(rest.split(None, 2)[1].upper(), rest, mails)
        fixed = {"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n", "LOGOUT": b"* BYE\r\n", "LIST": f'* LIST () "/" {INBOX}\r\n* LIST () "/" {JUNK}\r\n'.encode()}
        return fixed.get(verb, b"")

    def _selected(self, mails: Sequence[Kept]) -> bytes:
        validity, self._selects = self._forgetful.uidvalidity(self._selects), self._selects + 1
        return f"* FLAGS (\\Seen \\Flagged)\r\n* {len(mails)} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY {validity}] ok\r\n".encode()

    def _uid(self, verb: str, rest: str, mails: Sequence[Kept]) -> bytes:
        if verb == "SEARCH":
            return f"* SEARCH {' '.join(map(str, _matching(rest.upper(), mails)))}\r\n".encode()
        wanted = re.search(r"(?:FETCH|STORE) ([\d,]+)", rest, re.IGNORECASE)
        uids = [int(n) for n in wanted[1].split(",")] if wanted else []
        if verb == "FETCH":
            return b"".join(_fetched(n, mails[n - 1]) for n in uids)
        for n in uids if not self._forgetful.drops_flags else ():
            mails[n - 1].flags |= {f.lower() for f in re.findall(r"\\[A-Za-z]+", rest)}
        return b""

    # -- POP3 -----------------------------------------------------------------------------------------------------
    async def pop3(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        writer.write(b"+OK platform ready\r\n")
        user, login, self._logins = "", self._logins, self._logins + 1
        while line := await reader.readline():
            verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
            mails = self._mails.get((user, INBOX), [])
            if verb == "USER":
                user = argument
            writer.write(self._answer(verb, argument, mails, login))
            if verb == "QUIT":
                return

    def _answer(self, verb: str, argument: str, mails: Sequence[Kept], login: int) -> bytes:
        if verb == "UIDL":
            lines = [f"{n} {self._forgetful.uidl(n, login)}\r\n" for n in range(1, len(mails) + 1)]
            return f"+OK\r\n{''.join(lines)}.\r\n".encode()
        if verb == "RETR":
            raw = mails[int(argument) - 1].raw
            return b"+OK\r\n" + re.sub(rb"(?m)^\.", b"..", raw) + (b"" if raw.endswith(b"\n") else b"\r\n") + b".\r\n"
        well = verb in ("USER", "PASS", "QUIT") or (verb == "DELE" and self._forgetful.keeps_deleted)
        return b"+OK\r\n" if well else b"-ERR unknown\r\n"


def _matching(criteria: str, mails: Sequence[Kept]) -> list[int]:
    """UIDs; a range up to ``*`` always holds the last mail (RFC 9051 section 6.4.4)."""
    everything = range(1, len(mails) + 1)
    if first := re.search(r"UID (\d+):\*", criteria):
        return sorted({*(n for n in everything if n >= int(first[1])), *everything[-1:]})
    flag = next((f"\\{word.lower()}" for word in ("FLAGGED", "SEEN") if criteria.endswith(word)), "")
    return [n for n in everything if not flag or flag in mails[n - 1].flags]


def _fetched(uid: int, mail: Kept) -> bytes:
    head = f"* {uid} FETCH (UID {uid} FLAGS ({' '.join(sorted(mail.flags))}) BODY[]<0> {{{len(mail.raw)}}}\r\n"
    return head.encode() + mail.raw + b")\r\n"

"""What IMAP tells of a mailbox and its messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from harness.mail.imap_syntax import parse
from harness.mail.wire import Garbage

TRACKED_MAX = 2_000
FLAGS_MAX, FLAG_OCTETS_MAX = 32, 64  #: of one message; a server that lists more is not believed
NUMBERED = re.compile(rb"(\d{1,10}) ([A-Z]+)")
#: What most servers answer to most FETCHes, taken without looking at every token: number, UID, flags, and the name of one literal.
_USUAL = re.compile(
    rb"\* (\d{1,10}) FETCH \((?:UID (\d{1,10})(?=[ )]) ?)?(?:FLAGS \(([^()\"\[]{0,4096})\)(?=[ )]) ?)?(?:(BODY\[[A-Z]*\]|RFC822) |\))"
)
_NAMES = {b"BODY[]": "BODY[]", b"BODY[HEADER]": "BODY[HEADER]", b"BODY[TEXT]": "BODY[TEXT]", b"RFC822": "RFC822"}


class Fetched(NamedTuple):
    """One FETCH response: sequence number, and values by item name in upper case (``UID``, ``FLAGS``, ``BODY[]``)."""

    number: int
    items: dict[str, Any]

    @property
    def uid(self) -> int:
        """The UID; 0 when it was not asked for."""
        value = self.items.get("UID", b"0")
        return int(value) if isinstance(value, bytes) and value.isdigit() else 0


class Appended(NamedTuple):
    """Where an APPEND put the message; zeros where the server has no UIDPLUS."""

    uidvalidity: int
    uid: int


@dataclass
class Mailbox:
    """The selected mailbox as the server has told so far. ``flags``: by sequence number, as last heard."""

    name: str
    exists: int = 0
    recent: int = 0
    uidvalidity: int = 0
    uidnext: int = 0
    read_only: bool = False
    flags: dict[int, frozenset[str]] = field(default_factory=dict)

    def expunged(self, number: int) -> None:
        """A message is gone; those behind it move up (RFC 3501 section 7.4.1)."""
        self.exists = max(self.exists - 1, 0)
        self.flags = {n - (n > number): f for n, f in self.flags.items() if n != number}

    def flagged(self, number: int, flags: Any) -> None:
        """Flags of a message as FETCH gave them."""
        if not isinstance(flags, list) or len(flags) > FLAGS_MAX or (number not in self.flags and len(self.flags) >= TRACKED_MAX):
            return
        self.flags[number] = _flags(tuple(f for f in flags if isinstance(f, bytes) and len(f) <= FLAG_OCTETS_MAX))


@lru_cache(1024)
def _flags(flags: tuple[bytes, ...]) -> frozenset[str]:
    return frozenset(f.decode("utf-8", "backslashreplace") for f in flags)


def usual(parts: list[bytes]) -> Fetched | None:
    """As :func:`fetched`, for the usual answer alone, and quicker; None for all others, which may be FETCH responses too."""
    match = _USUAL.match(parts[0])
    if match is None or match.end() != len(parts[0]):
        return None
    number, uid, flags, name = match.groups()
    if (len(parts) != 1) if name is None else (len(parts) != 3 or parts[2] != b")" or name not in _NAMES):
        return None
    items: dict[str, Any] = {} if uid is None else {"UID": uid}
    if flags is not None:
        if b"NIL" in flags.upper():
            return None
        items["FLAGS"] = flags.split()
    if name is not None:
        items[_NAMES[name]] = parts[1]
    return Fetched(int(number), items)


def fetched(parts: list[bytes]) -> Fetched | None:
    """The FETCH response in ``parts``; None when it is another one.

    :raises Garbage: it is one, but no list of named items.
    """
    match = NUMBERED.match(parts[0], 2)
    if match is None or match[2] != b"FETCH":
        return None
    whole = parse(parts, match.end())
    if len(whole) != 1 or not isinstance(whole[0], list) or len(whole[0]) % 2:
        raise Garbage(f"a FETCH that is no list of pairs: {parts[0][:80]!r}")
    pairs = whole[0]
    if not all(isinstance(key, bytes) for key in pairs[::2]):
        raise Garbage(f"a FETCH with an item that has no name: {parts[0][:80]!r}")
    return Fetched(int(match[1]), {k.decode("ascii", "replace").upper(): v for k, v in zip(pairs[::2], pairs[1::2], strict=True)})

"""IMAP4rev1's syntax, both ways: strings and mailbox names to the server, parenthesised lists from it (RFC 3501 sections 4, 5.1.3, 9)."""

from __future__ import annotations

import base64
import re
from typing import Any

from harness.mail.wire import Garbage

DEPTH_MAX = 64
TOKENS_MAX = 100_000
_TOKEN = re.compile(rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"\[]*(?:\[[^\]]*\](?:<\d+>)?)?))')
_PLAIN = re.compile(rb"[\x20-\x7e]*")
_SHIFTED = re.compile(r"&|[^\x20-\x7e]+")


def parse(parts: list[bytes], skip: int = 0) -> list[Any]:
    """A response as nested lists: atoms, quoted strings and literals as bytes, NIL as None.

    :param parts: text and literal by turns (see wire.ResponseReader). :param skip: octets of the first text to leave out.
    :raises Garbage: unbalanced, too deep, too many tokens.
    """
    top: list[Any] = []
    stack, tokens = [top], 0
    for index, part in enumerate(parts):
        if index % 2:
            stack[-1].append(part)
            continue
        at = skip if index == 0 else 0
        while at < len(part):
            at = _token(part, at, stack)
            tokens += 1
            if tokens > TOKENS_MAX:
                raise Garbage(f"a response of more than {TOKENS_MAX} tokens")
    if len(stack) != 1:
        raise Garbage("a response with an open parenthesis")
    return top


def _token(text: bytes, at: int, stack: list[list[Any]]) -> int:
    match = _TOKEN.match(text, at)
    if match is None or match.end() == at:
        raise Garbage(f"no IMAP token: {text[at : at + 40]!r}")
    opened, closed, quoted, atom = match.groups()
    if opened:
        if len(stack) > DEPTH_MAX:
            raise Garbage(f"parentheses deeper than {DEPTH_MAX}")
        inner: list[Any] = []
        stack[-1].append(inner)
        stack.append(inner)
    elif closed:
        if len(stack) == 1:
            raise Garbage("a parenthesis too many")
        stack.pop()
    elif quoted is not None:
        stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
    elif atom:
        stack[-1].append(None if atom.upper() == b"NIL" else atom)
    return match.end()


def string(value: str | bytes) -> bytes | None:
    """``value`` as a quoted string; None when it needs a literal."""
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > 500 or _PLAIN.fullmatch(raw) is None:
        return None
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def mailbox(name: str) -> bytes:
    """A mailbox name in modified UTF-7, quoted (RFC 3501 section 5.1.3)."""
    quoted = string(_SHIFTED.sub(_shift, name))
    if quoted is None:
        raise ValueError(f"not a mailbox name: {name[:80]!r}")
    return quoted


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    return "&" + base64.b64encode(match[0].encode("utf-16-be")).rstrip(b"=").replace(b"/", b",").decode() + "-"


def words(text: bytes) -> frozenset[str]:
    """Capabilities: at most 200 words, in upper case."""
    return frozenset(text.decode("ascii", "replace").upper().split(None, 200)[:200])

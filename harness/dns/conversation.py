"""A short SMTP or LMTP conversation over a socket that is connected already (RFC 5321, RFC 2033): say a line, look at its reply."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from harness.errors import NotReady

_REPLY_MAX = 1 << 16


@dataclass(frozen=True)
class Line:
    """What is said ("" = nothing, as before the greeting), and what the last line of the reply must begin with."""

    said: str
    wanted: str


def talk_to(connection: socket.socket, lines: Sequence[Line]) -> None:
    """Hold the conversation.

    :raises NotReady: a reply is another, or the peer closes. :raises OSError: the connection breaks or is silent for too long.
    """
    with connection.makefile("rb") as replies:
        for line in lines:
            if line.said:
                connection.sendall(line.said.encode() + b"\r\n")
            _expect(replies, line)


def _expect(replies: BinaryIO, line: Line) -> None:
    size = 0
    while True:
        got = replies.readline(_REPLY_MAX)
        size += len(got)
        if not got or size > _REPLY_MAX:
            raise NotReady(f"no reply to '{line.said or 'the connection'}'")
        if got[3:4] != b"-":
            break
    if not got.decode("latin-1").startswith(line.wanted):
        raise NotReady(f"'{got.decode('latin-1').strip()}' to '{line.said or 'the connection'}', wanted {line.wanted}")

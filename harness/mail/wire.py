"""Bounded readers: SMTP and POP3 lines, SMTP replies, IMAP responses with literals. No I/O.

Sources: RFC 5321 section 4.2 and 4.5.3.1, RFC 1939 section 3, RFC 3501 sections 2.2 and 4.3. A line may end with a bare LF, since
some servers do so. Whatever outgrows its bound raises :class:`Garbage`, before more of it is kept.
"""

from __future__ import annotations

from typing import Any

LINE_OCTETS_MAX = 8192
REPLY_LINES_MAX = 256
REPLY_OCTETS_MAX = 65536
KNOWN_MAX, KNOWN_OCTETS_MAX = 512, 512
_CODES = {b"%d" % code: code for code in range(200, 600)}


class Garbage(Exception):
    """What the peer sent is no reply of its protocol, or more than any sane peer sends."""


class Reply:
    """One SMTP reply: its code and its lines without code and separator. Never changed once made: equal lines share one.

    ``taken`` and ``announced`` keep what :mod:`harness.mail.replies` and :mod:`harness.mail.opening` make of it.
    """

    __slots__ = ("announced", "code", "lines", "taken")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code, self.lines = code, lines
        self.taken: Any = None
        self.announced: object = None

    @property
    def text(self) -> str:
        """All lines joined by spaces, at most 500 characters; bytes that are no UTF-8 appear as ``\\xNN``."""
        raw = self.lines[0] if len(self.lines) == 1 else b" ".join(self.lines)
        return raw[:500].decode("utf-8", "backslashreplace")

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.text!r})"


#: What came before: replies of one line, by that line, and whole pieces of the stream that held whole replies only. A server
#: answers most commands with the same words.
_KNOWN: dict[bytes, Reply] = {}
_WHOLE: dict[bytes, list[Reply]] = {}


class ReplyReader:
    """Cuts a stream into SMTP replies.

    After :meth:`feed` look at :attr:`broken`: replies that came before the garbage are returned all the same.
    """

    __slots__ = ("_code", "_lines", "_octets", "_rest", "broken")

    def __init__(self) -> None:
        self._rest, self._lines, self._octets, self._code = b"", [], 0, b""  # type: bytes, list[bytes], int, bytes
        self.broken: Garbage | None = None

    @property
    def inside(self) -> bool:
        """Part of a reply has arrived."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that ``data`` completes; not to be changed. Nothing more once :attr:`broken` is set."""
        if self.broken is not None:
            return []
        if self._rest or self._lines:
            return self._read(data)
        done = _WHOLE.get(data)
        if done is None:
            done = self._read(data)
            if len(data) <= KNOWN_OCTETS_MAX and len(_WHOLE) < KNOWN_MAX and not self.inside and self.broken is None:
                _WHOLE[data] = done
        return done

    def _read(self, data: bytes) -> list[Reply]:
        done: list[Reply] = []
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        known = _KNOWN.get
        try:
            for line in lines:
                reply = known(line)
                if reply is not None and not self._lines:
                    done.append(reply)
                else:
                    self._line(line, done)
            if len(self._rest) > LINE_OCTETS_MAX:
                raise Garbage(f"a line of more than {LINE_OCTETS_MAX} octets")
        except Garbage as garbage:
            self.broken, self._rest, self._lines = garbage, b"", []
        return done

    def _line(self, line: bytes, done: list[Reply]) -> None:
        code, mark = line[:3], line[3:4]
        number = _CODES.get(code)
        if number is None or mark not in (b" ", b"-", b"\r", b""):
            raise Garbage(f"not a reply: {line[:80]!r}")
        if len(line) > LINE_OCTETS_MAX:
            raise Garbage(f"a line of more than {LINE_OCTETS_MAX} octets")
        text = line[4:-1] if line.endswith(b"\r") else line[4:]
        if not self._lines and mark != b"-":
            done.append(_kept(line, Reply(number, [text])))
            return
        self._more(code, text)
        if mark != b"-":
            done.append(Reply(number, self._lines))
            self._lines, self._octets = [], 0

    def _more(self, code: bytes, text: bytes) -> None:
        if self._lines and code != self._code:
            raise Garbage(f"a reply that changes its code from {self._code!r} to {code!r}")
        self._code = code
        self._lines.append(text)
        self._octets += len(text) + 1
        if len(self._lines) > REPLY_LINES_MAX or self._octets > REPLY_OCTETS_MAX:
            raise Garbage(f"an endless reply: more than {REPLY_LINES_MAX} lines or {REPLY_OCTETS_MAX} octets")


def _kept(line: bytes, reply: Reply) -> Reply:
    if len(_KNOWN) < KNOWN_MAX and len(line) <= KNOWN_OCTETS_MAX:
        _KNOWN[line] = reply
    return reply


class LineReader:
    """Cuts a stream into lines (POP3).

    :param line_max: octets a line may have at most.
    """

    __slots__ = ("_line_max", "_rest")

    def __init__(self, line_max: int = LINE_OCTETS_MAX) -> None:
        self._rest, self._line_max = b"", line_max

    @property
    def inside(self) -> bool:
        """Part of a line has arrived."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends.

        :raises Garbage: a line is too long.
        """
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._line_max or any(len(line) > self._line_max for line in lines):
            self._rest = b""
            raise Garbage(f"a line of more than {self._line_max} octets")
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]


class ResponseReader:
    """Cuts a stream into IMAP responses: lists of parts, text and literal by turns, beginning with text.

    :param line_max: octets of a response's text at most. :param literal_max: octets of its literals together at most.
    """

    __slots__ = ("_buffer", "_line_max", "_literal_max", "_parts", "_text", "_wanted", "_whole")

    def __init__(self, line_max: int = 1 << 20, literal_max: int = 24 << 20) -> None:
        self._line_max, self._literal_max = line_max, literal_max
        self._buffer: bytearray | None = None  #: what waits for its rest; idle connections hold none
        self._parts: list[bytes] = []
        self._wanted = -1  #: octets of the literal being read; -1 = reading text
        self._text = self._whole = 0

    @property
    def inside(self) -> bool:
        """Part of a response has arrived."""
        return bool(self._buffer or self._parts)

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The responses that ``data`` completes.

        :raises Garbage: a bound is passed.
        """
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._wanted if self._wanted >= 0 else b"\n" not in data:
                return self._wait(len(self._buffer))
            data, self._buffer = bytes(self._buffer), None
        done: list[list[bytes]] = []
        at = self._read(data, done)
        if at < len(data):
            self._buffer = bytearray(memoryview(data)[at:])
            self._wait(len(self._buffer))
        return done

    def _wait(self, octets: int) -> list[list[bytes]]:
        if self._wanted < 0:
            self._bound(self._text + octets)
        return []

    def _read(self, data: bytes, done: list[list[bytes]]) -> int:
        """Take whole lines and literals; how far. One loop over one object: a server sends mails by the thousand."""
        at, size, find = 0, len(data), data.find
        while True:
            if self._wanted >= 0:
                if at + self._wanted > size:
                    return at
                end = at + self._wanted
                self._parts.append(data[at:end])
                at, self._wanted = end, -1
            end = find(b"\n", at)
            if end < 0:
                return at
            self._text += end - at
            if self._text > self._line_max:
                self._bound(self._text)
            line = data[at : end - 1] if end > at and data[end - 1] == 13 else data[at:end]
            at = end + 1
            self._line(line, done)

    def _line(self, line: bytes, done: list[list[bytes]]) -> None:
        wanted = _literal_octets(line) if line.endswith(b"}") else -1
        if wanted < 0:
            self._parts.append(line)
            done.append(self._parts)
            self._parts, self._text, self._whole = [], 0, 0
            return
        self._wanted, self._whole = wanted, self._whole + wanted
        if self._whole > self._literal_max:
            raise Garbage(f"literals of {self._whole} octets, more than {self._literal_max}")
        self._parts.append(line[: line.rindex(b"{")])

    def _bound(self, octets: int) -> None:
        if octets > self._line_max:
            raise Garbage(f"a response with more than {self._line_max} octets of text")


def _literal_octets(line: bytes) -> int:
    """The size announced at the end of ``line`` as ``{n}``; -1 when there is none."""
    start = line.rfind(b"{")
    digits = line[start + 1 : -1]
    if start < 0 or not digits.isdigit() or not digits.isascii():
        return -1
    if len(digits) > 10:
        raise Garbage(f"a literal with a size of {len(digits)} digits")
    return int(digits)

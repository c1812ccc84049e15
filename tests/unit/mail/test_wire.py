"""The bounded readers: any split gives the same, any octets end in replies or Garbage, nothing grows past its bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.mail.imap_box import fetched
from harness.mail.imap_syntax import mailbox, parse, string
from harness.mail.wire import (
    LINE_OCTETS_MAX,
    REPLY_LINES_MAX,
    Garbage,
    LineReader,
    ReplyReader,
    ResponseReader,
)

STREAM = b"220 hi\r\n250-a\r\n250-b c\r\n250 d\r\n354\r\n250 bare\n421 4.3.2 bye\r\n"
IMAPISH = b'* OK hi\r\n* 1 FETCH (UID 3 BODY[HEADER.FIELDS (X-A)] {5}\r\na)\r\nb FLAGS (\\Seen) X "q\\"}" Y NIL)\r\nA1 OK {x}\r\n* 2 FETCH (BODY[] {0}\r\n)\r\n'
cuts = st.lists(st.integers(0, 300), max_size=20)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(a, len(data)) for a in at), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@given(cuts)
def test_replies_do_not_depend_on_the_split(at: list[int]) -> None:
    reader = ReplyReader()
    replies = [r for piece in pieces(STREAM, at) for r in reader.feed(piece)]
    assert [(r.code, r.lines) for r in replies] == [
        (220, [b"hi"]), (250, [b"a", b"b c", b"d"]), (354, [b""]), (250, [b"bare"]), (421, [b"4.3.2 bye"]),
    ]  # fmt: skip
    assert reader.broken is None
    assert not reader.inside


@given(cuts)
def test_responses_do_not_depend_on_the_split(at: list[int]) -> None:
    reader = ResponseReader()
    found = [r for piece in pieces(IMAPISH, at) for r in reader.feed(piece)]
    assert [len(r) for r in found] == [1, 3, 1, 3]
    one = fetched(found[1])
    assert one is not None
    assert one.uid == 3
    assert one.items == {"UID": b"3", "BODY[HEADER.FIELDS (X-A)]": b"a)\r\nb", "FLAGS": [b"\\Seen"], "X": b'q"}', "Y": None}
    assert not reader.inside


@given(st.binary(max_size=2000), cuts)
def test_any_octets_end_in_replies_or_garbage(data: bytes, at: list[int]) -> None:
    reader = ReplyReader()
    for piece in pieces(data, at):
        assert all(200 <= r.code < 600 for r in reader.feed(piece))


@given(st.binary(max_size=2000) | st.text("*()\"{}[]\\ \r\n+A1FETCH0", max_size=300).map(str.encode), cuts)
def test_any_octets_end_in_responses_or_garbage(data: bytes, at: list[int]) -> None:
    reader = ResponseReader(500, 500)
    try:
        for piece in pieces(data, at):
            for parts in reader.feed(piece):
                parse(parts)
                fetched(parts)
    except Garbage:
        pass


@pytest.mark.parametrize(
    "octets",
    [b"hello\r\n", b"250-a\r\n251 b\r\n", b"999 x\r\n", b"2 x\r\n", b"\r\n", b"25", b"x" * (LINE_OCTETS_MAX + 9), b"250 " + b"x" * 9999 + b"\r\n",
     b"250-x\r\n" * (REPLY_LINES_MAX + 1), (b"250-" + b"x" * 8000 + b"\r\n") * 9, b"\x16\x03\x01\x00\r\n"],
)  # fmt: skip
def test_garbage_is_told_after_the_good(octets: bytes) -> None:
    reader = ReplyReader()
    replies = reader.feed(b"220 good\r\n" + octets)
    assert [r.code for r in replies] == [220]
    assert (reader.broken is not None) is (octets != b"25")
    assert reader.broken is None or reader.feed(b"220 more\r\n") == []


def test_bounds_of_lines_literals_and_nesting() -> None:
    with pytest.raises(Garbage, match="more than 10 octets"):
        LineReader(10).feed(b"x" * 11)
    for bad in [b"* " + b"x" * 600, b"* X {501}\r\n", b"* X {99999999999}\r\n", b"* X {300}\r\n" + b"y" * 300 + b" {300}\r\n"]:
        with pytest.raises(Garbage):
            ResponseReader(500, 500).feed(bad)
    for bad in [b"(" * 70, b"(a", b"a)"]:
        with pytest.raises(Garbage):
            parse([bad])


def test_strings_to_the_server() -> None:
    assert string('a"\\b') == b'"a\\"\\\\b"'
    assert string("ä") is None
    assert string("a\r\nb") is None
    assert mailbox("Entwürfe & mehr") == b'"Entw&APw-rfe &- mehr"'

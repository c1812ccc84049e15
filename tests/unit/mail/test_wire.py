"""The bounded readers: any split gives the same, any octets end in replies or Garbage, nothing grows past its bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.mail.imap_box import fetched, usual
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


_ITEMS = st.sampled_from(
    [b"UID 7", b"UID 70000000000", b"FLAGS ()", b"FLAGS (\\Seen $a)", b"FLAGS (\\Seen  nil)", b'FLAGS ("x")', b"RFC822.SIZE 5", b"BODY[] ", b"BODY[TEXT] ", b"X", b"7FLAGS ()"]
)


@given(st.lists(_ITEMS, max_size=4), st.sampled_from([b" ", b"", b"  "]), st.booleans())
def test_the_quick_way_reads_a_fetch_as_the_slow_one_does(items: list[bytes], between: bytes, closed: bool) -> None:
    text = b"* 12 FETCH (" + between.join(items)
    parts = [text, b"octets", b")"] if text.endswith(b"] ") else [text + b")" * closed]
    quick = usual(parts)
    if quick is not None:
        assert quick == fetched(parts)


def test_the_usual_fetch_takes_the_quick_way() -> None:
    parts = [b"* 1 FETCH (UID 3 FLAGS (\\Seen) BODY[] ", b"x", b")"]
    assert usual(parts) == (1, {"UID": b"3", "FLAGS": [b"\\Seen"], "BODY[]": b"x"})
    assert usual([b"* 1 FETCH (FLAGS (\\Seen))"]) == (1, {"FLAGS": [b"\\Seen"]})
    assert usual([b"* 1 EXISTS"]) is None


@given(st.integers(1, 5))
def test_a_literal_and_a_line_that_trickle_in_are_read_once_they_are_there(step: int) -> None:
    reader = ResponseReader(5000, 5000)
    stream = b"* 1 FETCH (BODY[] {3000}\r\n" + b"\n" * 3000 + b")\r\n* OK " + b"x" * 3000 + b"\r\n"
    found = [r for at in range(0, len(stream), step) for r in reader.feed(stream[at : at + step])]
    assert [len(r) for r in found] == [3, 1]
    assert not reader.inside
    reader.feed(b"* OK " + b"y" * 4000)
    with pytest.raises(Garbage):
        reader.feed(b"y" * 1000)

"""TCP reassembly: whatever order, overlap and repetition the segments come in, the same messages come out, each once."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from harness.dns.packets import SYN, Segment
from harness.dns.streams import Streams
from tests.unit.dns.wire import CLIENT, SERVER

ACK = 0x10


def framed(messages: list[bytes]) -> bytes:
    return b"".join(struct.pack("!H", len(m)) + m for m in messages)


def segment(seq: int, data: bytes = b"", flags: int = ACK) -> Segment:
    return Segment(CLIENT, SERVER, seq % (1 << 32), flags, data)


@given(
    messages=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), isn=st.sampled_from([0, 7, (1 << 32) - 3, 1 << 31]), data=st.data(),
)
def test_any_order_overlap_and_repetition(messages: list[bytes], isn: int, data: st.DataObject):
    stream = framed(messages)
    cuts = data.draw(st.lists(st.tuples(st.integers(0, len(stream)), st.integers(1, 30)), max_size=30))
    whole = [(i, min(i + 9, len(stream))) for i in range(0, len(stream), 9)]
    pieces = data.draw(st.permutations(whole + [(a, min(a + n, len(stream))) for a, n in cuts]))
    streams, found = Streams(), []
    for one in [segment(isn, flags=SYN), *(segment(isn + 1 + a, stream[a:b]) for a, b in pieces)]:
        found += streams.feed(one)
    assert found == messages
    assert (streams.gaps(), streams.midstream) == (0, 0)


def test_missing_bytes_are_a_gap_and_no_message_is_made_up():
    streams, stream = Streams(), framed([b"first", b"second", b"third"])
    streams.feed(segment(0, flags=SYN))
    found = streams.feed(segment(1, stream[:7])) + streams.feed(segment(1 + 9, stream[9:]))
    assert found == [b"first"]
    assert streams.gaps() == 1


def test_a_stream_that_began_before_is_counted():
    streams = Streams()
    assert streams.feed(segment(100, framed([b"late"]))) == [b"late"]
    assert streams.midstream == 1
    assert streams.feed(segment(500)) == []  # an acknowledgement alone begins nothing


def test_ports_used_again_are_another_stream():
    streams = Streams()
    for isn in (10, 90_000):
        streams.feed(segment(isn, flags=SYN))
        streams.feed(segment(isn, flags=SYN))  # sent again: the same stream
        assert streams.feed(segment(isn + 1, framed([b"x"]))) == [b"x"]
        assert streams.feed(segment(isn + 1, framed([b"x"]))) == []  # as after a lost acknowledgement
    assert (streams.gaps(), streams.midstream) == (0, 0)


def test_a_keepalive_probe_changes_nothing():
    streams = Streams()
    streams.feed(segment(0, flags=SYN))
    streams.feed(segment(1, framed([b"x"])))
    assert streams.feed(segment(3, b"\0")) == []
    assert streams.feed(segment(4, framed([b"y"]))) == [b"y"]

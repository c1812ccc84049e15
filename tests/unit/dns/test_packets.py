"""IP packets taken apart: both versions, options, extension headers, fragments, and bytes that are no packet."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dns.packets import Datagram, Fragment, Malformed, Segment, parse
from tests.unit.dns.wire import CLIENT, CLIENT6, SERVER, SERVER6, ipv4, ipv6, tcp, udp

HOP_BY_HOP = b"\x3c\x00" + bytes(6)  # followed by destination options
DESTINATION = b"\x11\x01" + bytes(14)  # 16 bytes, followed by UDP


def test_a_datagram_over_ipv4_with_options_and_trailing_padding():
    packet = ipv4(17, udp(b"hello", CLIENT, SERVER), CLIENT, SERVER, options=bytes(8)) + bytes(12)
    assert parse(packet) == Datagram(CLIENT, SERVER, b"hello")


def test_a_datagram_over_ipv6_behind_extension_headers():
    packet = ipv6(0, HOP_BY_HOP + DESTINATION + udp(b"hello", CLIENT6, SERVER6), CLIENT6, SERVER6)
    assert parse(packet) == Datagram(CLIENT6, SERVER6, b"hello")


def test_a_segment_over_both():
    assert parse(ipv4(6, tcp(b"ab", SERVER, CLIENT, 7), SERVER, CLIENT)) == Segment(SERVER, CLIENT, 7, 0x10, b"ab")
    assert parse(ipv6(6, tcp(b"ab", SERVER6, CLIENT6, 7), SERVER6, CLIENT6)) == Segment(SERVER6, CLIENT6, 7, 0x10, b"ab")


def test_a_length_of_zero_is_segmentation_offload_and_all_is_taken():
    assert parse(ipv4(6, tcp(b"ab" * 40_000, CLIENT, SERVER, 7), CLIENT, SERVER, total=0)) == Segment(CLIENT, SERVER, 7, 0x10, b"ab" * 40_000)


@pytest.mark.parametrize("fragment", [0x2000, 0x2005, 0x0005])
def test_fragments_are_said_to_be_fragments(fragment: int):
    with pytest.raises(Fragment):
        parse(ipv4(17, udp(b"x", CLIENT, SERVER), CLIENT, SERVER, fragment=fragment))
    with pytest.raises(Fragment):
        parse(ipv6(44, bytes(8) + udp(b"x", CLIENT6, SERVER6), CLIENT6, SERVER6))


def test_do_not_fragment_is_no_fragment():
    assert parse(ipv4(17, udp(b"x", CLIENT, SERVER), CLIENT, SERVER, fragment=0x4000)) == Datagram(CLIENT, SERVER, b"x")


def test_other_protocols_are_nothing():
    assert parse(ipv4(1, bytes(8), CLIENT, SERVER)) is None
    assert parse(ipv6(58, bytes(8), CLIENT6, SERVER6)) is None


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x50" + bytes(40), ipv4(17, udp(b"hello", CLIENT, SERVER), CLIENT, SERVER)[:-1]])
def test_what_ends_too_early_is_said_to(packet: bytes):
    with pytest.raises(Malformed):
        parse(packet)


@given(st.binary(max_size=120))
def test_any_bytes_end_in_one_of_the_known_ways(packet: bytes):
    with suppress(Fragment, Malformed):
        parse(packet)

"""Capture files: what is written is read again; damage is said; queries are decoded from them."""

from __future__ import annotations

import struct
from pathlib import Path

import dns.message
import pytest

from harness.dns.decode import decode_file
from harness.dns.pcap import Captured, PcapWriter, read_pcap
from harness.errors import StoreDamaged
from tests.unit.dns.wire import CLIENT, SERVER, ipv4, tcp, udp

QUERY = dns.message.make_query("a.Example.org", "MX", id=77).to_wire()
UDP = ipv4(17, udp(QUERY, CLIENT, SERVER), CLIENT, SERVER)


def written(path: Path, *packets: bytes) -> Path:
    writer = PcapWriter(path)
    for i, packet in enumerate(packets):
        writer.write(Captured(1_700_000_000_123_456_789 + i, packet, len(packet)))
    writer.close()
    return path


def test_what_is_written_is_read_again(tmp_path: Path):
    path = written(tmp_path / "x.pcap", UDP, UDP + b"!")
    assert list(read_pcap(path)) == [Captured(1_700_000_000_123_456_789, UDP, len(UDP)), Captured(1_700_000_000_123_456_790, UDP + b"!", len(UDP) + 1)]


@pytest.mark.parametrize(("order", "magic", "link", "head"), [
    ("<", 0xA1B2C3D4, 1, bytes(12) + b"\x08\x00"), (">", 0xA1B2C3D4, 113, bytes(14) + b"\x08\x00"), (">", 0xA1B23C4D, 276, b"\x08\x00" + bytes(18)),
])
def test_other_tools_files_are_read(tmp_path: Path, order: str, magic: int, link: int, head: bytes):
    data = head + UDP
    foreign = head.replace(b"\x08\x00", b"\x08\x06") + UDP
    packets = b"".join(struct.pack(f"{order}IIII", 5, 6, len(d), len(d)) + d for d in (foreign, data))
    (tmp_path / "x").write_bytes(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link) + packets)
    (only,) = read_pcap(tmp_path / "x")
    assert (only.data, only.wall_ns) == (UDP, 5_000_000_000 + (6 if magic == 0xA1B23C4D else 6000))


@pytest.mark.parametrize("keep", [10, 24 + 8, 24 + 16 + 5])
def test_a_file_that_ends_in_the_middle_is_damaged(tmp_path: Path, keep: int):
    path = written(tmp_path / "x.pcap", UDP)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreDamaged):
        list(read_pcap(path))


def test_queries_and_answers_are_decoded(tmp_path: Path):
    reply = dns.message.make_response(dns.message.from_wire(QUERY))
    reply.set_rcode(3)
    path = written(tmp_path / "x.pcap", UDP, ipv4(17, udp(reply.to_wire(), SERVER, CLIENT), SERVER, CLIENT))
    query, answer = decode_file(path).records
    assert (query.direction, query.client, query.server, query.transport, query.id) == ("query", CLIENT, SERVER, "udp", 77)
    assert (query.qname, query.qtype, query.rcode, query.size) == ("a.Example.org.", "MX", "", len(QUERY))
    assert (answer.direction, answer.client, answer.server, answer.rcode, answer.answers) == ("answer", CLIENT, SERVER, "NXDOMAIN", 0)
    assert decode_file(path).quality.complete


@pytest.mark.parametrize(("packet", "flaw"), [
    (ipv4(17, udp(b"no dns", CLIENT, SERVER), CLIENT, SERVER), "1 messages that are no DNS"),
    (UDP[:-3], "1 messages that are no DNS"),
    (ipv4(17, udp(QUERY, CLIENT, SERVER), CLIENT, SERVER, fragment=0x2000), "1 datagrams in fragments"),
    (ipv4(6, tcp(struct.pack("!H", len(QUERY)) + QUERY, CLIENT, SERVER, 5), CLIENT, SERVER), "1 TCP streams that began before the capture"),
])
def test_what_cannot_be_counted_is_a_flaw(tmp_path: Path, packet: bytes, flaw: str):
    quality = decode_file(written(tmp_path / "x.pcap", packet)).quality
    assert quality.flaws == (flaw,)
    assert not quality.complete

"""Capture files, so that anybody can count again: pcap with nanoseconds, packets from the IP header on (LINKTYPE_RAW).

Sources: pcap-savefile(5), pcap-linktype(7). Reading also takes what tcpdump(8) writes: micro- or nanoseconds, either byte order,
Ethernet, raw IP, and both "cooked" forms.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from harness.errors import StoreDamaged

_NS, _US = 0xA1B23C4D, 0xA1B2C3D4
_RAW, _ETHERNET, _COOKED, _COOKED2 = 101, 1, 113, 276
_SNAPLEN = 1 << 18
_FILE_HEAD = "IHHiIII"
_PACKET_HEAD = "IIII"
_IP = frozenset({0x0800, 0x86DD})


class Captured(NamedTuple):
    """One packet from its IP header on. ``wall_ns`` is the kernel's time of day; ``length`` what it was on the wire."""

    wall_ns: int
    data: bytes
    length: int


class PcapWriter:
    """Writes packets to ``path`` as they come. Errors are those of the file system."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._file.write(struct.pack(f"={_FILE_HEAD}", _NS, 2, 4, 0, 0, _SNAPLEN, _RAW))

    def write(self, packet: Captured) -> None:
        """Append one packet."""
        seconds, rest = divmod(packet.wall_ns, 1_000_000_000)
        self._file.write(struct.pack(f"={_PACKET_HEAD}", seconds, rest, len(packet.data), packet.length) + packet.data)

    def close(self) -> None:
        """Write out what is buffered and close the file."""
        self._file.close()


def read_pcap(path: Path) -> Iterator[Captured]:
    """The IP packets in ``path``, in order; others are left out.

    :raises StoreDamaged: no capture file, a link type that is not read here, or a file that ends in the middle of a packet.
    """
    with path.open("rb") as file:
        order, unit, link = _head(file.read(24), path)
        while head := file.read(16):
            if len(head) < 16:
                raise StoreDamaged("the capture ends in the middle of a packet", where=str(path))
            seconds, rest, kept, length = struct.unpack(f"{order}{_PACKET_HEAD}", head)
            data = file.read(kept)
            if len(data) < kept:
                raise StoreDamaged("the capture ends in the middle of a packet", where=str(path))
            stripped = _ip(link, data)
            if stripped is not None:
                yield Captured(seconds * 1_000_000_000 + rest * unit, stripped, length - (len(data) - len(stripped)))


def _head(head: bytes, path: Path) -> tuple[str, int, int]:
    """Byte order, nanoseconds of the time's smaller unit, and link type."""
    for order in "<>":
        if len(head) == 24:
            magic, *_, link = struct.unpack(f"{order}{_FILE_HEAD}", head)
            link &= 0x0FFFFFFF
            if magic in (_NS, _US):
                if link not in (_RAW, _ETHERNET, _COOKED, _COOKED2):
                    raise StoreDamaged(f"packets of link type {link} are not read here", where=str(path))
                return order, 1 if magic == _NS else 1000, link
    raise StoreDamaged("this is no pcap file", where=str(path))


def _ip(link: int, data: bytes) -> bytes | None:
    """The packet from its IP header on, None for another protocol."""
    if link == _RAW:
        return data
    at, skip = {_ETHERNET: (12, 14), _COOKED: (14, 16), _COOKED2: (0, 20)}[link]
    if len(data) < skip:
        return None
    (protocol,) = struct.unpack_from("!H", data, at)
    return data[skip:] if protocol in _IP else None

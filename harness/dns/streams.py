"""TCP reassembly, one direction of one connection at a time, and the DNS messages in it (RFC 7766 §8: length prefix).

Segments may come twice, overlap, or out of order; a stream with bytes missing is counted, never guessed at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.dns.packets import SYN, Segment
from harness.model.dns import Party

_HALF, _WRAP = 1 << 31, 1 << 32
#: Bytes of one stream that may wait for a missing segment.
_WAITING_MAX = 4 << 20
_PREFIX = 2


def _ahead(seq: int, of: int) -> int:
    """How far ``seq`` is ahead of ``of`` (negative: behind), modulo 2³² (RFC 1982)."""
    return (seq - of + _HALF) % _WRAP - _HALF


@dataclass
class Stream:
    """The bytes that one end has sent."""

    first: int
    next_seq: int
    ready: bytearray = field(default_factory=bytearray)
    waiting: dict[int, bytes] = field(default_factory=dict)
    broken: bool = False

    def feed(self, seq: int, data: bytes) -> None:
        """Take a segment's payload; what is there already is not taken twice."""
        if not data or self.broken:
            return
        kept = self.waiting.get(seq, b"")
        self.waiting[seq] = data if len(data) > len(kept) else kept
        self._advance()
        self.broken = sum(map(len, self.waiting.values())) > _WAITING_MAX

    def messages(self) -> Iterator[bytes]:
        """Whole DNS messages that have come together so far; each once."""
        while len(self.ready) >= _PREFIX:
            (length,) = struct.unpack_from("!H", self.ready)
            if len(self.ready) < _PREFIX + length:
                return
            message = bytes(self.ready[_PREFIX:_PREFIX + length])
            del self.ready[:_PREFIX + length]
            yield message

    @property
    def gap(self) -> bool:
        """Whether bytes are missing in the middle."""
        return self.broken or bool(self.waiting)

    def _advance(self) -> None:
        moved = True
        while moved:
            moved = False
            for seq in sorted(self.waiting, key=lambda s: _ahead(s, self.next_seq)):
                ahead = _ahead(seq, self.next_seq)
                if ahead > 0:
                    break
                fresh = self.waiting.pop(seq)[-ahead:] if ahead else self.waiting.pop(seq)
                self.ready += fresh
                self.next_seq = (self.next_seq + len(fresh)) % _WRAP
                moved = True


class Streams:
    """All TCP streams of a capture.

    ``midstream`` counts those whose beginning was not seen, :meth:`gaps` those with bytes missing. A stream is kept until its ports
    are used again, since data may be sent again after a FIN.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[Party, Party], Stream] = {}
        self._gaps = 0
        self.midstream = 0

    def feed(self, segment: Segment) -> list[bytes]:
        """Take a segment; the DNS messages that are whole with it."""
        key, first = (segment.source, segment.target), segment.seq
        if segment.flags & SYN:
            first = (segment.seq + 1) % _WRAP
            self._begin(key, first)
        stream = self._open.get(key)
        if stream is None:
            if not segment.payload:
                return []
            self.midstream += 1
            stream = self._open[key] = Stream(first, first)
        stream.feed(first, segment.payload)
        return list(stream.messages())

    def gaps(self) -> int:
        """Streams with missing bytes so far."""
        return self._gaps + sum(s.gap for s in self._open.values())

    def _begin(self, key: tuple[Party, Party], first: int) -> None:
        known = self._open.get(key)
        if known is not None and known.first == first:
            return  # the same SYN again
        self._gaps += known is not None and known.gap
        self._open[key] = Stream(first, first)

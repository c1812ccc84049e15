"""Passive capture of DNS in one network namespace, exact to the packet, written as pcap while it goes on.

A packet socket sees each packet that this namespace sends or gets, without being in its way (packet(7)). The filter for the
port runs in the kernel; the kernel also counts what it could not hand over, and a capture with drops is no measurement.
On the loopback interface each packet passes twice; the copy that leaves is left out. Limit: in a namespace that forwards, a
packet is seen on every interface it passes; name the interface there.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.dns.netns import inside
from harness.dns.pcap import Captured, PcapWriter
from harness.errors import NotReady

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_OTHERHOST, _OUTGOING, _LOOPBACK = 3, 4, 772
_BUFFER = 64 << 20
_PACKET_MAX = 1 << 18
_POLL_S = 0.1

# Classic BPF (bpf in socket(7), kernel Documentation/networking/filter): opcode, jump if true, jump if false, k.
_LDB, _LDH, _LDH_X, _LDX_MSH, _RSH, _JEQ, _JSET, _RET = 0x30, 0x28, 0x48, 0xB1, 0x74, 0x15, 0x45, 0x06


_ALL = 0xFFFFFFFF


def _filter(port: int) -> list[tuple[int, int, int, int]]:
    """TCP or UDP from or to ``port``; of IPv4 no later fragments, of IPv6 any extension header (looked at in user space)."""
    return _assemble([
        ("", _LDB, "", "", 0), ("", _RSH, "", "", 4), ("", _JEQ, "v4", "", 4), ("", _JEQ, "v6", "drop", 6),
        ("v4", _LDB, "", "", 9), ("", _JEQ, "v4 first", "", 17), ("", _JEQ, "v4 first", "drop", 6),
        ("v4 first", _LDH, "", "", 6), ("", _JSET, "drop", "", 0x1FFF),
        ("", _LDX_MSH, "", "", 0), ("", _LDH_X, "", "", 0), ("", _JEQ, "keep", "", port), ("", _LDH_X, "", "", 2), ("", _JEQ, "keep", "drop", port),
        ("v6", _LDB, "", "", 6), ("", _JEQ, "v6 ports", "", 17), ("", _JEQ, "v6 ports", "", 6),
        ("", _JEQ, "drop", "", 58), ("", _JEQ, "drop", "keep", 59),  # ICMPv6 and "no next header"; others may hide a port
        ("v6 ports", _LDH, "", "", 40), ("", _JEQ, "keep", "", port), ("", _LDH, "", "", 42), ("", _JEQ, "keep", "drop", port),
        ("keep", _RET, "", "", _ALL), ("drop", _RET, "", "", 0),
    ])


def _assemble(lines: list[tuple[str, int, str, str, int]]) -> list[tuple[int, int, int, int]]:
    """Labels to distances; "" is the next line."""
    at = {label: i for i, (label, *_) in enumerate(lines) if label}
    return [(op, at.get(yes, i + 1) - i - 1, at.get(no, i + 1) - i - 1, k) for i, (_, op, yes, no, k) in enumerate(lines)]


def packet_socket(interface: str, port: int, *, buffer: int = _BUFFER) -> socket.socket:
    """A packet socket of the current namespace that gets DNS and nothing else, from the moment it is bound.

    :param interface: its name; "" = all of the namespace. :param buffer: bytes the kernel may hold for us.
    :raises NotReady: no such interface, or not root.
    """
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except PermissionError as error:
        raise NotReady("capturing packets needs root (CAP_NET_RAW)") from error
    try:
        _attach(made, _filter(port))
        _hold(made, buffer)
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _bind(made, socket.if_nametoindex(interface) if interface else 0)
    except OSError as error:
        made.close()
        raise NotReady(f"cannot capture: {error.strerror}", where=interface or "all interfaces") from error
    return made


def _hold(made: socket.socket, buffer: int) -> None:
    """As much as is asked for, or where that is not allowed (no CAP_NET_ADMIN) as much as the kernel gives anyone; drops are counted either way."""
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)


def _attach(made: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Let only what ``program`` keeps into the socket's queue; what is in it stays."""
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    held = ctypes.create_string_buffer(code, len(code))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(held)))


def _bind(made: socket.socket, index: int) -> None:
    """bind(2) with a sockaddr_ll; Python's own has no way to say "all interfaces"."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index, 0, 0, 0, b"")
    if libc.bind(made.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Capture:
    """A capture that runs until :meth:`stop`.

    :param path: the pcap file; it is complete after ``stop``. :param port: the one that the socket filters for.
    :ivar packets: packets that passed the filter, as the kernel counts them, drops included. :ivar drops: those it could not hand over.
    :ivar broken: why it ended early, "" where it did not.
    :ivar wall_minus_run_ns: time of day minus the run's clock, when the capture began.
    """

    def __init__(self, socket_: socket.socket, path: Path, port: int = 53) -> None:
        self.path, self.port = path, port
        self.packets = self.drops = self.cut = self.taken = 0
        self.broken = ""
        self.wall_minus_run_ns = time.time_ns() - time.monotonic_ns()
        self._socket, self._writer = socket_, PcapWriter(path)
        self._stop = threading.Event()
        self._socket.settimeout(_POLL_S)
        self._thread = threading.Thread(target=self._read, name="dns capture", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let nothing more in, read what the kernel still holds, then its counters, and close. What was sent before is in the file."""
        with suppress(OSError):  # the interface is gone: _read says so
            _attach(self._socket, [(_RET, 0, 0, 0)])
        self._stop.set()
        self._thread.join()
        self._count()
        self._socket.close()
        self._writer.close()

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                self._one(0)
            while self._one(socket.MSG_DONTWAIT):
                pass
        except OSError as error:
            self.broken = f"the capture broke: {error.strerror or error}"

    def _one(self, flags: int) -> bool:
        """Take one packet; False when there is none for a while (with MSG_DONTWAIT: now)."""
        try:
            data, extra, got, source = self._socket.recvmsg(_PACKET_MAX, 64, flags)
        except (TimeoutError, BlockingIOError):
            return False
        self.taken += 1
        kind, hardware = source[2], source[3]
        if kind == _OTHERHOST or (kind == _OUTGOING and hardware == _LOOPBACK):
            return True
        self.cut += bool(got & socket.MSG_TRUNC)
        self._writer.write(Captured(_stamp(extra), data, len(data)))
        return True

    def _count(self) -> None:
        """The kernel's counters: packets include the drops (packet(7)). They must agree with what was taken."""
        self.packets, self.drops = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if not self.broken and self.taken != self.packets - self.drops:
            self.broken = f"{self.taken} packets were taken, but the kernel handed over {self.packets - self.drops}"


def _stamp(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, rest = struct.unpack("qq", data[:16])
            return int(seconds) * 1_000_000_000 + int(rest)
    return time.time_ns()


@contextmanager
def capturing(namespace: Path, path: Path, *, interface: str = "", port: int = 53, buffer: int = _BUFFER) -> Iterator[Capture]:
    """Capture DNS in ``namespace`` into the pcap file ``path`` while the block runs. Errors as of :func:`packet_socket`.

    When the block begins the capture is on; read it with :func:`harness.dns.decode.decode` after the block.
    """
    capture = Capture(inside(namespace, lambda: packet_socket(interface, port, buffer=buffer)), path, port)
    try:
        yield capture
    finally:
        capture.stop()

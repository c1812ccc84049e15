"""TCP and TLS without the loop's transports: non-blocking sockets, all asked for readiness by one epoll, written to at once.

For a connection per mail the loop's own way (a coroutine, a future, a transport and a timer) costs more than the mail. What is
saved beside that: nobody waits for a connection to be established, since a mail server speaks first; its first octets, or an
error, tell. TLS runs between two memory BIOs: what the handshake says last goes out with the owner's first octets, and nothing asks the
kernel about the socket. Sources: epoll(7), connect(2), socket(7), SSL_read(3), SSL_pending(3), BIO_s_mem(3).

Limits: Linux; IP addresses only; TLS ends without close_notify, as ``abort`` of any transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from harness.mail.deadlines import PerLoop

READ_OCTETS = 16384
HELD_OCTETS_MAX = 65536  #: beyond this the owner is asked to pause
AT_ONCE = 256  #: sockets served before others of the loop get their turn
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
#: Errors of a connection that had been established.
_AFTER = frozenset({errno.ECONNRESET, errno.EPIPE})


class Owner(Protocol):
    """Who is told: a subset of asyncio.Protocol, and :meth:`reached`."""

    def reached(self) -> None:
        """The peer has taken the connection."""

    def encrypted(self) -> None:
        """TLS is up."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> Any: ...

    def connection_lost(self, error: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Poller:
    """The epoll of one loop. See :meth:`of`."""

    __slots__ = ("__weakref__", "_epoll", "_open")
    _all: ClassVar[PerLoop[Poller]] = PerLoop()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Poller:
        """The loop's, made when it is first asked for; it lives as long as the loop."""
        return cls._all.get(loop) or cls._all.put(loop, cls(loop))

    def add(self, fd: int, one: PlainSocket, mask: int) -> None:
        """Watch ``fd`` for ``one``."""
        self._open[fd] = one.ready
        self._epoll.register(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        """Watch for something else."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """``fd`` is closed next, which ends its registration."""
        self._open.pop(fd, None)

    def _ready(self) -> None:
        found = self._open.get
        for fd, mask in self._epoll.poll(0, AT_ONCE):
            ready = found(fd)
            if ready is not None:
                ready(mask)


class PlainSocket:
    """One connection, with the methods of asyncio.WriteTransport that mail clients use. Events of a closed socket that was
    replaced by one with its number are harmless: nothing is concluded from an event without asking the socket.

    :param source: local address ("" = the system's choice). :param eager: tell ``reached`` as soon as it is so; else with the first octets.
    :raises OSError: no socket, or no route, or refused at once.
    """

    __slots__ = ("_connecting", "_fd", "_held", "_owner", "_poller", "_shaking", "_socket", "_tls", "_tls_in", "_tls_out")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: Owner, host: str, port: int, family: int, source: str, eager: bool = False
    ) -> None:
        self._owner, self._poller, self._held = owner, Poller.of(loop), bytearray()
        self._socket: socket.SocketType = socket.SocketType(family, _KIND, 0)
        self._tls: ssl.SSLObject | None = None
        self._fd, self._connecting, self._shaking = self._socket.fileno(), True, False
        one = self._socket
        try:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                one.bind((source, 0))
            code = one.connect_ex((host, port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError:
            one.close()
            raise
        self._poller.add(self._fd, self, _IN | _OUT if eager else _IN)

    @property
    def established(self) -> bool:
        """The peer has taken the connection; asked of the kernel."""
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``sockname``, as of a transport."""
        return self._socket.getsockname() if name == "sockname" else default

    def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Begin a TLS handshake as a client; ``encrypted`` or ``connection_lost`` follow, perhaps before this returns.

        :param name: server name to announce and check ("" = none).
        """
        self._tls_in, self._tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._tls_in, self._tls_out, server_hostname=name or None)
        self._shaking = True
        self._shake(self._tls)

    def _shake(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except OSError as error:
            self._flush()  # the alert, so that the peer knows too
            self._lost(error)
        else:
            self._shaking = False
            self._owner.encrypted()
            self._flush()

    def _flush(self) -> None:
        """Send what TLS has to say and nobody wrote."""
        if self._fd >= 0 and self._tls_out.pending:
            self._send(self._tls_out.read())

    def write(self, data: bytes) -> None:
        """Hand over now what the kernel takes, keep the rest. An error shows when reading, behind what the peer said before."""
        if self._tls is None:
            if self._fd >= 0:
                self._send(data)
            return
        try:
            self._tls.write(data)
        except OSError:  # the peer has ended TLS
            self._owner.pause_writing()
        else:
            self._flush()

    def _send(self, data: bytes) -> None:
        if not self._held:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = 0
                self._owner.pause_writing()  # nothing more can be handed over
            if sent == len(data):
                return
            data = data[sent:]
            self._poller.change(self._fd, _IN | _OUT)
        self._held += data
        if len(self._held) >= HELD_OCTETS_MAX:
            self._owner.pause_writing()

    def abort(self) -> None:
        """Close; nobody is told."""
        if self._fd >= 0:
            self._poller.forget(self._fd)
            self._fd = -1
            self._socket.close()

    def ready(self, mask: int) -> None:
        """Something has happened to the socket."""
        if mask & _OUT:
            self._writable()
        if mask != _OUT and self._fd >= 0:
            self._readable()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_OCTETS)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._lost(error)
        if self._connecting:
            self._reached()
        if self._tls is not None:
            return self._decrypt(self._tls, data)
        if not data:
            return self._over()
        return self._owner.data_received(data)

    def _decrypt(self, tls: ssl.SSLObject, data: bytes) -> None:
        """Octets of TLS; none: the peer has closed."""
        if not data and not self._shaking:
            return self._over()
        if data:
            self._tls_in.write(data)
        else:
            self._tls_in.write_eof()
        if self._shaking:
            self._shake(tls)
        while self._fd >= 0 and not self._shaking and (self._tls_in.pending or tls.pending()):
            try:
                plain = tls.read(READ_OCTETS)
            except ssl.SSLWantReadError:
                break
            except OSError as error:
                return self._lost(error)
            if not plain:
                return self._over()
            self._owner.data_received(plain)
        return self._flush()

    def _over(self) -> None:
        self._owner.eof_received()
        self.abort()

    def _lost(self, error: OSError) -> None:
        if self._connecting and error.errno in _AFTER:
            self._reached()
        self.abort()
        self._owner.connection_lost(error)

    def _reached(self) -> None:
        self._connecting = False
        self._owner.reached()

    def _writable(self) -> None:
        if self._connecting and self.established:
            self._reached()
        if self._fd < 0:
            return
        held = bool(self._held)
        if held:
            try:
                del self._held[: self._socket.send(self._held)]
            except OSError:
                return  # not yet, or an error, which shows when reading
        if not self._held:
            self._poller.change(self._fd, _IN)
            if held:
                self._owner.resume_writing()


@lru_cache(maxsize=1024)
def family_of(host: str) -> int:
    """AF_INET or AF_INET6; 0 when ``host`` is not an IP address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return 0

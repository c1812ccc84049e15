"""A proxy on loopback before an API server, that can be cut: how the API goes away without touching the cluster.

It carries octets, TLS included: kind's certificates hold 127.0.0.1, and the kubeconfig that :class:`Proxy` writes differs from the
target's in the port alone.
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from harness.errors import NotSupported
from harness.model.target import Target

_SERVER = re.compile(r"(?m)^(\s*(?:- )?server: https?://)(127\.0\.0\.1):(\d+)")
_UP_S = 10.0


class Proxy:
    """Use as a context manager; ``target`` is then the cluster by way of the proxy.

    :param folder: where its kubeconfig goes. :raises NotSupported: the API server is not on this host's loopback.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        config = Path(target.kubeconfig).read_text()
        found = _SERVER.search(config)
        if found is None:
            raise NotSupported("the API server is not on loopback")
        self._config, self._real, self._folder = config, int(found[3]), folder
        self.target, self._is_cut = target, False
        self._writers: set[asyncio.StreamWriter] = set()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._up.wait(_UP_S):
            raise TimeoutError("the proxy did not come up")
        path = self._folder / "kubeconfig-by-proxy"
        path.touch(mode=0o600)
        path.write_text(_SERVER.sub(rf"\g<1>\g<2>:{self._port}", self._config))
        self.target = replace(self.target, kubeconfig=str(path))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_UP_S)

    def cut(self) -> None:
        """From now on every connection ends at once, those that are open included."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._end.wait()
        server.close()
        self._abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._real)
        self._writers |= {writer, back}
        await asyncio.gather(_pour(reader, back), _pour(there, writer))
        self._writers -= {writer, back}


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()

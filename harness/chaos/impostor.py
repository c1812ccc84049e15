"""Runs in the impostor's pod, given to its Python as text: listens where a dependency should, and behaves as told.

``python3 -c <this file> MODE DELAY_S PORT,PORT HOST,HOST``. Modes: ``silent`` takes connections and says nothing, ``garbage`` answers with
octets that are no protocol and closes, ``slow`` passes everything on to a HOST, each piece ``DELAY_S`` late. Counts connections in /tmp/seen. A fifth
argument is the address to listen on (default: all).
"""

import asyncio
import sys
from contextlib import suppress

GARBAGE = bytes(range(256))
SEEN = "/tmp/seen"


class Impostor:
    """One impostor on all its ports."""

    def __init__(self, mode: str, delay_s: float, hosts: list[str]) -> None:
        self.mode, self.delay_s, self.hosts, self.count = mode, delay_s, hosts, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """One connection."""
        self.count += 1
        with open(SEEN, "w") as file:
            file.write(str(self.count))
        with suppress(OSError):
            if self.mode == "garbage":
                await reader.read(1)
                writer.write(GARBAGE)
                await writer.drain()
            elif self.mode == "slow":
                await self._pass_on(reader, writer, port)
            else:
                while await reader.read(65536):
                    pass
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        theirs, ours = await asyncio.open_connection(self.hosts[self.count % len(self.hosts)], port)
        await asyncio.wait([asyncio.ensure_future(self._late(reader, ours)), asyncio.ensure_future(self._late(theirs, writer))])

    async def _late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
        writer.close()


async def main(mode: str, delay_s: str, ports: str, hosts: str, own: str | None = None) -> None:
    """Serve until killed."""
    one = Impostor(mode, float(delay_s), hosts.split(","))
    servers = []
    for port in map(int, ports.split(",")):
        servers.append(await asyncio.start_server(lambda r, w, p=port: one.serve(r, w, p), own, port))  # type: ignore[misc]
    with open(SEEN, "w") as file:
        file.write("0")
    await asyncio.gather(*(s.serve_forever() for s in servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))

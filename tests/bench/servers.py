"""Small servers for the bench, each a process of its own: ``python -m tests.bench.servers starttls|tls|idle PORT [CERT KEY]``.

``starttls``: SMTP that only greets and encrypts. ``tls``: closes after the handshake. ``idle``: IMAP that logs anybody in and
then idles; real servers would need a process for each of 10,000 connections.
"""

from __future__ import annotations

import asyncio
import ssl
import sys


class Smtp(asyncio.Protocol):
    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = transport.get_extra_info("ssl_object") is not None
        self.transport = transport
        if not secured:
            transport.write(b"220 bench ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        for line in data.split(b"\r\n")[:-1]:
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.transport.write(b"250-bench\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
            elif verb == b"STAR":
                self.transport.write(b"220 2.0.0 go\r\n")
                self.task = asyncio.get_running_loop().create_task(self.wrap())
            else:
                self.transport.write(b"221 2.0.0 bye\r\n")
                self.transport.close()

    async def wrap(self) -> None:
        try:
            self.transport = await asyncio.get_running_loop().start_tls(self.transport, self, self.context, server_side=True)
        except OSError:
            self.transport.close()


class Idle(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.tag = transport, b""
        transport.write(b"* OK [CAPABILITY IMAP4rev1 IDLE] bench\r\n")

    def data_received(self, data: bytes) -> None:
        for line in data.split(b"\r\n")[:-1]:
            tag, _, rest = line.partition(b" ")
            verb = rest[:4].upper()
            if line.upper() == b"DONE":
                self.transport.write(self.tag + b" OK idled\r\n")
            elif verb == b"IDLE":
                self.tag = tag
                self.transport.write(b"+ idling\r\n")
            elif verb == b"SELE":
                self.transport.write(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n" + tag + b" OK [READ-WRITE] selected\r\n")
            else:
                self.transport.write(tag + b" OK done\r\n")


class Hangup(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def serve(kind: str, port: int, files: list[str]) -> None:
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    loop = asyncio.get_running_loop()
    made = {"starttls": lambda: Smtp(context), "idle": Idle, "tls": Hangup}[kind]
    server = await loop.create_server(made, "127.0.0.1", port, backlog=4096, ssl=context if kind == "tls" else None)
    await server.serve_forever()


if __name__ == "__main__":
    import resource

    import uvloop

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))

"""The PROXY v2 header, read back by an independent parser."""

from __future__ import annotations

import asyncio

import pytest
from aiosmtpd.proxy_protocol import get_proxy

from harness.mail.proxy import header


@pytest.mark.parametrize(
    ("client", "server", "seen"),
    [("198.51.100.7", "127.0.0.1", ("198.51.100.7", "127.0.0.1")), ("2001:db8::7", "::1", ("2001:db8::7", "::1")),
     ("2001:db8::7", "192.0.2.1", ("2001:db8::7", "::ffff:192.0.2.1")), ("198.51.100.7", "fe80::1%eth0", ("::ffff:198.51.100.7", "fe80::1"))],
)  # fmt: skip
def test_header_reads_back(client: str, server: str, seen: tuple[str, str]) -> None:
    async def read() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(header(client, 4711, server, 25) + b"EHLO x\r\n")
        reader.feed_eof()
        proxy = await get_proxy(reader)
        assert proxy.valid, proxy.error
        assert await reader.read() == b"EHLO x\r\n"
        return tuple(map(str, (proxy.src_addr, proxy.dst_addr))), proxy.src_port, proxy.dst_port

    addresses, source, target = asyncio.run(read())  # type: ignore[misc]
    assert [str(__import__("ipaddress").ip_address(a)) for a in addresses] == [str(__import__("ipaddress").ip_address(a)) for a in seen]
    assert (source, target) == (4711, 25)


def test_not_an_address() -> None:
    with pytest.raises(ValueError, match="mx"):
        header("mx.example.net", 1, "127.0.0.1", 25)

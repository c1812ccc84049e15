"""The outside world: an SMTP server that records every mail and misbehaves on demand.

A mail is recorded as one JSON line in ``RECORDS/<host>.jsonl`` (written before the reply to its final dot, in one write(2)), and without
its text on standard output: ``{"kind": "mail", "host", "t" (Unix time), "client", "helo", "from", "rcpts", "size", "tls", "message" (base64)}``.
Refused recipients and mails are recorded as ``{"kind": "refused", "host", "t", "client", "stage", "reply", "rcpt"}``.

What a recipient asks for, by its local part up to "+" or "." (or by its domain's first label, for every recipient of it):
``defer`` 451 at RCPT · ``reject`` 550 at RCPT · ``defer-dot`` 451 to the final dot · ``reject-dot`` 554 to the final dot ·
``slow``, ``slow-N`` a pause of 5 or N seconds (at most 300) before the reply to the final dot · anything else is accepted.

Limits: no BDAT, no 8-bit addresses; a message is held in memory (at most 32 MiB). Source: RFC 5321.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

LINE_MAX = 4096
MESSAGE_MAX = 32 << 20
IDLE_S = 300.0
SLOW_S_MAX = 300.0
SLOW_S = 5.0


def behaviour(address: str) -> tuple[str, float]:
    """What ``address`` asks for, and the seconds to wait: ("accept", 0.0), ("defer", 0.0), ("slow", 5.0), …"""
    local, _, domain = address.lower().rpartition("@")
    for word in (local.split("+")[0].split(".")[0], domain.split(".")[0]):
        if word in ("defer", "reject", "defer-dot", "reject-dot"):
            return word, 0.0
        head, _, seconds = word.partition("-")
        if head == "slow" and (not seconds or seconds.isdigit()):
            return "slow", min(float(seconds or SLOW_S), SLOW_S_MAX)
    return "accept", 0.0


class Records:
    """The file of records of one host. ``add`` returns once the kernel has the line."""

    def __init__(self, folder: Path, host: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self._fd = os.open(folder / f"{host}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._end_cut_line(folder / f"{host}.jsonl")

    def _end_cut_line(self, path: Path) -> None:
        """A line that a killed predecessor left unfinished must not swallow the next one."""
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            if size and (handle.seek(size - 1), handle.read(1))[1] != b"\n":
                os.write(self._fd, b"\n")

    def add(self, kind: str, text: bytes | None = None, **fields: object) -> None:
        """Append one record; ``text`` is the message, which standard output does not get."""
        record = {"kind": kind, "host": self.host, "t": round(time.time(), 6), **fields}
        print(json.dumps(record), flush=True)
        if text is not None:
            record["message"] = base64.b64encode(text).decode()
        line = memoryview(json.dumps(record).encode() + b"\n")
        while line:
            line = line[os.write(self._fd, line) :]


@dataclass
class Envelope:
    """A transaction: what MAIL and RCPT said."""

    sender: str | None = None
    rcpts: list[str] = field(default_factory=list)


class Session:
    """One connection."""

    def __init__(self, records: Records, tls: ssl.SSLContext | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._records, self._tls, self._reader, self._writer = records, tls, reader, writer
        self._helo, self._secure, self._open = "", False, True
        self._mail = Envelope()
        self._client = str(writer.get_extra_info("peername")[0]).removeprefix("::ffff:")

    async def run(self) -> None:
        """Serve until QUIT, the peer's end, or IDLE_S seconds of silence."""
        try:
            await self._say(f"220 {self._records.host} ESMTP sink")
            while self._open:
                line = await asyncio.wait_for(self._reader.readline(), IDLE_S)
                if not line:
                    return
                await self._command(line.decode("utf-8", "replace").strip())
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return  # the peer is gone, or does not speak SMTP
        finally:
            self._writer.close()

    async def _say(self, *lines: str) -> None:
        last = len(lines) - 1
        text = "".join(f"{one[:3]}{' ' if n == last else '-'}{one[4:]}\r\n" for n, one in enumerate(lines))
        self._writer.write(text.encode())
        await self._writer.drain()

    async def _command(self, line: str) -> None:
        verb = line.split(" ", 1)[0].upper()
        handler = {
            "EHLO": self._ehlo, "HELO": self._ehlo, "MAIL": self._from, "RCPT": self._rcpt, "DATA": self._data, "QUIT": self._quit,
            "RSET": self._rset, "NOOP": self._noop, "STARTTLS": self._starttls,
        }.get(verb)
        if handler is None:
            await self._say("502 5.5.2 no such command")
            return
        await handler(line)

    async def _ehlo(self, line: str) -> None:
        self._helo, self._mail = line[5:].strip(), Envelope()
        extra = ["250 STARTTLS"] if self._tls and not self._secure else []
        if line[:4].upper() == "HELO":
            await self._say(f"250 {self._records.host}")
        else:
            await self._say(f"250 {self._records.host}", f"250 SIZE {MESSAGE_MAX}", "250 PIPELINING", "250 8BITMIME", *extra, "250 ENHANCEDSTATUSCODES")

    async def _starttls(self, _: str) -> None:
        if self._tls is None or self._secure:
            await self._say("502 5.5.1 no TLS here")
            return
        await self._say("220 2.0.0 go ahead")
        await self._writer.start_tls(self._tls)
        self._secure, self._mail, self._helo = True, Envelope(), ""

    async def _from(self, line: str) -> None:
        self._mail = Envelope(sender=_path(line))
        await self._say("250 2.1.0 ok")

    async def _rcpt(self, line: str) -> None:
        rcpt = _path(line)
        if self._mail.sender is None or not rcpt:
            await self._say("503 5.5.1 MAIL first, then RCPT TO:<address>")
            return
        what, _ = behaviour(rcpt)
        reply = {"defer": "451 4.3.0 not now", "reject": "550 5.1.1 no such user"}.get(what)
        if reply is None:
            self._mail.rcpts.append(rcpt)
        else:
            self._records.add("refused", client=self._client, stage="RCPT", reply=reply, rcpt=rcpt)
        await self._say(reply or "250 2.1.5 ok")

    async def _data(self, _: str) -> None:
        if not self._mail.rcpts:
            await self._say("503 5.5.1 no valid recipients")
            return
        await self._say("354 go on")
        text = await self._body()
        if text is None:
            await self._say("552 5.3.4 too big")
        else:
            await self._take(text)
        self._mail = Envelope()

    async def _body(self) -> bytes | None:
        """The message with dots unstuffed; None when it was too big (it is read to its end all the same)."""
        lines, size = [], 0
        while (line := await asyncio.wait_for(self._reader.readuntil(b"\n"), IDLE_S)) not in (b".\r\n", b".\n"):
            size += len(line)
            if size <= MESSAGE_MAX:
                lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines) if size <= MESSAGE_MAX else None

    async def _take(self, text: bytes) -> None:
        wanted = [behaviour(r) for r in self._mail.rcpts]
        await asyncio.sleep(max(seconds for _, seconds in wanted))
        kinds = {kind for kind, _ in wanted}
        refusal = "554 5.7.1 not wanted" if "reject-dot" in kinds else "451 4.3.0 not now" if "defer-dot" in kinds else None
        if refusal:
            self._records.add("refused", client=self._client, stage="DOT", reply=refusal, rcpt=self._mail.rcpts)
        else:
            self._records.add(
                "mail", text, client=self._client, helo=self._helo, **{"from": self._mail.sender}, rcpts=self._mail.rcpts,
                size=len(text), tls=self._secure,
            )
        await self._say(refusal or "250 2.0.0 recorded")

    async def _rset(self, _: str) -> None:
        self._mail = Envelope()
        await self._say("250 2.0.0 ok")

    async def _noop(self, _: str) -> None:
        await self._say("250 2.0.0 ok")

    async def _quit(self, _: str) -> None:
        self._open = False
        await self._say("221 2.0.0 bye")


def _path(line: str) -> str:
    """The address in ``MAIL FROM:<address>`` or ``RCPT TO:<address>``; "" for <> and for what is none."""
    return line.partition("<")[2].partition(">")[0]


def _tls(folder: Path) -> ssl.SSLContext | None:
    if not (folder / "tls.key").exists():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def serve(records: Records, tls: ssl.SSLContext | None, port: int) -> None:
    """Listen on IPv4 and IPv6 until SIGTERM; then take no more, and let open sessions end for up to 5 s."""
    stop, sessions = asyncio.Event(), set[asyncio.Task[None]]()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        sessions.add(task)
        task.add_done_callback(sessions.discard)
        await Session(records, tls, reader, writer).run()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256) as listener:
        server = await asyncio.start_server(session, sock=listener, limit=1 << 20)
        print(json.dumps({"kind": "listening", "host": records.host, "port": port}), flush=True)
        await stop.wait()
        server.close()
    if sessions:
        await asyncio.wait(sessions, timeout=5.0)


def main() -> None:
    """Environment: RECORDS (folder), SECRETS (folder with tls.crt and tls.key), PORT."""
    records = Records(Path(os.environ.get("RECORDS", "/records")), socket.gethostname())
    asyncio.run(serve(records, _tls(Path(os.environ.get("SECRETS", "/secrets"))), int(os.environ.get("PORT", "25"))))


if __name__ == "__main__":
    sys.exit(main())

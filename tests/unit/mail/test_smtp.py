"""What goes over the wire, against scripted servers and real ones (aiosmtpd)."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from harness.errors import MailgaleError
from harness.mail.commands import stuffed
from harness.mail.smtp import ConnectError, Endpoint, Envelope, MailOptions, connect
from harness.mail.tls import client_context
from tests.servers.certificates import make_certificate
from tests.servers.mailservers import free_port
from tests.servers.peers import EHLO, Peer, serve, smtp
from tests.unit.mail.drive import QUICK, Run, Seen, deliver, go, mail

SIMPLE = b"250 peer.example\r\n"


def talk(envelopes: list[Envelope], *, lmtp: bool = False, quit_early: bool = False, options: Any = QUICK, **bad: Any) -> tuple[Run, Peer]:
    async def work() -> tuple[Run, Peer]:
        async with serve(smtp(bad, lmtp=lmtp)) as server:
            run = await deliver(server.port, envelopes, dataclasses.replace(options, lmtp=lmtp), quit_early=quit_early)
            return run, server.peers[0]

    return go(work)


def test_pipelined_dialogue() -> None:
    run, peer = talk([mail("b@example.org", "c@example.org", body=b"Subject: x\r\n\r\n.dot\r\nend")])
    assert run.outcomes() == [("OK", "DOT", 250)] * 2
    assert peer.heard == [
        b"EHLO client.example\r\n", b"MAIL FROM:<a@example.net> SIZE=23\r\n", b"RCPT TO:<b@example.org>\r\n", b"RCPT TO:<c@example.org>\r\n",
        b"DATA\r\n", b"QUIT\r\n",
    ]  # fmt: skip
    assert peer.messages == [b"Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n"]
    assert run.seen.results[0][1][0].text == "Ok: queued as 4711"


@pytest.mark.parametrize(("body", "wire"), [(b".", b"..\r\n"), (b"", b""), (b"a\r\n.\r\n", b"a\r\n..\r\n"), (b"a\r\n..b", b"a\r\n...b\r\n")])
def test_dots(body: bytes, wire: bytes) -> None:
    assert stuffed(body) == wire


def test_timings_are_in_order() -> None:
    run, _ = talk([mail()])
    t = run.seen.results[0][2]
    assert 0 < t.started_ns <= t.envelope_ns <= t.handed_ns <= t.ended_ns


def test_without_pipelining_one_command_at_a_time() -> None:
    run, peer = talk([mail("b@example.org", "c@example.org"), mail()], EHLO=SIMPLE, RCPT=[b"550 5.1.1 who\r\n", b"250 ok\r\n"])
    assert run.outcomes(0) == [("FAIL", "RCPT", 550), ("OK", "DOT", 250)]
    assert run.outcomes(1) == [("OK", "DOT", 250)]
    assert b"MAIL FROM:<a@example.net>\r\n" in peer.heard


@pytest.mark.parametrize("ehlo", [EHLO, SIMPLE])
def test_refused_recipients_and_the_next_mail(ehlo: bytes) -> None:
    run, peer = talk([mail(), mail()], EHLO=ehlo, RCPT=[b"450 4.7.1 no\r\n", b"250 ok\r\n"], DATA=[b"554 5.5.1 none\r\n", b"354 go\r\n"] if ehlo == EHLO else b"354 go\r\n")
    assert run.outcomes(0) == [("FAIL", "RCPT", 450)]
    assert run.outcomes(1) == [("OK", "DOT", 250)]
    assert b"RSET\r\n" in peer.heard


def test_354_without_recipients_gets_an_empty_message() -> None:
    run, peer = talk([mail(), mail()], RCPT=[b"450 4.7.1 no\r\n", b"250 ok\r\n"], DOT=[b"554 5.5.1 none\r\n", b"250 ok\r\n"])
    assert [run.outcomes(0), run.outcomes(1)] == [[("FAIL", "RCPT", 450)], [("OK", "DOT", 250)]]
    assert peer.messages[0] == b".\r\n"


def test_connection_per_mail_puts_quit_behind_the_dot() -> None:
    run, peer = talk([mail()], quit_early=True)
    assert run.outcomes() == [("OK", "DOT", 250)]
    assert peer.heard[-1] == b"QUIT\r\n"
    assert run.seen.reason == "quit"


def test_lmtp_each_recipient_has_its_reply() -> None:
    run, peer = talk(
        [mail("b@example.org", "c@example.org", "d@example.org"), mail()], lmtp=True,
        RCPT=[b"250 ok\r\n", b"550 5.1.1 who\r\n", b"250 ok\r\n"], DOT=[b"250 2.0.0 ok\r\n", b"452 4.2.2 full\r\n", b"250 ok\r\n"],
    )  # fmt: skip
    assert run.outcomes(0) == [("OK", "DOT", 250), ("FAIL", "RCPT", 550), ("FAIL", "DOT", 452)]
    assert run.outcomes(1) == [("OK", "DOT", 250)]
    assert peer.heard[0].startswith(b"LHLO ")


def test_lmtp_cut_after_the_first_reply() -> None:
    run, _ = talk([mail("b@example.org", "c@example.org")], lmtp=True, DOT=[b"250 ok\r\n", "close"])
    assert run.outcomes() == [("OK", "DOT", 250), ("INFO", "DOT", 0)]


def test_parameters_only_where_announced() -> None:
    options = MailOptions(eight_bit=True, ret="HDRS", envid="e1", notify="SUCCESS")
    _, peer = talk([Envelope(b"", [b"b@example.org"], b"x\r\n", options=options)], EHLO=b"250-x\r\n250-8bitmime\r\n250 DSN\r\n")
    assert peer.heard[1:3] == [b"MAIL FROM:<> BODY=8BITMIME RET=HDRS ENVID=e1\r\n", b"RCPT TO:<b@example.org> NOTIFY=SUCCESS\r\n"]
    _, peer = talk([Envelope(b"", [b"b@example.org"], b"x\r\n", options=options)], EHLO=SIMPLE)
    assert peer.heard[1:3] == [b"MAIL FROM:<>\r\n", b"RCPT TO:<b@example.org>\r\n"]


def test_smtputf8_is_never_sent_to_a_server_without_it() -> None:
    run, peer = talk([mail("bü@example.org"), mail()])
    assert run.outcomes(0) == [("FAIL", "MAIL", 0)]
    assert "SMTPUTF8" in run.seen.results[0][1][0].text
    assert (run.seen.results[0][1][0].enhanced, run.seen.results[0][1][0].permanent) == ("5.6.7", True)
    assert run.outcomes(1) == [("OK", "DOT", 250)]
    assert not any(b"b\xc3" in line for line in peer.heard)
    run, peer = talk([mail("bü@example.org")], EHLO=b"250-x\r\n250 SMTPUTF8\r\n")
    assert run.outcomes(0) == [("OK", "DOT", 250)]
    assert peer.heard[1] == b"MAIL FROM:<a@example.net> SMTPUTF8\r\n"


@pytest.mark.parametrize("address", [b"b@example.org>\r\nRCPT TO:<evil@example.org", b"b\n", b"b\0"])
def test_no_command_can_be_injected(address: bytes) -> None:
    async def work() -> None:
        async with serve(smtp()) as server:
            seen = Seen([Envelope(b"a@example.net", [address], b"x")])
            seen.on_ready = lambda session: None  # type: ignore[method-assign]
            session = await connect(asyncio.get_running_loop(), Endpoint("127.0.0.1", server.port), QUICK, seen)
            while not session.can_follow:
                await asyncio.sleep(0.01)
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                session.send(seen.envelopes[0])
            session.abort()
            with pytest.raises(MailgaleError):
                session.send(mail())

    go(work)


def test_ledger_hook_comes_before_the_first_byte() -> None:
    held: list[Callable[[], None]] = []

    async def work() -> None:
        async with serve(smtp()) as server:
            seen = Seen([mail(token=1)])
            await connect(asyncio.get_running_loop(), Endpoint("127.0.0.1", server.port), dataclasses.replace(QUICK, after_write=held.append), seen)
            while not held:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert seen.started == [1]
            assert not any(b"MAIL" in line for line in server.peers[0].heard)
            held.pop()()
            await seen.over.wait()
            assert seen.results[0][1][0].code == 250

    go(work)


def test_helo_for_servers_without_ehlo() -> None:
    run, peer = talk([mail()], EHLO=b"502 5.5.1 what\r\n")
    assert run.outcomes() == [("OK", "DOT", 250)]
    assert peer.heard[1] == b"HELO client.example\r\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nobody_listens(loop: str) -> None:
    async def work() -> None:
        async with serve(smtp()) as server:
            port = server.port
        seen = Seen([mail()])
        with pytest.raises(ConnectError) as caught:
            await connect(asyncio.get_running_loop(), Endpoint("127.0.0.1", port), QUICK, seen)
        assert caught.value.stage.name == "CONNECT"
        assert seen.closed_times == 0

    go(work, loop)


@pytest.mark.parametrize(("host", "client"), [("127.0.0.1", "198.51.100.7"), ("::1", "2001:db8::7")])
def test_proxy_header_and_source(host: str, client: str) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        head = await peer.reader.readexactly(16)
        heads.append(head + await peer.reader.readexactly(int.from_bytes(head[14:16], "big")))
        await smtp()(peer)

    async def work() -> Run:
        async with serve(script, host) as server:
            source = "127.0.0.9" if host != "::1" else ""
            run = await deliver(0, [mail()], endpoint=Endpoint(host, server.port, proxy_client=client, source=source))
            peername = server.peers[0].writer.get_extra_info("peername")[0]
            assert peername == (source or "::1")
            return run

    assert go(work).outcomes() == [("OK", "DOT", 250)]
    import ipaddress

    assert ipaddress.ip_address(client).packed in heads[0]


# a real server


class Box:
    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append((session, envelope))
        return "250 2.0.0 taken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def aiosmtpd(box: Box, certificate: tuple[Path, Path], **kwargs: Any) -> Controller:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"u@example.org", b"geheim"), handled=False)

    if kwargs.pop("implicit", False):
        kwargs["ssl_context"] = context
    else:
        kwargs["tls_context"] = context
    return Controller(box, "127.0.0.1", free_port(), authenticator=check, auth_required=True, auth_require_tls=True, enable_SMTPUTF8=True, **kwargs)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN"])
def test_starttls_and_auth(certificate: tuple[Path, Path], mechanism: str, loop: str) -> None:
    box = Box()
    controller = aiosmtpd(box, certificate)
    controller.start()
    steps: list[str] = []
    try:
        port = controller.port
        options = dataclasses.replace(
            QUICK, username="u@example.org", password="geheim", mechanism=mechanism, tls_context=client_context(str(certificate[0])),
            step_s=5, dot_s=5, connect_s=5, on_step=lambda step, ns: steps.append(step),
        )  # fmt: skip
        run = go(lambda: deliver(0, [mail(), mail("bü@example.org")], options, endpoint=Endpoint("127.0.0.1", port, tls="starttls")), loop)
        assert [run.outcomes(0), run.outcomes(1)] == [[("OK", "DOT", 250)]] * 2
        wrong = dataclasses.replace(options, password="falsch")
        bad = go(lambda: deliver(0, [mail()], wrong, endpoint=Endpoint("127.0.0.1", port, tls="starttls")), loop).seen.bad
    finally:
        controller.stop()
    assert steps[:5] == ["banner", "ehlo", "tls", "ehlo", "auth"]
    assert [e.rcpt_tos for _, e in box.got] == [["b@example.org"], ["bü@example.org"]]
    assert bad is not None
    assert (bad.stage.name, bad.code) == ("AUTH", 535)


def test_certificate_of_nobody_is_refused_when_a_ca_is_given(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path)
    controller = aiosmtpd(Box(), certificate)
    controller.start()
    try:
        port = controller.port
        options = dataclasses.replace(QUICK, tls_context=client_context(str(other)), step_s=5, connect_s=5)
        run = go(lambda: deliver(0, [mail()], options, endpoint=Endpoint("127.0.0.1", port, tls="starttls")))
    finally:
        controller.stop()
    assert run.seen.bad is not None
    assert (run.seen.bad.stage.name, run.seen.bad.outcome.name) == ("TLS", "FAIL")


@pytest.mark.parametrize(
    ("ehlo", "answer", "why"),
    [(b"250 x\r\n", b"", "does not announce"), (b"250 STARTTLS\r\n", b"454 4.7.0 no\r\n", "no"), (b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250 evil\r\n", "in clear"),
     (b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n25", "in clear")],
)  # fmt: skip
def test_starttls_stripped_refused_injected(ehlo: bytes, answer: bytes, why: str) -> None:
    async def script(peer: Peer) -> None:
        for octets in (b"220 x\r\n", ehlo, answer):
            await peer.act(octets)
            await peer.line()

    async def work() -> Run:
        async with serve(script) as server:
            options = dataclasses.replace(QUICK, tls_context=client_context())
            return await deliver(0, [mail()], options, endpoint=Endpoint("127.0.0.1", server.port, tls="starttls"))

    bad = go(work).seen.bad
    assert bad is not None
    assert (bad.stage.name, bad.outcome.name) == ("TLS", "FAIL")
    assert why in bad.text


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("how", ["silent", "garbage", "close"])
def test_tls_handshake_that_never_ends_well(how: str, loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.act(b"220 x\r\n")
        await peer.line()
        await peer.act(b"250-x\r\n250 STARTTLS\r\n")
        await peer.line()
        await peer.act(b"220 go\r\n")
        await peer.reader.readexactly(100)
        await peer.act({"silent": "silent", "garbage": b"this is no TLS\r\n" * 9, "close": "close"}[how])
        await peer.silence()

    async def work() -> Run:
        async with serve(script) as server:
            options = dataclasses.replace(QUICK, tls_context=client_context(), connect_s=0.4)
            return await deliver(0, [mail()], options, endpoint=Endpoint("127.0.0.1", server.port, tls="starttls"))

    run = go(work, loop)
    assert run.took_s < 1.4
    assert run.seen.bad is not None
    assert (run.seen.bad.stage.name, run.seen.bad.outcome.name) == ("TLS", "FAIL")


def test_xoauth2() -> None:
    async def script(peer: Peer, good: bool) -> None:
        await peer.act(b"220 x\r\n")
        await peer.line()
        await peer.act(b"250-x\r\n250 AUTH XOAUTH2\r\n")
        line = await peer.line()
        import base64

        assert base64.b64decode(line.split()[2]) == b"user=u@example.org\x01auth=Bearer token\x01\x01"
        if not good:
            await peer.act(b"334 eyJ9\r\n")
            assert await peer.line() == b"\r\n"
            await peer.act(b"535 5.7.8 no\r\n")
        await peer.act(b"235 2.7.0 ok\r\n")
        await smtp({"BANNER": b""})(peer)

    async def work(good: bool) -> Run:
        async with serve(lambda peer: script(peer, good)) as server:
            options = dataclasses.replace(QUICK, username="u@example.org", password="token", mechanism="XOAUTH2")
            return await deliver(server.port, [mail()], options)

    assert go(lambda: work(True)).outcomes() == [("OK", "DOT", 250)]
    bad = go(lambda: work(False)).seen.bad
    assert bad is not None
    assert bad.code == 535


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_implicit_tls(certificate: tuple[Path, Path], loop: str) -> None:
    box = Box()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def work() -> Run:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from contextlib import suppress

            from tests.servers.peers import Gone

            with suppress(Gone, ConnectionError):
                await smtp()(Peer(reader, writer))
            writer.close()

        listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        try:
            options = dataclasses.replace(QUICK, tls_context=client_context(str(certificate[0])), connect_s=5, step_s=5)
            return await deliver(0, [mail()], options, endpoint=Endpoint("127.0.0.1", listener.sockets[0].getsockname()[1], tls="implicit"))
        finally:
            listener.close()

    assert go(work, loop).outcomes() == [("OK", "DOT", 250)]
    assert box.got == []


def test_implicit_tls_against_a_plain_server() -> None:
    async def work() -> None:
        async with serve(smtp()) as server:
            seen = Seen([mail()])
            options = dataclasses.replace(QUICK, tls_context=client_context(), connect_s=1)
            with pytest.raises(ConnectError) as caught:
                await connect(asyncio.get_running_loop(), Endpoint("127.0.0.1", server.port, tls="implicit"), options, seen)
            assert caught.value.stage.name == "TLS"
            assert seen.closed_times == 0

    go(work)


def test_an_internationalised_mail_says_so_whatever_its_addresses_are() -> None:
    options = MailOptions(eight_bit=True, smtputf8=True, ret="HDRS", envid="r.1-a.7", notify="FAILURE,DELAY")
    sent = Envelope("jörg@example.net".encode(), [b"b@example.org"], b"Subject: \xc3\xa9\r\n\r\nx\r\n", options=options, ready=True)
    _, peer = talk([sent], EHLO=b"250-x\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n")
    assert peer.heard[1:3] == [
        "MAIL FROM:<jörg@example.net> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=r.1-a.7\r\n".encode(), b"RCPT TO:<b@example.org> NOTIFY=FAILURE,DELAY\r\n"]
    run, peer = talk([sent], EHLO=b"250-x\r\n250-PIPELINING\r\n250 DSN\r\n")
    assert run.outcomes(0) == [("FAIL", "MAIL", 0)]
    assert not any(line.startswith(b"MAIL") for line in peer.heard)

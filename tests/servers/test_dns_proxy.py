"""The fault proxy over real sockets: every fault is seen by a client, and only where it should; without rules nothing changes.

``SEEN`` says for each fault what a client must see. The same observation is made of a proxy without rules and of one whose rules
are toothless (a planted defect), and must then differ: so the check of no fault is one that cannot fail.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from harness.dns.faults import Fault, Rule
from harness.dns.proxy import FaultProxy, fault_proxy
from harness.dns.responder import Responder
from harness.dns.serve import Asked, serving
from harness.errors import UsageError
from tests.servers.dnslab import bound

NAME = "mx.example.net"
DATA = {
    "example.net.": {"MX": ["10 mx.example.net."], "TXT": ['"v=spf1 -all"']}, "mx.example.net.": {"A": ["198.51.100.1"], "AAAA": ["2001:db8::1"], "TXT": ['"t"']},
    "mx.example.com.": {"A": ["198.51.100.2"]}, "big.example.net.": {"TXT": [" ".join([f'"{"x" * 250}"'] * 4)]},  # one record: dnspython shuffles several
}
PATIENCE_S = 0.6
DELAY_S = 0.3


class Toothless(FaultProxy):
    """A planted defect: its rules pick queries and nothing happens to them."""

    def _strikes(self, one: object) -> bool:
        super()._strikes(one)  # type: ignore[arg-type]
        return False

    @property
    def listens_to_tcp(self) -> bool:
        return True


@pytest.fixture(scope="module")
def responder() -> Iterator[tuple[Responder, int]]:
    answerer = Responder(DATA)
    port, udp, tcp = bound()
    with serving(answerer, udp, tcp):
        yield answerer, port


@contextmanager
def proxied(upstream: int, *rules: Rule, kind: type[FaultProxy] = FaultProxy, seed: int = 0) -> Iterator[tuple[FaultProxy, int]]:
    port, udp, tcp = bound()
    with fault_proxy(kind(("127.0.0.1", upstream), rules, seed=seed), udp, tcp) as proxy:
        yield proxy, port


def observe(port: int, name: str = NAME, qtype: str = "A", *, tcp: bool = False, source: str = "127.0.0.1") -> str:
    """What a client sees of one query, in a word: slow:… before an answer that took as long as the delay."""
    ask, begin = dns.query.tcp if tcp else dns.query.udp, time.monotonic()
    try:
        reply = ask(dns.message.make_query(name, qtype), "127.0.0.1", port=port, timeout=PATIENCE_S, source=source)
    except dns.exception.Timeout:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except (EOFError, ConnectionResetError):
        return "reset"
    slow = "slow:" if time.monotonic() - begin >= DELAY_S else ""
    if reply.flags & dns.flags.TC:
        return f"{slow}truncated"
    data = " ".join(sorted(record.to_text() for rrset in reply.answer for record in rrset))
    return f"{slow}{data or dns.rcode.to_text(reply.rcode())}"


ADDRESS = "198.51.100.1"
Ask = Callable[[int], str]
SEEN: dict[str, tuple[Rule, Ask, str]] = {
    "delay": (Rule(Fault.DELAY, delay_s=DELAY_S), observe, f"slow:{ADDRESS}"),
    "delay over TCP": (Rule(Fault.DELAY, delay_s=DELAY_S), lambda p: observe(p, tcp=True), f"slow:{ADDRESS}"),
    "drop": (Rule(Fault.DROP), observe, "timeout"),
    "drop over TCP": (Rule(Fault.DROP), lambda p: observe(p, tcp=True), "timeout"),
    "servfail": (Rule(Fault.SERVFAIL), observe, "SERVFAIL"),
    "nxdomain": (Rule(Fault.NXDOMAIN), lambda p: observe(p, tcp=True), "NXDOMAIN"),
    "truncate": (Rule(Fault.TRUNCATE), observe, "truncated"),
    "wrong": (Rule(Fault.WRONG, data={"A": ["127.0.0.2"]}), observe, "127.0.0.2"),
    "wrong MX": (Rule(Fault.WRONG, data={"MX": ["0 ."]}), lambda p: observe(p, "example.net", "MX"), "0 ."),
    "refuse-tcp": (Rule(Fault.REFUSE_TCP), lambda p: observe(p, tcp=True), "refused"),
    "refuse-tcp by source": (Rule(Fault.REFUSE_TCP, sources=("127.0.0.9",)), lambda p: observe(p, tcp=True, source="127.0.0.9"), "reset"),
    "refuse-tcp by type": (Rule(Fault.REFUSE_TCP, qtypes=frozenset({"TXT"})), lambda p: observe(p, qtype="TXT", tcp=True), "reset"),
}


def test_every_fault_is_in_the_table():
    assert {rule.fault for rule, _, _ in SEEN.values()} == set(Fault)


@pytest.mark.parametrize("what", SEEN)
def test_each_fault_is_seen_and_counted(responder: tuple[Responder, int], what: str):
    rule, ask, seen = SEEN[what]
    with proxied(responder[1], rule) as (proxy, port):
        assert ask(port) == seen
    if seen != "refused":  # then there is no listener that could count
        assert (proxy.struck[0].picked, proxy.struck[0].struck) == (1, 1)


@pytest.mark.parametrize("what", SEEN)
def test_none_of_it_is_seen_without_rules_nor_with_toothless_ones(responder: tuple[Responder, int], what: str):
    rule, ask, seen = SEEN[what]
    direct = ask(responder[1])
    assert direct != seen
    with proxied(responder[1]) as (_, port):
        assert ask(port) == direct
    with proxied(responder[1], rule, kind=Toothless) as (_, port):
        assert ask(port) == direct


@pytest.mark.parametrize(("rule", "struck", "spared"), [
    (Rule(Fault.SERVFAIL, qtypes=frozenset({"MX"})), ("example.net", "MX"), ("example.net", "TXT")),
    (Rule(Fault.SERVFAIL, zones=("example.net",)), (NAME, "A"), ("mx.example.com", "A")),
    (Rule(Fault.SERVFAIL, zones=("mx.example.net", "example.com")), ("mx.example.com", "A"), ("example.net", "MX")),
    (Rule(Fault.WRONG, data={"A": ["127.0.0.2"]}), (NAME, "A"), (NAME, "AAAA")),
])
def test_a_rule_strikes_what_it_is_about_and_nothing_else(responder: tuple[Responder, int], rule: Rule, struck: tuple[str, str], spared: tuple[str, str]):
    with proxied(responder[1], rule) as (_, port):
        assert observe(port, *struck) != observe(responder[1], *struck)
        assert observe(port, *spared) == observe(responder[1], *spared)
        assert observe(port, *spared, tcp=True) == observe(responder[1], *spared)


def test_sources_are_networks(responder: tuple[Responder, int]):
    with proxied(responder[1], Rule(Fault.SERVFAIL, sources=("127.0.0.8/30", "::1"))) as (_, port):
        assert [observe(port, source=f"127.0.0.{n}") for n in (7, 8, 11, 12)] == [ADDRESS, "SERVFAIL", "SERVFAIL", ADDRESS]


def test_truncation_leaves_tcp_alone(responder: tuple[Responder, int]):
    with proxied(responder[1], Rule(Fault.TRUNCATE)) as (_, port):
        assert observe(port, tcp=True) == ADDRESS


def test_the_first_rule_that_picks_strikes(responder: tuple[Responder, int]):
    with proxied(responder[1], Rule(Fault.NXDOMAIN, qtypes=frozenset({"A"})), Rule(Fault.SERVFAIL)) as (_, port):
        assert [observe(port), observe(port, qtype="AAAA")] == ["NXDOMAIN", "SERVFAIL"]


def test_a_rate_strikes_its_share_and_the_seed_says_which(responder: tuple[Responder, int]):
    def run(seed: int) -> list[str]:
        with proxied(responder[1], Rule(Fault.SERVFAIL, rate=0.3), seed=seed) as (proxy, port):
            seen = [observe(port) for _ in range(200)]
        assert (proxy.struck[0].picked, proxy.struck[0].struck) == (200, seen.count("SERVFAIL"))
        assert proxy.passed == 200 - seen.count("SERVFAIL")
        return seen

    first = run(1)
    assert first == run(1) != run(2)
    assert 35 <= first.count("SERVFAIL") <= 85  # 60 ± 4 standard deviations


def test_queries_do_not_wait_for_each_other(responder: tuple[Responder, int]):
    with proxied(responder[1], Rule(Fault.DELAY, delay_s=DELAY_S)) as (_, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            begin = time.monotonic()
            for i in range(100):
                client.sendto(dns.message.make_query(NAME, "A", id=i).to_wire(), ("127.0.0.1", port))
            got = {client.recv(512)[:2] for _ in range(100)}
    assert len(got) == 100
    assert DELAY_S <= time.monotonic() - begin < 10 * DELAY_S


def raw(port: int, wire: bytes, *, tcp: bool) -> bytes:
    """The answer's bytes; b"" where there is none."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(0.3)
        client.connect(("127.0.0.1", port))
        client.sendall(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        got = b""
        try:
            while not got or (tcp and len(got) < 2 + int.from_bytes(got[:2], "big")):
                part = client.recv(65535)
                if not part:
                    break
                got += part
        except TimeoutError:
            pass
        return got


def wires() -> list[bytes]:
    """Queries of many kinds, and bytes that are none."""
    made = [
        dns.message.make_query(name, qtype, id=7, use_edns=edns, want_dnssec=edns is not False).to_wire()
        for name in ("mx.EXAMPLE.net", "example.net", "gone.example.net", "big.example.net") for qtype in ("A", "MX", "TXT", "TYPE65280") for edns in (False, 0)
    ]
    return [*made, b"\0\7", b"\0\7garbage", made[0] + b"trailing", random.Random(1).randbytes(300)]


@pytest.mark.parametrize("tcp", [False, True])
def test_passing_through_changes_no_byte_and_no_count(responder: tuple[Responder, int], tcp: bool):
    answerer, upstream = responder
    answerer.asked.clear()
    direct = [raw(upstream, w, tcp=tcp) for w in wires()]
    asked = answerer.asked.copy()
    answerer.asked.clear()
    with proxied(upstream) as (proxy, port):
        assert [raw(port, w, tcp=tcp) for w in wires()] == direct
    assert answerer.asked == asked
    assert proxy.seen == proxy.passed == len(direct)
    assert sum(map(bool, direct)) >= 32


@pytest.mark.parametrize("tcp", [False, True])
def test_an_odd_answer_passes_as_it_is(tcp: bool):
    """Answers that no library would write the same again: a reserved bit, mixed case, bytes behind the end."""

    class Odd(Responder):
        async def answer(self, asked: Asked) -> bytes:
            return asked.wire[:2] + b"\x84\x40" + asked.wire[4:] + b"tail"

    port, udp, sockets = bound()
    wire = dns.message.make_query("mX.eXample.net", "A", id=7).to_wire()
    with serving(Odd({}), udp, sockets), proxied(port) as (_, at):
        got = raw(at, wire, tcp=tcp)
        assert got == raw(port, wire, tcp=tcp)
        assert got.endswith(b"tail")


def test_an_upstream_that_is_not_there_is_silence_and_counted():
    port, udp, tcp = bound()
    for one in (*udp, *tcp):
        one.close()
    with proxied(port) as (proxy, at):
        assert observe(at) == "timeout"
        assert observe(at, tcp=True) == "reset"
    assert proxy.unanswered == 2


def test_what_an_answerer_raises_comes_out_at_the_end():
    class Broken(FaultProxy):
        async def answer(self, asked: object) -> bytes:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        with proxied(9, kind=Broken) as (_, port):
            observe(port)


@pytest.mark.parametrize("make", [
    lambda: Rule(Fault.DROP, rate=0.0), lambda: Rule(Fault.DROP, rate=1.5), lambda: Rule(Fault.DELAY), lambda: Rule(Fault.DROP, delay_s=1),
    lambda: Rule(Fault.DELAY, delay_s=1000), lambda: Rule(Fault.WRONG), lambda: Rule(Fault.SERVFAIL, data={"A": ["127.0.0.2"]}),
    lambda: Rule(Fault.WRONG, data={"A": ["not an address"]}), lambda: Rule(Fault.DROP, sources=("nowhere",)), lambda: Rule(Fault.DROP, qtypes=frozenset({"QQQ"})),
    lambda: Rule(Fault.DROP, zones=("a..b",)),
])
def test_rules_that_cannot_be_are_refused(make: Callable[[], Rule]):
    with pytest.raises(UsageError, match="DNS fault"):
        make()

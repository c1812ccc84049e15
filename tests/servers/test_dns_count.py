"""Queries of one getaddrinfo, measured with the real glibc and musl in a private network: the talk's 12 and 2 (T30), and where they do not hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli
from harness.dns.count import TALK_SEARCH, Case, Counted, Place, ResolverConfig, count
from harness.dns.decode import decode_file
from harness.dns.faults import Fault, Rule
from harness.dns.libcs import program
from harness.dns.netns import Lab
from harness.dns.proxy import FaultProxy, fault_proxy
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.errors import NotSupported
from harness.model.dnstree import Kind
from harness.support.checkout import Checkout
from tests.servers.dnslab import bound, needs, network, tcpdump, until

NAME, GONE, LISTED = "omgi.iij.ad.jp", "gone.iij.ad.jp", "9.100.51.198.bl.example.net"
#: (name, libc, ndots) → queries for A and AAAA; half of it for IPv4 only.
EXPECTED = {
    **{(NAME, libc, 5): 12 for libc in ("glibc", "musl")}, **{(NAME, libc, 1): 2 for libc in ("glibc", "musl")},
    **{(f"{NAME}.", libc, ndots): 2 for libc in ("glibc", "musl") for ndots in (5, 1)},
    **{(LISTED, libc, ndots): 2 for libc in ("glibc", "musl") for ndots in (5, 1)},  # six dots: no search domain comes first
    **{(GONE, "glibc", ndots): 12 for ndots in (5, 1)},  # a name that fails costs all, whatever ndots is
    (GONE, "musl", 5): 12, (GONE, "musl", 1): 2,
}


def supported(libc: str) -> None:
    needs()
    try:
        program(libc, Checkout.find())
    except NotSupported as error:
        pytest.skip(f"not supported here: {error}")


def run(*words: str) -> tuple[Result, dict[str, Any]]:
    needs()
    result = CliRunner().invoke(cli, ["dns", "count", *words, "-o", "json"], standalone_mode=False, catch_exceptions=False)
    return result, json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_the_whole_table(libc: str):
    supported(libc)
    result, document = run(NAME, f"{NAME}.", GONE, LISTED, "--missing", GONE, "--local", "--libc", libc)
    seen = {(u["name"], u["libc"], u["ndots"], u["family"]): u["queries"] for u in document["look_ups"]}
    expected = {(n, c, d, f): q // (1 if f == "any" else 2) for (n, c, d), q in EXPECTED.items() for f in ("any", "ipv4") if c == libc}
    assert seen == expected
    assert result.return_value == 0
    assert all(u["exact"] and u["drops"] == 0 and u["retries"] == 0 and u["queries"] == u["distinct"] for u in document["look_ups"])
    assert {u["ndots"]: u["talk"] for u in document["look_ups"] if u["name"] == NAME and u["family"] == "any"} == {1: 2, 5: 12}


def test_twelve_and_two_with_a_picture_and_evidence(tmp_path: Path):
    supported("glibc")
    result = CliRunner().invoke(cli, ["dns", "count", NAME, "--local", "--libc", "glibc", "--family", "any", "--pcap", str(tmp_path)], standalone_mode=False)
    assert result.return_value == 0, result.output
    assert f"{NAME}: 12 queries" in result.stdout
    assert f"{NAME}: 2 queries" in result.stdout
    assert f"├── {NAME}.default.svc.cluster.local." in result.stdout
    assert result.stdout.count("as seen") == 2
    assert [len(decode_file(p).queries) for p in sorted(tmp_path.glob("*/lookup.pcap"))] == [2, 12]


def test_musl_without_its_compiler_is_said_and_glibc_goes_on(monkeypatch: pytest.MonkeyPatch):
    supported("glibc")
    monkeypatch.setattr("harness.dns.libcs.which", lambda name: None)
    result, document = run(NAME, "--local", "--ndots", "1", "--family", "any")
    assert (result.return_value, [u["libc"] for u in document["look_ups"]]) == (0, ["glibc"])
    assert "musl-tools" in document["not_supported_here"]["musl"]
    result, document = run(NAME, "--local", "--libc", "musl")
    assert (result.return_value, document["look_ups"]) == (5, [])


# -- real resolvers behind the fault proxy: retries, truncation and servers side by side are told apart
@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    """Its neighbours know each other: a first datagram over IPv6 waits for neighbour discovery, and a quick look-up is over before it leaves."""
    with network() as made:
        ask = ["nsenter", f"--net={made.client}", "bash", "-c", f"echo >/dev/udp/{made.server6}/9; ip -6 neigh show {made.server6}"]
        until(lambda: "lladdr" in subprocess.run(ask, capture_output=True, text=True, check=False).stdout, "the neighbour")
        yield made


def behind(net: Lab, tmp_path: Path, libc: str, *rules: Rule, servers: int = 1, options: tuple[str, ...] = ("timeout:1", "attempts:2")) -> Counted:
    """One look-up through a fault proxy with ``rules``; tcpdump counts the same."""
    supported(libc)
    upstream, udp, tcp = bound()
    config = ResolverConfig((net.server4, net.server6)[:servers], TALK_SEARCH, options)
    with serving(Responder({f"{NAME}.": {"A": ["198.51.100.10"], "AAAA": ["2001:db8::10"]}}), udp, tcp):
        with fault_proxy(FaultProxy(("127.0.0.1", upstream), rules), *net.listen()), tcpdump(net, tmp_path / "theirs.pcap"):
            place = Place(net.client, config, "test", net.interface)
            counted = count(place, program(libc, Checkout.find()), Case(f"{NAME}.", libc, 1, "any"), tmp_path)
    assert len(decode_file(tmp_path / "theirs.pcap").queries) == counted.tree.queries
    assert counted.flaws == ()
    return counted


def test_a_dropped_query_is_asked_again_and_counted_as_a_retry(net: Lab, tmp_path: Path):
    counted = behind(net, tmp_path, "glibc", Rule(Fault.DROP, qtypes=frozenset({"AAAA"})))
    aaaa = [a for a in counted.tree.attempts if a.query.qtype == "AAAA"]
    assert aaaa[0].kind is Kind.FIRST
    assert {a.kind for a in aaaa[1:]} == {Kind.RETRY}
    assert {a.outcome for a in aaaa} == {"no answer"}
    assert counted.tree.distinct == 2 < counted.tree.queries


def test_truncation_moves_glibc_to_tcp(net: Lab, tmp_path: Path):
    counted = behind(net, tmp_path, "glibc", Rule(Fault.TRUNCATE))
    assert counted.found
    assert counted.tree.count(Kind.TCP) == 2
    assert {t.transport for n in counted.tree.names for q in n.types for t in q.transports} == {"udp", "tcp"}


def test_servfail_is_retried(net: Lab, tmp_path: Path):
    counted = behind(net, tmp_path, "glibc", Rule(Fault.SERVFAIL))
    assert not counted.found
    assert counted.tree.count(Kind.RETRY) > 0
    assert {a.outcome for a in counted.tree.attempts} == {"SERVFAIL"}


def test_musl_asks_all_servers_side_by_side(net: Lab, tmp_path: Path):
    counted = behind(net, tmp_path, "musl", servers=2)
    assert (counted.tree.queries, counted.tree.distinct, counted.tree.count(Kind.PARALLEL), counted.tree.count(Kind.RETRY)) == (4, 2, 2, 0)


def test_a_name_that_needs_no_query_is_no_count(net: Lab, tmp_path: Path):
    supported("glibc")
    place = Place(net.client, ResolverConfig((net.server4,), TALK_SEARCH), "test", net.interface)
    counted = count(place, program("glibc", Checkout.find()), Case("localhost", "glibc", 1, "any"), tmp_path)
    assert counted.tree.queries == 0
    assert "no query was seen" in counted.flaws[0]

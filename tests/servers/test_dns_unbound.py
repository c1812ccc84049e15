"""With a real unbound: the names it keeps to itself are those we refuse, and the account of its queries closes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.query
import pytest

from harness.dns.capture import capturing
from harness.dns.decode import Decoded, decode
from harness.dns.localzones import NEWER, ZONES, local_zone
from harness.dns.netns import inside
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.model.dnsaccount import Step, settle
from harness.model.verdict import Status
from tests.servers.dnslab import bound, needs, network, unbound

NAMES = [f"n{i}.example.net." for i in range(60)]
DATA = {n: {"A": ["198.51.100.1"], "TXT": ['"t"']} for n in NAMES[::2]}
PORT = 5300
Control = Callable[..., str]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Responder, int, Control]]:
    needs("unbound")
    answerer = Responder({})
    upstream, udp, tcp = bound()
    with serving(answerer, udp, tcp), unbound(tmp_path_factory.mktemp("unbound"), upstream) as (port, control):
        yield answerer, port, control


def test_the_list_is_unbounds_own(real: tuple[Responder, int, Control]):
    theirs = {line.split()[0] for line in real[2]("list_local_zones").splitlines()}
    assert theirs
    assert theirs in (ZONES, ZONES - NEWER, ZONES - {"service.arpa."})


@pytest.mark.parametrize("name", ["a.b.test.", "x.invalid.", "www.localhost.", "a.home.arpa.", "1.2.0.192.in-addr.arpa.", "a.onion."])
def test_unbound_answers_these_itself(real: tuple[Responder, int, Control], name: str):
    answerer, port, _ = real
    answerer.asked.clear()
    dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", port=port, timeout=5)
    assert answerer.asked.total() == 0
    assert local_zone(name)


def test_it_asks_upstream_for_others(real: tuple[Responder, int, Control]):
    answerer, port, _ = real
    answerer.asked.clear()
    dns.query.udp(dns.message.make_query("a.test.example.com.", "A"), "127.0.0.1", port=port, timeout=5)
    assert answerer.asked.total() == 1
    assert local_zone("a.test.example.com.") is None


def measured(tmp_path: Path) -> tuple[Decoded, dict[str, int], Decoded]:
    """300 look-ups of 60 names through unbound's cache: seen at the client, in unbound's counters, and behind unbound."""
    needs("unbound")
    draw = random.Random(3)
    with ExitStack() as stack:
        net = stack.enter_context(network())
        stack.enter_context(serving(Responder(DATA), *net.listen(PORT)))
        lines = ("  num-threads: 1",)
        forward = stack.enter_context(unbound(tmp_path, PORT, *lines, namespace=net.server, address=net.server4, port=53, upstream=net.server4))
        with capturing(net.server, tmp_path / "upper.pcap") as above, capturing(net.server, tmp_path / "lower.pcap", port=PORT) as below:
            inside(net.client, lambda: [
                (dns.query.tcp if i % 5 == 0 else dns.query.udp)(dns.message.make_query(draw.choice(NAMES), draw.choice(["A", "TXT"])), net.server4, timeout=5)
                for i in range(300)
            ])
        stats = {m[1]: int(float(m[2])) for m in re.finditer(r"^(\S+)=([\d.]+)$", forward[1]("stats_noreset"), re.M)}
    return decode(above), stats, decode(below)


def test_the_account_of_a_cache_closes_and_does_not_when_a_term_is_forgotten(tmp_path: Path):
    above, stats, below = measured(tmp_path)
    captures = {"client": above.quality, "authoritative": below.quality}
    got = stats["total.num.queries"]
    wire = Step("client", "unbound", len(above.queries), got, tolerance=0.0)
    terms = {"cache hits": -stats["total.num.cachehits"], "prefetch": stats["total.num.prefetch"]}
    cache = Step("unbound", "authoritative", got, len(below.queries), terms)
    quiet = {"client": True, "unbound": True, "authoritative": True}
    account = settle([wire, cache], quiet=quiet, captures=captures)
    assert (account.status, account.problems) == (Status.PASS, ())
    assert (len(above.queries), cache.residual) == (300, 0)
    assert 0 < len(below.queries) <= 120
    forgotten = settle([wire, Step("unbound", "authoritative", got, len(below.queries))], quiet=quiet, captures=captures)
    assert forgotten.status is Status.INCONCLUSIVE

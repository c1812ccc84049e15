"""DNS layers of an arm: sums over servers that come and go; what the claims and checks make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checks import dns_lookups, dns_path
from harness.claims import conntrack_race, dns_blip, t31, t32a
from harness.claims.dns_layers import dns_figures
from harness.model.plan import Arm
from harness.model.verdict import ClaimResult, Status
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import limited_plan
from harness.store.dns import layers, lookups
from harness.store.history import load

Spoil = Callable[[ArmBuilder], object]


def counters(arm: ArmBuilder, part: str, t: float, instance: str = "a/1", **counts: dict[str, float]) -> None:
    arm.event("observe.log", "dns_counters", t, pod=f"{part}-0", part=part, node="w1", instance=instance, counters=counts)


def span_of(arm: ArmBuilder) -> tuple[float, float]:
    at = {(e["name"], e["edge"]): e["t"] / 1e9 - 5000 for e in arm.of("conductor.log", "phase")}
    return at["load", "begin"], at["settle", "end"]


def watched(arm: ArmBuilder, cluster: float, unbound: float, *, tcp: float = 0.0, reverse_tcp: float = 0.0, ms: float = 2.0, failed: int = 0,
            probes: float = 0.0) -> None:
    """``cluster`` and ``unbound`` queries of mail; ``tcp`` of those for other names, ``reverse_tcp`` of 100 reverse ones by TCP; ``probes`` of health."""
    begin, end = span_of(arm)
    for t, done in ((begin - 2, 0.0), (begin + 5, 0.5), (end + 1, 1.0)):
        counters(arm, "coredns", t, requests={
            "udp/MX/.": 1000 + done * (cluster - tcp), "tcp/MX/.": 500 + done * tcp, "udp/TXT/.": done * 900,
            "udp/PTR/.": done * (100 - reverse_tcp), "tcp/PTR/.": done * reverse_tcp,
        }, cache_hits={".": done * 30}, cache_misses={".": done * 10})
        counters(arm, "unbound", t, requests={"udp": done * (unbound - tcp + probes), "tcp": done * tcp}, tcpusage={"now": done * 6},
                 types={"MX": done * unbound, "TXT": done * 77, "NS": done * probes})
    for n in range(200):
        outcome = "timeout" if n < failed else "NOERROR"
        arm.event("lookups.log", "lookup", begin + 1 + n * 0.05, pod="mx-0", server="169.254.20.10", name="d1", ms=ms, outcome=outcome, tcp=False)


@pytest.fixture
def arm_of(tmp_path: Path) -> Callable[[Spoil], Any]:
    """The one arm of a run after ``spoil(arm)``, and what ``look`` makes of it."""

    def run(spoil: Spoil, look: Callable[[Any], Any]) -> Any:
        b = HistoryBuilder(tmp_path, limited_plan())
        b.arms = b.arms[:1]
        spoil(b.arms[0])
        with load(b.write()) as history:
            return look(history.arms[0])

    return run


def test_counters_are_differences_over_the_stretch(arm_of: Any) -> None:
    found = arm_of(lambda a: watched(a, 800, 300, tcp=50), layers)
    assert found["coredns"].requests(types=lambda t: t == "MX") == 800
    assert found["coredns"].requests(proto="tcp", types=lambda t: t == "MX") == 50
    assert found["unbound"].total("types") == 377
    assert set(found["unbound"].counts["types"]) == {"MX", "TXT", "NS"}
    assert found["unbound"].tcp_slots_max == 6


@pytest.mark.parametrize(("tcp", "probes", "share"), [(300, 500, 1.0), (150, 500, 0.5), (0, 500, 0.0), (300, 0, 1.0)])
def test_health_probes_of_cluster_dns_are_no_queries_by_udp(arm_of: Any, tcp: float, probes: float, share: float) -> None:
    """Each failed exchange brings one, so that they were a third of all where TCP was forced and slots were scarce."""
    figures = arm_of(lambda a: watched(a, 800, 300, tcp=tcp, probes=probes), dns_figures)
    assert figures["dns_unbound_tcp_share"] == pytest.approx(share)


def test_a_server_that_is_started_again_begins_at_zero(arm_of: Any) -> None:
    def spoil(a: ArmBuilder) -> None:
        begin, end = span_of(a)
        counters(a, "coredns", begin - 1, requests={"udp/A/.": 40.0})
        counters(a, "coredns", begin + 2, requests={"udp/A/.": 50.0})
        counters(a, "coredns", begin + 4, "a/2", requests={"udp/A/.": 3.0})
        counters(a, "coredns", end + 1, "a/2", requests={"udp/A/.": 9.0})
        counters(a, "coredns", begin - 9, "gone/1", requests={"udp/A/.": 99.0})

    assert arm_of(spoil, layers)["coredns"].requests() == 19


def test_figures_leave_out_what_is_not_mails(arm_of: Any) -> None:
    figures = arm_of(lambda a: watched(a, 800, 300, tcp=80, reverse_tcp=100), dns_figures)
    mails = 900 * 1000 / figures["dns_cluster_per_1000"]
    assert figures["dns_unbound_per_1000"] == pytest.approx(300 * 1000 / mails)
    assert figures["dns_other_tcp_share"] == pytest.approx(80 / (800 + 900))
    assert figures["dns_reverse_tcp_share"] == 1.0
    assert figures["dns_cluster_hit_share"] == 0.75
    assert figures["lookups"] == 200


def test_nothing_sampled_is_no_figure(arm_of: Any) -> None:
    assert arm_of(lambda a: None, dns_figures) == {}


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda a: watched(a, 10, 10), Status.PASS), (lambda a: watched(a, 10, 10, failed=5), Status.FAIL), (lambda a: watched(a, 10, 10, ms=900.0), Status.FAIL),
        (lambda a: None, Status.INCONCLUSIVE),
    ],
)
def test_the_check_of_lookups(arm_of: Any, spoil: Spoil, status: Status) -> None:
    limits = {"failed_share_max": 0.01, "p99_ms_max": 500.0, "lookups_min": 100.0}
    assert arm_of(spoil, lambda arm: dns_lookups.check(arm, limits)).status == status


def test_too_few_lookups(arm_of: Any) -> None:
    limits = {"failed_share_max": 0.01, "p99_ms_max": 0.0, "lookups_min": 300.0}
    assert arm_of(lambda a: watched(a, 10, 10), lambda arm: dns_lookups.check(arm, limits)).status == Status.INCONCLUSIVE


def test_times_to_recover_are_those_of_the_failures(arm_of: Any) -> None:
    assert arm_of(lambda a: watched(a, 10, 10, failed=5), lookups).recovered_s == pytest.approx(0.2)


def path(a: ArmBuilder, arrived: int, host: tuple[str, ...] = (), **more: str) -> None:
    a.event("conductor.log", "dns_path", 1, pod="mx-0", node="w1", server="10.96.0.53", first=["coredns-1"], asked=20, answered=20, arrived=arrived, host_network=list(host), **more)


@pytest.mark.parametrize(
    ("spoil", "status", "said"),
    [
        (lambda a: path(a, 20), Status.PASS, "arrived at coredns-1"), (lambda a: path(a, 1), Status.INCONCLUSIVE, "a second DNS cache is in the path"),
        (lambda a: path(a, 20, ("mx-0",)), Status.INCONCLUSIVE, "hostNetwork"),
        (lambda a: path(a, 20, chroot="Postfix (smtp) runs in a chroot without a resolv.conf"), Status.INCONCLUSIVE, "mx-0: Postfix (smtp) runs in a chroot"), (lambda a: None, Status.INCONCLUSIVE, "nobody looked"),
    ],
)
def test_the_check_of_the_path(arm_of: Any, spoil: Spoil, status: Status, said: str) -> None:
    found = arm_of(spoil, lambda arm: dns_path.check(arm, {}))
    assert found.status == status
    assert said in found.reason


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., Any]:
    """``say(claim, off, on, forced)``: the finding, each arm spoilt by its function."""

    def run(claim: Any, blocks: int = 1, **spoils: Spoil) -> Any:
        plan = limited_plan()
        names = {"off": ("sender-domain-check",), "on": ("sender-domain-check", "node-local-dns"), "forced": ("sender-domain-check", "node-local-dns", "node-local-dns-tcp")}
        arms = tuple(Arm(n, names[n]) for n in spoils)
        object.__setattr__(plan, "arms", arms)
        b = HistoryBuilder(tmp_path, plan, blocks=blocks)
        for arm in b.arms:
            spoils[arm.name](arm)
        with load(b.write()) as history:
            return claim.find(history.arms, history.plan)

    return run


def with_path(queries: float, **more: float) -> Spoil:
    return lambda a: watched(a, queries, queries / 2, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("on", "off", "blocks", "result"),
    [
        (with_path(300), with_path(1000), 1, ClaimResult.CONFIRMED_UNDER_CONDITIONS),
        (with_path(300), with_path(1000), 6, ClaimResult.CONFIRMED_UNDER_CONDITIONS),  # mail does not suffer without it
        (with_path(300), with_path(1000, failed=20), 6, ClaimResult.CONFIRMED),
        (with_path(900), with_path(1000), 6, ClaimResult.REFUTED),
        (with_path(300), lambda a: None, 1, ClaimResult.UNDECIDED),
    ],
)
def test_t31(say: Any, on: Spoil, off: Spoil, blocks: int, result: ClaimResult) -> None:
    assert say(t31, blocks, off=off, on=on).result == result


def slow_mail(by_s: float) -> Spoil:
    def spoil(a: ArmBuilder) -> None:
        watched(a, 1000, 500)
        for mail in a.mails:
            mail.sight = None if mail.sight is None else mail.sight + by_s

    return spoil


@pytest.mark.parametrize(("blocks", "shown"), [(1, False), (6, True)])
def test_t31_takes_late_mail_for_shown_only_with_an_interval(say: Any, blocks: int, shown: bool) -> None:
    """A p99 of one block rests on a mail or two."""
    found = say(t31, blocks, off=slow_mail(5.0), on=with_path(300))
    assert found.figures["ordinary_p99_ratio"] < 0.5
    assert ("was not shown" not in found.conditions) is shown
    assert found.result == (ClaimResult.CONFIRMED if shown else ClaimResult.CONFIRMED_UNDER_CONDITIONS)
    assert "with these names and TTLs" in found.conditions


def test_t31_needs_both_arms(say: Any) -> None:
    assert say(t31, on=with_path(300)).result == ClaimResult.UNDECIDED


@pytest.mark.parametrize(
    ("off", "on", "forced", "result"),
    [
        (with_path(900), with_path(900, reverse_tcp=100), with_path(900, tcp=880, reverse_tcp=100), ClaimResult.CONFIRMED_UNDER_CONDITIONS),
        (with_path(900), with_path(9000, tcp=8990, reverse_tcp=100), with_path(900), ClaimResult.CONFIRMED),
        (with_path(900), with_path(900), with_path(900), ClaimResult.REFUTED),
        (with_path(9000, tcp=8990), with_path(900, reverse_tcp=100), with_path(900), ClaimResult.UNDECIDED),
        (with_path(900), lambda a: None, with_path(900), ClaimResult.UNDECIDED),
    ],
)
def test_t32a(say: Any, off: Spoil, on: Spoil, forced: Spoil, result: ClaimResult) -> None:
    assert say(t32a, off=off, on=on, forced=forced).result == result


def raced(failed: int, timeouts: int = 0) -> Spoil:
    def spoil(a: ArmBuilder) -> None:
        watched(a, 10, 10, failed=timeouts)
        for edge, n in (("begin", 7), ("end", 7 + failed)):
            a.event("conductor.log", "conntrack", 1 if edge == "begin" else 150, node="w1", edge=edge, kernel="6.18", counters={"insert_failed": n, "clashres": n})

    return spoil


@pytest.mark.parametrize(
    ("spoil", "result", "said"),
    [
        (raced(3, 2), ClaimResult.CONFIRMED, "look-ups timed out in off"), (raced(3), ClaimResult.UNDECIDED, "no look-up timed out"),
        (raced(0, 2), ClaimResult.UNDECIDED, "not reproducible on this kernel (6.18)"), (lambda a: None, ClaimResult.UNDECIDED, "was not read"),
    ],
)
def test_the_conntrack_race_is_detected_or_said_not_to_be_here(say: Any, spoil: Spoil, result: ClaimResult, said: str) -> None:
    found = say(conntrack_race, off=spoil)
    assert found.result == result
    assert said in found.reason


SENT = "Nov 25 01:13:29 outbound-0 postfix/smtp[2]: {id}: to=<a@b>, relay=i[10.0.0.1]:25, delay={delay}, delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)\n"
HELD = "Nov 25 01:13:29 outbound-0 postfix/smtp[2]: {id}: to=<a@b>, relay=none, delay=5, delays=0/0/5/0, dsn=4.4.3, status=deferred (Name service error)\n"


@pytest.mark.parametrize(
    ("struck", "longest", "result"),
    [(True, 14.0, ClaimResult.CONFIRMED_UNDER_CONDITIONS), (True, 6.0, ClaimResult.REFUTED), (True, 0.0, ClaimResult.UNDECIDED), (False, 14.0, ClaimResult.UNDECIDED)],
)
def test_a_blip_costs_a_back_off(tmp_path: Path, struck: bool, longest: float, result: ClaimResult) -> None:
    b = HistoryBuilder(tmp_path, limited_plan())
    control, hit = b.arms[:2]
    b.arms = [control, hit]
    for edge, t in (("begin", 30), ("evidence", 37), ("end", 38), ("undone", 38)) if struck else ():
        hit.event("faults.log", "fault", t, name="dns-servfail", fault="dns_fault", edge=edge, targets=["dns-proxy-0"], detail={})
    run = b.write(seal=False)
    for where, held in ((run.arm(control.block, control.name), 0.0), (run.arm(hit.block, hit.name), longest)):
        where.logs.mkdir(exist_ok=True)
        text = SENT.format(id="4jZ1s474hnz9rxa", delay=0.2)
        text += HELD.format(id="4jZ1s474hnz9rxb") + SENT.format(id="4jZ1s474hnz9rxb", delay=held) if held else ""
        (where.logs / "outbound-0.postfix.log").write_text(text)
    with load(run) as history:
        assert dns_blip.find(history.arms, history.plan).result == result

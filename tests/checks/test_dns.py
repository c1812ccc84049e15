"""The DNS account: well, planted defects, and too little evidence; and what T30 says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checks import dns_account
from harness.claims import t30
from harness.model.verdict import ClaimResult, Status, Verdict
from harness.selftest import dns
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.store.dnsflow import asked, totals
from harness.store.history import load
from tests.unit.store.test_dns_layers import path

LIMITS = {k: float(v) for k, v in dns_account.LIMITS.items() if v is not None}
Spoil = Callable[[ArmBuilder], object]


@pytest.fixture
def judged(tmp_path: Path):
    """``judged(spoil)``: the verdict on the arm ndots-5."""

    def run(spoil: Spoil = lambda arm: None) -> Verdict:
        made = dns.dns_history(tmp_path, ("ndots-5",))
        spoil(made.arms[0])
        with load(made.write()) as history:
            return dns_account.check(history.arms[0], LIMITS)

    return run


@pytest.fixture
def said(tmp_path: Path):
    """``said(spoil)``: what T30's module says of the whole run."""

    def run(spoil: Callable[[HistoryBuilder], object] = lambda made: None):
        made = dns.dns_history(tmp_path)
        spoil(made)
        with load(made.write()) as history:
            return t30.find(history.arms, history.plan)

    return run


def test_a_closed_account_passes(judged):
    v = judged()
    assert (v.status, v.figures["steps"], v.figures["drops"], v.figures["residual_share_max"]) == (Status.PASS, 9, 0, 0)
    assert "2600 queries" in v.reason
    assert v.evidence[0] == "application → cluster DNS: 2600 = 2600, seen 2600, residual +0 (0.00 %)"
    assert "-2400 of its own zone" in v.evidence[1]
    assert v.evidence[2] == "cluster DNS → cluster DNS, by its own counters: 2600 = 2600, seen 2600, residual +0 (0.00 %)"
    assert v.evidence[3] == "cluster DNS, upstream → cluster DNS, upstream, by its own counters: 220 -20 health probes = 200, seen 200, residual +0 (0.00 %)"


def replaced(arm: ArmBuilder) -> None:
    arm.of("conductor.log", "pods_at_end")[0]["pods"][0]["uid"] = "uid-mx-0-b"


def not_quiet(arm: ArmBuilder) -> None:
    dns.event_of(arm, "dns_passed", "mx-0")["quiet"] = False


def no_application(arm: ArmBuilder) -> None:
    arm.events[dns.LOG] = [e for e in arm.events[dns.LOG] if e.get("layer") != "application"]


def not_supported(arm: ArmBuilder) -> None:
    arm.events[dns.LOG] = []
    arm.event("conductor.log", "not_supported", 20, what="dns", why="no root")


def not_read(arm: ArmBuilder) -> None:
    arm.events[dns.LOG].remove(dns.event_of(arm, "dns_counted", "unbound-0"))


def refused(arm: ArmBuilder) -> None:
    arm.events[dns.LOG] = []
    arm.event("conductor.log", "incident", 20, what="DNS was not counted: pod mx-1 is on its node's network", where="dns")


def hardly_any(arm: ArmBuilder) -> None:
    dns.event_of(arm, "dns_passed", "mx-0")["sent"] = 12
    dns.event_of(arm, "dns_passed", "coredns-0").update(received={"application": 12}, terms={"health probes": 20, "retries": 188})


@pytest.mark.parametrize(("spoil", "says"), [
    (dns.drop_packets, "mx-0: 3 packets dropped by the kernel"),
    (dns.forget_layer, "only 3 layers captured, 4 are needed"),
    (dns.residual(0.05), "cluster DNS → cluster DNS, upstream: +11 of 220 queries unexplained"),
    (dns.lose_on_the_wire, "application → cluster DNS: -1 of 2601 queries unexplained"),
    (dns.counted_otherwise("received", 0.05), "unbound → unbound, by its own counters: +11 of 220 queries unexplained"),
    (dns.counted_otherwise("sent", -0.05), "unbound, upstream → unbound, upstream, by its own counters: -10 of 200 queries unexplained"),
    (lambda a: dns.event_of(a, "dns_counted", "unbound-0").update(why="it was started again meanwhile"), "unbound-0: what it counted by itself is not known: it was started again"),
    (not_read, "unbound-0: what it counted by itself is not known: it was not read"),
    (lambda a: path(a, 1), "mx-0 asked 20 times, 1 arrived at coredns-1: a second DNS cache is in the path"),
    (lambda a: path(a, 20, ("mx-0",)), "on their node's network (hostNetwork)"),
    (lambda a: dns.event_of(a, "dns_capture", "mx-0").update(chroot="Postfix (smtp) runs in a chroot without a resolv.conf"), "mx-0: Postfix (smtp) runs in a chroot"),
    (refused, "DNS was not counted: pod mx-1 is on its node's network"),
    (replaced, "pod mx-0 was not captured all the time"),
    (not_quiet, "application: was not quiet when it was counted"),
    (no_application, "no application was captured"),
    (not_supported, "not supported here: no root"),
    (lambda a: a.events[dns.LOG].clear(), "DNS was not counted in this arm"),
    (hardly_any, "the applications asked 12 queries, 50 are needed"),
    (lambda a: a.drop_events("conductor.log", "pods_at_end"), "which pods there were at the end is not on record"),
    (lambda a: dns.event_of(a, "dns_capture", "nsd-0").update(broken="the capture broke: gone"), "nsd-0: the capture broke: gone"),
])
def test_what_is_not_known_is_inconclusive(judged, spoil: Spoil, says: str):
    v = judged(spoil)
    assert v.status == Status.INCONCLUSIVE
    assert says in v.reason


def test_a_run_that_did_not_read_the_counters_is_judged_without_them(judged):
    v = judged(lambda a: a.drop_events(dns.LOG, "dns_counted"))
    assert (v.status, v.figures["steps"]) == (Status.PASS, 5)


@pytest.mark.parametrize("side", ["received", "sent"])
def test_counters_within_one_percent_pass(judged, side: str):
    assert judged(dns.counted_otherwise(side, 0.01)).status == Status.PASS


def test_a_residual_within_one_percent_passes(judged):
    v = judged(dns.residual(0.008))
    assert v.status == Status.PASS
    assert 0.005 < v.figures["residual_share_max"] <= 0.01


def test_queries_per_mail(tmp_path: Path):
    with load(dns.dns_history(tmp_path).write()) as history:
        before, after = (totals(a) for a in history.arms)
        assert before is not None
        assert after is not None
        assert dict(before.by_layer) == {"application": 2600, "cluster DNS": 2600, "unbound": 200, "authoritative": 200}
        assert (after.by_layer["application"], after.by_layer["unbound"]) == (600, 200)
        assert before.per_mail("application") == 2600 / before.mails
        assert before.mails == len({m for (m,) in history.arms[0].sql("SELECT mail FROM dones WHERE outcome = 1 AND t >= 5026000000000")})
        assert asked(history.arms[0], lambda e: f"{e['what']} {e['expanded']}") == {"service filter True": 2000, "service filter False": 400, "address to name False": 200}


def test_t30_holds_for_some_operations_only(said):
    found = said()
    assert found.result == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    assert "costs 12 queries with ndots:5 and 2 with ndots:1 (glibc getaddrinfo)" in found.reason
    assert "glibc getaddrinfo, look-up, A and AAAA, missing name (12 and 12)" in found.conditions
    assert "Postfix smtp, delivery by MX, MX of the domain (1 and 1)" in found.conditions
    assert "existing name (" not in found.conditions
    assert found.figures["queries_per_mail_ratio"] == pytest.approx(600 / 2600, abs=1e-4)


def cells(made: HistoryBuilder, arm: str, **same: object) -> list[dict[str, object]]:
    return [e for e in made.arm(arm).of(dns.LOG, "dns_look_up") if all(e[k] == v for k, v in same.items())]


def test_t30_is_confirmed_where_everything_gains(said):
    def spoil(made: HistoryBuilder) -> None:
        for arm in made.arms:
            arm.events[dns.LOG] = [e for e in arm.events[dns.LOG] if e["kind"] != "dns_look_up" or e["about"] == "existing name"]

    found = said(spoil)
    assert (found.result, found.conditions) == (ClaimResult.CONFIRMED, "")


def test_t30_is_refuted_by_another_number(said):
    found = said(lambda made: cells(made, "ndots-1", about="existing name")[0].update(queries=4))
    assert found.result == ClaimResult.REFUTED
    assert "(12 and 4)" in found.reason


@pytest.mark.parametrize("spoil", [
    lambda made: dns.drop_packets(made.arm("ndots-1")),
    lambda made: made.arm("ndots-1").drop_events(dns.LOG, "dns_look_up"),
    lambda made: made.arm("ndots-1").events[dns.LOG].clear(),
    lambda made: cells(made, "ndots-5", about="existing name")[0].update(flaws=["1 packets dropped by the kernel"]),
    lambda made: made.arms.pop(),
    lambda made: setattr(made, "plan", replace(made.plan, arms=made.plan.arms[:1])) or made.arms.pop(),
])
def test_t30_without_its_measurements_is_undecided(said, spoil):
    assert said(spoil).result == ClaimResult.UNDECIDED


def test_what_is_not_supported_here_is_no_cell(said):
    def spoil(made: HistoryBuilder) -> None:
        for arm in made.arms:
            dns._cell(arm, "musl getaddrinfo", "look-up", "", 0, 5)
            arm.of(dns.LOG, "dns_look_up")[-1].update(flaws=["not supported here: musl-gcc is not installed"])

    assert said(spoil).result == ClaimResult.CONFIRMED_UNDER_CONDITIONS

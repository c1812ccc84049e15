"""DNS of a good arm as it is counted: a plan of two arms, ndots 5 and 1, and what ``dns.log`` of each says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.model.plan import Arm, CheckSpec, DnsSpec, Plan
from harness.selftest.builder import ArmBuilder, HistoryBuilder, ns
from harness.selftest.friday import WARMUP, friday_plan

LOG = "dns.log"
PODS = {"mx-0": ("mx", "application"), "coredns-0": ("dns", "cluster DNS"), "unbound-0": ("dns", "unbound"), "nsd-0": ("dns", "authoritative")}
BEGIN, LOAD_BEGIN = WARMUP + 1.0, 26
#: Of the application: what a query is about → (a search domain behind it, queries with ndots 5, with ndots 1).
ASKED = {"service filter": ((True, 10, 0), (False, 2, 2)), "address to name": ((False, 1, 1),)}
SECONDS = 10
MAILS_A_SECOND = 20


def ndots_plan() -> Plan:
    """The plan ``ndots`` on the friday burst's history."""
    plan = friday_plan()
    arms = (Arm("ndots-5", ("mx-1x",), note="as Kubernetes sets it"), Arm("ndots-1", ("mx-1x", "ndots-1"), note="the talk's remedy"))
    checks = tuple(c for c in plan.checks if c.name != "rate-control")
    return replace(plan, name="ndots", title="ndots 5 or 1", arms=arms, checks=(*checks, CheckSpec("dns-account", {})), findings=("t30",),
                   dns=DnsSpec(("mx", "dns"), ("glibc", "postfix")))  # fmt: skip


def plant_dns(arm: ArmBuilder) -> None:
    """DNS of ``arm`` (``ndots-5`` or ``ndots-1``), whole and with an account that closes."""
    late = arm.name == "ndots-1"
    arm.expected = [*arm.expected, LOG]
    for e in arm.of("conductor.log", "expected_writers"):
        e["names"] = arm.expected
    for kind in ("pods_at_start", "pods_at_end"):
        pods = arm.of("conductor.log", kind)[0]["pods"]
        pods += [{"name": n, "uid": f"uid-{n}", "node": "worker", "component": c} for n, (c, _) in PODS.items() if n != "mx-0"]
    _cells(arm, late)
    end = max(e["t"] for e in arm.of("conductor.log", "phase") if e["name"] == "settle") / 1e9 - 5000.0
    arm.event(LOG, "dns_window", end, begin=ns(BEGIN), end=ns(end), baseline_s=5.0, waited_s=2.1, quiet=True)
    sent = _counts(arm, late, end)
    _passed(arm, sent, end)


def _counts(arm: ArmBuilder, late: bool, end: float) -> int:
    """Rows of the applications and of the servers behind them; how many queries the applications sent."""
    total = 0
    for second in range(LOAD_BEGIN, LOAD_BEGIN + SECONDS):
        for what, rows in ASKED.items():
            for expanded, before, after in rows:
                n = (after if late else before) * MAILS_A_SECOND
                total += n
                if n:
                    _count(arm, end, second, "mx-0", "sent", what, n, expanded=expanded)
                    _count(arm, end, second, "coredns-0", "received", what, n, expanded=expanded, peer="application")
        for pod, peer in (("unbound-0", "cluster DNS"), ("nsd-0", "unbound")):
            _count(arm, end, second, pod, "received", "address to name", MAILS_A_SECOND, peer=peer)
        _count(arm, end, second, "unbound-0", "received", "health probe", 2, peer="cluster DNS")
    return total


def _count(arm: ArmBuilder, t: float, second: int, pod: str, side: str, what: str, n: int, *, expanded: bool = False, peer: str = "") -> None:
    component, layer = PODS[pod]
    arm.event(LOG, "dns_count", t, pod=pod, component=component, layer=layer, at=ns(second), side=side, peer=peer, what=what, expanded=expanded,
              qtype="A", transport="udp", outcome="NOERROR", n=n)


def _passed(arm: ArmBuilder, sent: int, end: float) -> None:
    upstream, probes = SECONDS * MAILS_A_SECOND, SECONDS * 2
    rows: dict[str, dict[str, Any]] = {
        "mx-0": {"received": {}, "sent": sent, "terms": {}},
        "coredns-0": {"received": {"application": sent}, "sent": upstream + probes, "terms": {"of its own zone": upstream - sent, "health probes": probes}},
        "unbound-0": {"received": {"cluster DNS": upstream + probes}, "sent": upstream, "terms": {"answered without asking further": -probes}},
        "nsd-0": {"received": {"unbound": upstream}, "sent": 0, "terms": {}},
    }
    for pod, row in rows.items():
        component, layer = PODS[pod]
        about = {"pod": pod, "component": component, "layer": layer}
        arm.event(LOG, "dns_capture", end, **about, uid=f"uid-{pod}", addresses=["10.244.1.5"], file=f"dns/{pod}.pcap", packets=2 * sent, drops=0)
        arm.event(LOG, "dns_passed", end, **about, **row, local=0, unexplained=0, quiet=True, open_at_end=0)
        if pod in ("coredns-0", "unbound-0"):
            came, gone, unheld = sum(row["received"].values()), row["sent"], row["terms"].get("health probes", 0)
            arm.event(LOG, "dns_counted", end, **about, begin=ns(BEGIN), end=ns(end), why="", counted={"received": came, "sent": gone - unheld},
                      captured={"received": came, "sent": gone, "health probes": unheld, "retries": 0})


def _cells(arm: ArmBuilder, late: bool) -> None:
    """Queries per operation before the load."""
    ndots = 1 if late else 5
    for about, before, after, talk in (("existing name", 12, 2, True), ("existing name, trailing dot", 2, 2, False), ("missing name", 12, 12, False)):
        n = after if late else before
        _cell(arm, "glibc getaddrinfo", "look-up, A and AAAA", about, n, ndots, found="missing" not in about, talk=(2 if late else 12) if talk else None)
    _cell(arm, "Postfix smtp", "delivery by MX", "MX of the domain", 1, ndots)


def _cell(arm: ArmBuilder, who: str, operation: str, about: str, n: int, ndots: int, *, found: bool = True, talk: int | None = None) -> None:
    arm.event(LOG, "dns_look_up", BEGIN - 0.5, who=who, version="2.41", operation=operation, about=about, name="n1.nonce.example.net", ndots=ndots, queries=n,
              types={"A": n}, unanswered=0, found=found, flaws=[], talk=talk)


def dns_history(root: Any, arms: tuple[str, ...] = ("ndots-5", "ndots-1"), burst: int = 200) -> HistoryBuilder:
    """A good run of :func:`ndots_plan`, to be spoilt."""
    made = HistoryBuilder(root, ndots_plan(), arms=list(arms), burst=burst)
    for arm in made.arms:
        plant_dns(arm)
    return made


# -- planted defects --------------------------------------------------------------------------------------------------
def event_of(arm: ArmBuilder, kind: str, pod: str) -> dict[str, Any]:
    """The event of ``kind`` about ``pod``."""
    return next(e for e in arm.of(LOG, kind) if e["pod"] == pod)


def drop_packets(arm: ArmBuilder) -> None:
    """The kernel could not hand over three packets of one pod."""
    event_of(arm, "dns_capture", "mx-0")["drops"] = 3


def forget_layer(arm: ArmBuilder) -> None:
    """unbound was not captured."""
    arm.events[LOG] = [e for e in arm.events[LOG] if e.get("layer") != "unbound"]


def residual(share: float) -> Callable[[ArmBuilder], None]:
    """CoreDNS sent more than its questions account for, by ``share`` of what it sent."""

    def plant(arm: ArmBuilder) -> None:
        passed = event_of(arm, "dns_passed", "coredns-0")
        more = max(1, round(passed["sent"] * share))
        passed["sent"] += more
        passed["unexplained"] = more
        event_of(arm, "dns_passed", "unbound-0")["received"]["cluster DNS"] += more
        event_of(arm, "dns_passed", "unbound-0")["terms"]["answered without asking further"] -= more

    return plant


def lose_on_the_wire(arm: ArmBuilder) -> None:
    """One query that an application sent came to no CoreDNS."""
    event_of(arm, "dns_passed", "mx-0")["sent"] += 1


def counted_otherwise(side: str, share: float) -> Callable[[ArmBuilder], None]:
    """unbound counted more queries than were captured (``received`` or ``sent``), by ``share``."""

    def plant(arm: ArmBuilder) -> None:
        by_itself = event_of(arm, "dns_counted", "unbound-0")["counted"]
        by_itself[side] += round(by_itself[side] * share)

    return plant

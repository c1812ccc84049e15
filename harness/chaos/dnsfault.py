"""Faults of DNS: the proxies between CoreDNS and the resolvers are told what to strike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed


def dns_fault(
    component: str, strike: str, pods: int = 2, qtypes: list[str] | None = None, zones: list[str] | None = None, rate: float = 1.0,
    delay_s: float = 0.0, data: Mapping[str, list[str]] | None = None, for_s: float = 10.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Give the DNS proxies ``victims`` one rule for ``for_s`` seconds (what it may hold: ``harness.dns.faults``).

    Evidence: the proxies' counters of the queries they struck; none is a failed fault. Undone when they hold no rule.
    """
    rule = {"fault": strike, "qtypes": qtypes or [], "zones": zones or [], "rate": rate, "delay_s": delay_s, "data": data or {}}
    act = partial(_dns_fault, rule=rule, for_s=for_s)
    return carry_out("dns_fault", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _dns_fault(f: Fault, rule: Mapping[str, Any], for_s: float) -> None:
    before = [f.pod(v) for v in f.victims]
    for pod in before:
        f.arm("dns_rules", pod=pod.name, uid=pod.uid)
    f.say("begin", rule=rule, for_s=for_s)
    for pod in before:
        f.world.dns.put(pod.name, [rule])
    f.hold(for_s)
    found = {p.name: f.world.dns.counters(p.name)["rules"] for p in before}
    if not any(r["struck"] for rules in found.values() for r in rules):
        raise FaultFailed(f"the proxies struck no query: {found}", where=f.name)
    for name, rules in found.items():
        f.say("evidence", pod=name, rules=rules)
    f.say("end")

"""DNS was counted whole: what one layer sent the next one got, and every query that a server sent has its reason.

Between two captures of the same wire the numbers must be equal to the query. Within a server (the lab's CoreDNS, unbound) what came, less what it
answered by itself, plus retries, health probes and qname minimisation, must be what it sent, but for 1 %. What a server that counts by itself (CoreDNS,
unbound) has counted meanwhile must be what was captured of it, but for 1 %. A capture that dropped a packet, a layer that
was not captured or not quiet, a pod that came or went meanwhile, a second DNS cache in the path, and a Postfix with a resolv.conf of its own leave the
numbers open. The check cannot FAIL: what does not add up was
not understood, so nothing that rests on it may pass.

Limits: ``layers_min`` captured layers, the applications among them; ``queries_min`` queries of the applications.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import plural, verdict, worst_of
from harness.model.dnsaccount import Account, Step
from harness.model.dnsflow import Layer
from harness.model.verdict import Status, Verdict
from harness.store.dns import path_problems
from harness.store.dnsflow import account, counted, counters, layers
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"layers_min": 4, "queries_min": 50}
NAME = "dns-account"


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE, with every step of the account as evidence."""
    if not counted(arm):
        return verdict(arm, NAME, Status.INCONCLUSIVE, _why_not(arm))
    settled = account(arm)
    problems = [*_layers(arm, limits), *settled.problems, *_pods(arm), *_counters(arm), *path_problems(arm), *_chroots(arm), *_load(settled, limits)]
    figures = {"steps": len(settled.steps), "residual_share_max": max((s.share or 0.0 for s in settled.steps), default=0.0), "drops": _drops(arm)}
    status, reason = worst_of([(Status.INCONCLUSIVE, p) for p in problems], _well(settled))
    return verdict(arm, NAME, status, reason, figures, [line(s) for s in settled.steps])


def line(step: Step) -> str:
    """One step as a line: from, to, terms, residual."""
    terms = "".join(f" {n:+d} {name}" for name, n in step.terms.items())
    share = f" ({100 * step.share:.2f} %)" if step.share is not None else ""
    return f"{step.above} → {step.below}: {step.sent}{terms} = {step.expected}, seen {step.received}, residual {step.residual:+d}{share}" if step.residual is not None else (
        f"{step.above} → {step.below}: not counted")


def _why_not(arm: ArmHistory) -> str:
    said = [str(e.get("why")) for e in arm.events("not_supported") if e.get("what") == "dns"]
    if said:
        return f"not supported here: {said[0]}"
    why = [str(e.get("what")) for e in arm.events("incident") if e.get("where") == "dns"]
    return why[0] if why else "DNS was not counted in this arm"


def _chroots(arm: ArmHistory) -> list[str]:
    """Pods whose Postfix goes by another resolv.conf than the one that was recorded."""
    return [f"{e['pod']}: {e['chroot']}" for e in arm.events("dns_capture") if e.get("chroot")]


def _layers(arm: ArmHistory, limits: Mapping[str, float]) -> list[str]:
    found = layers(arm)
    missing = [] if Layer.APPLICATION in found else ["no application was captured"]
    return missing + ([f"only {plural(len(found), 'layer')} captured, {limits['layers_min']:.0f} are needed"] if len(found) < limits["layers_min"] else [])


def _pods(arm: ArmHistory) -> list[str]:
    """Pods of the captured components that were not captured from beginning to end: they came or went meanwhile."""
    seen = {(str(e["pod"]), str(e["uid"])) for e in arm.events("dns_capture")}
    components = {str(e["component"]) for e in arm.events("dns_capture")}
    there = {(str(p["name"]), str(p["uid"])) for e in arm.events("pods_at_end") for p in e["pods"] if p["component"] in components}
    if not arm.events("pods_at_end"):
        return ["which pods there were at the end is not on record"]
    return [f"pod {name} was not captured all the time: it came or went meanwhile" for name, _ in sorted(seen ^ there)]


def _counters(arm: ArmHistory) -> list[str]:
    """Servers whose own counters are not known, in a run that read them."""
    read = {str(e["pod"]): str(e["why"]) for e in counters(arm)}
    wanted = {str(e["pod"]) for e in arm.events("dns_passed") if e["layer"] in (Layer.CLUSTER, Layer.RESOLVER)} if read else set()
    return [f"{pod}: what it counted by itself is not known: {read.get(pod) or 'it was not read'}" for pod in sorted(wanted | set(read)) if read.get(pod, "?")]


def _load(settled: Account, limits: Mapping[str, float]) -> list[str]:
    asked = settled.steps[0].sent if settled.steps else 0
    return [f"the applications asked {asked or 0} queries, {limits['queries_min']:.0f} are needed"] if (asked or 0) < limits["queries_min"] else []


def _drops(arm: ArmHistory) -> float:
    return float(sum(int(e.get("drops") or 0) for e in arm.events("dns_capture")))


def _well(settled: Account) -> str:
    first = settled.steps[0]
    worst = max(100 * (s.share or 0.0) for s in settled.steps)
    return f"{first.sent} queries of the applications and what became of them are accounted for in {len(settled.steps)} steps; largest residual {worst:.2f} %, no packet dropped"

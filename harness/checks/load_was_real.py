"""The load was what the plan says, and neither the generator nor the host was the limit.

Asks for: enough attempts; a load that came to its end; a schedule that was kept; a host whose CPUs were not used up (p95); a server that offers
the extensions which the load was to use; and, where the plan says that a component saturates, throttled periods of its pods.

Limits: ``attempts_min``; ``lag_p99_ms_max``: p95 over the seconds of the load of the schedule lag's p99; ``host_cpu_p95_max`` (0…1);
``throttled_share_min``: share of throttled CFS periods of the mx pods during the burst (0 = the plan does not say that they saturate).
Never FAIL: an unreal load shows nothing. Known limits: the host's CPU is judged as a whole, not per core.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks import dns_evidence
from harness.checks.common import verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory, Span
from harness.store.spans import lag_p99_ms, load_span, nearest_rank
from harness.store.throttling import throttled_share

LIMITS: dict[str, float | None] = {"attempts_min": 100, "lag_p99_ms_max": 250, "host_cpu_p95_max": 0.8, "throttled_share_min": 0}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE, with what was the limit instead of the platform."""
    span = load_span(arm)
    if span is None:
        return verdict(arm, "load-was-real", Status.INCONCLUSIVE, "there was no load")
    figures: dict[str, float] = {}
    problems = [*_attempts(arm, span, limits, figures), *_schedule(arm, span, limits, figures), *_host(arm, span, limits, figures)]
    problems += [*_throttled(arm, limits, figures), *_not_offered(arm)]
    status, reason = worst_of([(Status.INCONCLUSIVE, text) for text in problems], _well(figures))
    return verdict(arm, "load-was-real", status, reason, figures)


def _well(figures: Mapping[str, float]) -> str:
    lag, cpu = figures.get("lag_p99_ms", 0.0), figures.get("host_cpu_p95", 0.0)
    return f"{figures.get('attempts', 0):.0f} attempts, schedule lag {lag:.0f} ms, host CPU p95 {cpu:.0%}"


def _attempts(arm: ArmHistory, span: Span, limits: Mapping[str, float], figures: dict[str, float]) -> list[str]:
    if arm.plan.load.kind == "dns":
        n = dns_evidence.queries(arm, span.begin, span.end)
    else:
        n = int(arm.one("SELECT count(*) FROM invokes WHERE t BETWEEN ? AND ?", [span.begin, span.end]))
    figures["attempts"] = n
    problems = [f"only {n} attempts, {limits['attempts_min']:.0f} are needed"] if n < limits["attempts_min"] else []
    for end in arm.events("load_end"):
        if end.get("reason") not in ("done", "deadline"):
            problems.append(f"the load was ended early ({end.get('reason')})")
    ended = {str(end["log"]) for end in arm.events("load_end")}
    if not ended:
        return [*problems, "the load did not come to its end"]
    return [*problems, *(f"the load of {log} did not come to its end" for log in sorted(arm.load_states()) if log not in ended)]


def _schedule(arm: ArmHistory, span: Span, limits: Mapping[str, float], figures: dict[str, float]) -> list[str]:
    lag = lag_p99_ms(arm, span)
    if lag is None:
        return ["the generator did not say whether it kept its schedule"]
    figures["lag_p99_ms"] = lag
    if figures["lag_p99_ms"] > limits["lag_p99_ms_max"]:
        return [f"the generator was {figures['lag_p99_ms']:.0f} ms behind its schedule, limit {limits['lag_p99_ms_max']:.0f} ms: it was the limit"]
    return []


def _host(arm: ArmHistory, span: Span, limits: Mapping[str, float], figures: dict[str, float]) -> list[str]:
    samples = [float(e["cpu_share"]) for e in arm.events("host") if span.begin <= e["t"] <= span.end]
    if not samples:
        return ["the host's CPU was not sampled during the load"]
    figures["host_cpu_p95"] = nearest_rank(samples, 0.95)
    if figures["host_cpu_p95"] > limits["host_cpu_p95_max"]:
        return [f"the host's CPUs were used up (p95 {figures['host_cpu_p95']:.0%}, limit {limits['host_cpu_p95_max']:.0%}): the machine was the limit"]
    return []


def _not_offered(arm: ArmHistory) -> list[str]:
    missing = sorted({(str(e.get("extension")), str(e.get("proto"))) for e in arm.events("not_offered")})
    return [f"the server offers no {extension} ({proto}), so the load was without it" for extension, proto in missing]


def _throttled(arm: ArmHistory, limits: Mapping[str, float], figures: dict[str, float]) -> list[str]:
    share = throttled_share(arm, "mx")
    if share is not None:
        figures["throttled_share"] = share
    wanted = limits["throttled_share_min"]
    if not wanted:
        return []
    if share is None:
        return ["throttling of the mx pods was not sampled, so nobody knows whether they saturated"]
    return [f"the mx pods were throttled in {share:.0%} of their periods only, not saturated"] if share < wanted else []

"""Rate control holds: the burst is slowed down, nobody is turned away, ordinary mail does not notice.

It holds when the planned limit acted at all; every offered mail was accepted by the plan's intake deadline; deferrals are the planned limit's
and not a system's failure; there was no 5xx; ordinary mail was rarely deferred and stayed within its latency.

Limits: ``ordinary_p99_ms_max``; ``ordinary_deferred_share_max`` of its attempts; ``system_share_max``: deferrals and broken attempts
of other kinds per attempt; ``refused_max`` and ``late_max`` mails; ``client_mails_max`` mails acknowledged to one client address within any
``client_window_s`` seconds by all pods together (0 = not judged; a token bucket lets its burst and the rate of the window through).
Source: T15 of the talk. Mails planted for filters are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, mail_lines, plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.control import control_figures, cut_short, fastest_client, late
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency
from harness.store.spans import load_span

LIMITS: dict[str, float | None] = {
    "ordinary_p99_ms_max": 60000, "ordinary_deferred_share_max": 0.05, "system_share_max": 0.01, "refused_max": 0, "late_max": 0,
    "client_mails_max": 0, "client_window_s": 10,
}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL where a rule is broken; INCONCLUSIVE when the limit never acted, nothing was offered, or ordinary mail was not seen."""
    span = load_span(arm)
    arm.fates()
    offered = int(arm.one("SELECT count(*) FROM fates WHERE state <> 'not_counted'"))
    if span is None or not offered:
        return verdict(arm, "rate-control", Status.INCONCLUSIVE, "there was no load to control")
    figures = control_figures(arm, span)
    figures["client_mails"] = float(fastest_client(arm, limits["client_window_s"]))
    problems = _problems(figures, limits, cut_short(arm, span))
    latency = ordinary_latency(arm)
    if latency is None or not latency.watched:
        problems.append((Status.INCONCLUSIVE, "no ordinary mail was seen arriving"))
    else:
        figures["ordinary_p99_ms"] = latency.p99_ms
        if latency.p99_ms > limits["ordinary_p99_ms_max"]:
            problems.append((Status.FAIL, f"ordinary mail took {latency.p99_ms / 1000:.1f} s at p99, limit {limits['ordinary_p99_ms_max'] / 1000:.1f} s"))
    status, reason = worst_of(as_far_as_known(arm, problems), f"the limit deferred {figures['planned']:.0f} attempts, and all {offered} mails were accepted in time")
    return verdict(arm, "rate-control", status, reason, {"offered": offered, **figures}, mail_lines(arm, late(arm, span)) if problems else ())


def _problems(figures: Mapping[str, float], limits: Mapping[str, float], cut: bool) -> list[tuple[Status, str]]:
    found = []
    if not figures["planned"]:
        found.append((Status.INCONCLUSIVE, "the planned limit deferred nothing, so it was not put to the test"))
    if figures["late"] > limits["late_max"]:
        mails = plural(figures["late"], "mail")
        if cut:
            found.append((Status.INCONCLUSIVE, f"the load was ended before the intake deadline, with {mails} not accepted yet"))
        else:
            found.append((Status.FAIL, f"{mails} not accepted by the intake deadline"))
    if figures["refused"] > limits["refused_max"]:
        found.append((Status.FAIL, f"{plural(figures['refused'], 'mail')} refused with 5xx"))
    if limits["client_mails_max"] and figures["client_mails"] > limits["client_mails_max"]:
        let = f"{figures['client_mails']:.0f} mails of one client were let through in {limits['client_window_s']:.0f} s"
        found.append((Status.FAIL, f"{let}, limit {limits['client_mails_max']:.0f}: the limit is not one for all pods"))
    for name, what in (("system_share", "of the attempts failed otherwise than by the limit"), ("ordinary_deferred_share", "of ordinary mail's attempts were deferred")):
        if figures[name] > limits[f"{name}_max"]:
            found.append((Status.FAIL, f"{figures[name]:.1%} {what}, limit {limits[name + '_max']:.1%}"))
    return found

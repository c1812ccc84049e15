"""The service answers, protocol by protocol; and after a fault it comes back in time.

An operation fails when it ends without an answer, with a system's failure (4xx that is neither planned limit nor greylisting) or with 5xx;
at submission any 4xx is a failure, since user agents do not retry. Outside of faults the share of failures is limited; within a fault's window
(its begin to its end and ``grace_s``) only the outage is: the longest time between two successes that has a failure in it.

Limits: ``failed_share_max``; ``outage_s_max`` seconds per fault and protocol; ``grace_s``; ``operations_min`` per protocol, with fewer
INCONCLUSIVE. Warm-up is not judged. Known limits: the outage is as fine as operations are frequent.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import as_far_as_known, verdict, worst_of
from harness.checks.outages import outages, prepare, shares, windows
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory
from harness.store.spans import load_span

LIMITS: dict[str, float | None] = {"failed_share_max": 0.01, "outage_s_max": 60, "grace_s": 10, "operations_min": 20}
#: Parameters of the load that say which protocols must have been in use.
_EXPECTED = {"imap_users": "imap", "pop_users": "pop3", "submit_rate_per_s": "submission", "elastic_senders": "smtp", "steady_rate_per_s": "smtp"}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL above a limit or without recovery; INCONCLUSIVE when a protocol of the load was hardly used."""
    span = load_span(arm)
    if span is None:
        return verdict(arm, "availability", Status.INCONCLUSIVE, "there was no load, so nothing was asked for")
    prepare(arm)
    figures: dict[str, float] = {}
    found = [*_rates(arm, limits, figures), *_faults(arm, limits, figures)]
    status, reason = worst_of(as_far_as_known(arm, found), _well(figures))
    return verdict(arm, "availability", status, reason, figures)


def _rates(arm: ArmHistory, limits: Mapping[str, float], figures: dict[str, float]) -> list[tuple[Status, str]]:
    span = load_span(arm)
    assert span is not None
    problems = []
    seen = shares(arm, span, windows(arm, limits["grace_s"]))
    wanted = {proto for key, proto in _EXPECTED.items() if float(arm.plan.load_params(arm.name).get(key) or 0) > 0}
    for proto in sorted({*seen, *wanted}):
        total, failed = seen.get(proto, (0, 0))
        share = failed / total if total else 0.0
        figures |= {f"{proto}_operations": total, f"{proto}_failed_share": share}
        if total < limits["operations_min"]:
            problems.append((Status.INCONCLUSIVE, f"only {total} {proto} operations, {limits['operations_min']:.0f} are needed"))
        elif share > limits["failed_share_max"]:
            problems.append((Status.FAIL, f"{share:.1%} of {total} {proto} operations failed, limit {limits['failed_share_max']:.1%}"))
    return problems if figures else [(Status.INCONCLUSIVE, "no operation is on record")]


def _faults(arm: ArmHistory, limits: Mapping[str, float], figures: dict[str, float]) -> list[tuple[Status, str]]:
    span = load_span(arm)
    assert span is not None
    problems = []
    for o in outages(arm, span):
        figures[f"{o.fault}_{o.proto}_outage_s"] = o.outage_s
        if o.recovery_s is None:
            problems.append((Status.FAIL, f"{o.proto} did not come back after {o.fault}"))
            continue
        figures[f"{o.fault}_{o.proto}_recovery_s"] = o.recovery_s
        if o.outage_s > limits["outage_s_max"]:
            problems.append((Status.FAIL, f"{o.fault} stopped {o.proto} for {o.outage_s:.1f} s, limit {limits['outage_s_max']:.0f} s"))
    return problems


def _well(figures: Mapping[str, float]) -> str:
    protos = [k.removesuffix("_operations") for k in figures if k.endswith("_operations")]
    outage = max((v for k, v in figures.items() if k.endswith("_outage_s")), default=None)
    longest = f"; longest outage by a fault {outage:.1f} s" if outage is not None else ""
    return f"{', '.join(protos)} answered within their limits{longest}"

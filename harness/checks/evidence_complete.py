"""The record is whole: every writer opened and closed its log, nothing is damaged, the samples have no gap.

Without a PASS here no PASS of the run is possible. Asks for: what the conductor said would be written; both ends of load, settle and census;
the end of the load; two rounds of census; an attempt's begin for every end; one clock that never jumps; samples of host and queues, and the
load's state, without a hole. A census (and its settling) is asked for where the conductor announced its log, samples of queues where the target can list them.
Of a load of DNS queries instead: every cell to its end, unbound's settings and its samples, and two accounts in which the caches got what was sent.

Limits: ``gap_s_max``: the longest time without a sample or state during the load. Never FAIL: missing evidence shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from harness.checks import dns_evidence
from harness.checks.common import plural, verdict
from harness.model.verdict import Status, Verdict
from harness.store.history import SECOND, ArmHistory, Span
from harness.store.spans import load_span

LIMITS: dict[str, float | None] = {"gap_s_max": 15}
PHASES = ("load", "settle", "census")
#: Threads of one writer may overtake one another by less than this.
BACK_S_MAX = 1.0
SERIES = ("load_state", "queue", "host")


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE, with every gap named."""
    gaps = [*_writers(arm), *_phases(arm), *_clock(arm), *(dns_evidence.gaps(arm) if _dns(arm) else (*_ledger(arm), *_census(arm)))]
    span = load_span(arm)
    longest = {kind: _longest_gap_s(arm, kind, span) for kind in _series(arm)} if span else {}
    gaps += [f"{s:.0f} s of the load without a '{kind}' event" for kind, s in longest.items() if s > limits["gap_s_max"]]
    missed = len(arm.events("sample_missed"))
    figures = {"gaps": len(gaps), "samples_missed": missed, "logs": len(arm.logs)} | {f"{k}_gap_s": v for k, v in longest.items()}
    if gaps:
        more = f", and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        return verdict(arm, "evidence-complete", Status.INCONCLUSIVE, f"{gaps[0]}{more}", figures, gaps)
    reason = f"{plural(len(arm.logs), 'log')} whole, {missed} samples missed, none for longer than {limits['gap_s_max']:.0f} s"
    return verdict(arm, "evidence-complete", Status.PASS, reason, figures)


def _dns(arm: ArmHistory) -> bool:
    return arm.plan.load.kind == "dns"


def _series(arm: ArmHistory) -> tuple[str, ...]:
    if _dns(arm):
        return dns_evidence.SERIES
    return tuple(kind for kind in SERIES if kind != "queue" or not arm.lacks("queues"))


def _writers(arm: ArmHistory) -> list[str]:
    gaps = [f"{d.path}: {d.what} (at octet {d.offset})" if d.offset else f"{d.path}: {d.what}" for d in arm.damages]
    expected = arm.expected_writers
    if not expected:
        gaps.append("the conductor did not say which logs there must be")
    for name in sorted({*expected, *arm.logs}):
        if name not in arm.logs:
            gaps.append(f"{name} is missing")
        elif name not in arm.writers_closed and not any(d.path == name for d in arm.damages):
            gaps.append(f"{name} has no end mark: its writer was cut off")
    return gaps


def _phases(arm: ArmHistory) -> list[str]:
    wanted = dns_evidence.PHASES if _dns(arm) else PHASES if _reads(arm) else PHASES[:1]
    gaps = [f"the phase '{name}' has no begin or no end on record" for name in wanted if arm.phase(name) is None]
    if not arm.events("load_end"):
        gaps.append("the load did not say how it ended")
    if arm.judged is None:
        gaps.append("the load never left its warm-up")
    return gaps


def _ledger(arm: ArmHistory) -> list[str]:
    orphans = arm.one("SELECT count(*) FROM dones d ANTI JOIN invokes i ON i.mail = d.mail AND i.rcpt = d.rcpt AND i.attempt = d.attempt")
    unoffered = arm.one("SELECT count(*) FROM invokes i ANTI JOIN offers o ON o.mail = i.mail AND o.rcpt = i.rcpt")
    gaps = [f"{plural(orphans, 'attempt')} ended that never began"] if orphans else []
    return gaps + ([f"{plural(unoffered, 'attempt')} with a mail that was never offered"] if unoffered else [])


def _clock(arm: ArmHistory) -> list[str]:
    """All writers share one clock that only goes forward: what contradicts it was written by a clock that jumped."""
    back = arm.one("SELECT count(*) FROM dones d JOIN invokes i USING (mail, rcpt, attempt) WHERE d.t < i.t")
    gaps = [f"{plural(back, 'attempt')} ended before it began: the clock jumped"] if back else []
    for name, log in sorted(arm.logs.items()):
        times = [int(e["t"]) for e in log.events if e["kind"] not in ("log_opened", "log_closed")]
        by_s = max((a - b for a, b in pairwise(times)), default=0) / SECOND
        gaps += [f"{name}: its clock went back by {by_s:.0f} s"] if by_s > BACK_S_MAX else []
    deploy, census = arm.phase("deploy"), arm.phase("census")
    if deploy and census:
        outside = arm.one("SELECT count(*) FROM invokes WHERE t < ? OR t > ?", [deploy[0], census[0]])
        gaps += [f"{plural(outside, 'attempt')} outside the arm's time: the load's clock is another"] if outside else []
    return gaps


def _census(arm: ArmHistory) -> list[str]:
    rounds = {int(r) for (r,) in arm.sql("SELECT DISTINCT round FROM scopes")}
    return [f"round {n} of the census is not on record" for n in (1, 2) if n not in rounds and _reads(arm)]


def _reads(arm: ArmHistory) -> bool:
    """Whether the mailboxes were to be read: not where a load has nowhere to read from and its conductor said so from the start."""
    return "census.log" in arm.expected_writers or not arm.lacks("readers")


def _longest_gap_s(arm: ArmHistory, kind: str, span: Span) -> float:
    writers = arm.load_states().values() if kind == "load_state" else [arm.events(kind)]
    return max((_hole_s([int(e["t"]) for e in events], span) for events in writers), default=span.seconds)


def _hole_s(times: Sequence[int], span: Span) -> float:
    inside = [span.begin, *(t for t in times if span.begin <= t <= span.end), span.end]
    return max(b - a for a, b in pairwise(inside)) / SECOND

"""The validity box: everything that could have made a run say nothing, with what was seen of it.

Where a check judges it, the answer is that check's; the rest is reported as measured. What was not recorded says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import CleanupIncomplete
from harness.model.plan import Plan
from harness.model.verdict import Status, worst
from harness.report.judged import TONES, Judged
from harness.report.series import ArmData, nearest_rank
from harness.report.sheet import Validity
from harness.report.text import duration, number, percent, plain
from harness.store.sessions import Session

_WORDS = {Status.PASS: "yes", Status.INCONCLUSIVE: "not shown", Status.FAIL: "no"}
#: The check is named by file name with ``-``.
_JUDGED = (
    ("evidence-complete", "Is the record complete?"),
    ("load-was-real", "Was the load real?"),
    ("faults-happened", "Did the faults happen?"),
)


def validity(judged: Judged, arms: Sequence[ArmData], meta: Mapping[str, Any], plan: Plan, seal: str) -> tuple[Validity, ...]:
    """The rows of the box."""
    rows = [_judged(judged, check, question) for check, question in _JUDGED]
    rows[2] = _faults(rows[2], arms, plan)
    return (
        *rows[:2], _generator(arms), _host(arms), rows[2], _gaps(arms), _cleanup(meta), _sealed(seal),
    )  # fmt: skip


def _judged(judged: Judged, check: str, question: str) -> Validity:
    found = [c for c in judged.checks if c.check == check]
    if not found:
        return Validity(question, "inconclusive", "not shown", f"the check {check} was not made")
    status = worst(c.status for c in found)
    reasons = dict.fromkeys(c.reason for c in found if c.status == status)
    where = "" if status == Status.PASS else " in " + ", ".join(plain(c.arm) for c in found if c.status == status)
    return Validity(question, TONES[status], _WORDS[status] + where, "; ".join(reasons))


def _faults(row: Validity, arms: Sequence[ArmData], plan: Plan) -> Validity:
    if not plan.faults:
        return Validity(row.question, "info", "none planned", "the plan has no faults")
    edges = Counter(str(e.get("edge")) for arm in arms for e in arm.events("fault"))
    seen = ", ".join(f"{name} {edges[name]}" for name in ("triggered", "begin", "evidence", "undone", "failed") if edges[name])
    return Validity(row.question, row.tone, row.word, f"{row.seen} (events: {seen or 'none'})")


def _generator(arms: Sequence[ArmData]) -> Validity:
    states = [e for arm in arms for e in arm.events("load_state")]
    question = "Was the generator the limit?"
    if not states:
        return Validity(question, "inconclusive", "not shown", "no state of the generator was recorded")
    lag = max(float(e.get("lag_p99_ms") or 0) for e in states)
    longest = max(float(e.get("lag_max_ms") or 0) for e in states)
    memory = max(float(e.get("rss_bytes") or 0) for e in states)
    seen = (
        f"behind schedule by at most {duration(lag / 1000)} (p99 of a second), once {duration(longest / 1000)}; "
        f"CPU up to {number(max((_cores(a) for a in arms), default=0.0))} of a core; memory up to {number(memory / 2**20)} MiB"
    )
    return Validity(question, "info", "measured", seen)


def _cores(arm: ArmData) -> float:
    """The generator's mean CPU use over the load, in cores; of several, the busiest."""
    logs: dict[str, list[Mapping[str, Any]]] = {}
    for event in sorted(arm.events("load_state"), key=lambda e: int(e["t"])):
        logs.setdefault(str(event.get("log")), []).append(event)
    return max(map(_mean_cores, logs.values()), default=0.0)


def _mean_cores(states: Sequence[Mapping[str, Any]]) -> float:
    span = (int(states[-1]["t"]) - int(states[0]["t"])) / 1e9 if states else 0.0
    return (float(states[-1].get("cpu_s") or 0) - float(states[0].get("cpu_s") or 0)) / span if span > 0 else 0.0


def _host(arms: Sequence[ArmData]) -> Validity:
    samples = [e for arm in arms for e in arm.events("host")]
    question = "Was the host the limit?"
    if not samples:
        return Validity(question, "inconclusive", "not shown", "no sample of the host was recorded")
    shares = sorted(float(e["cpu_share"]) for e in samples)
    memory = min(float(e.get("mem_available_bytes") or 0) for e in samples)
    seen = f"CPU p95 {percent(nearest_rank(shares, 0.95))}, median {percent(nearest_rank(shares, 0.5))} of all cores; "
    return Validity(question, "info", "measured", f"{seen}at least {number(memory / 2**30)} GiB of memory free; {number(len(shares))} samples")


def _gaps(arms: Sequence[ArmData]) -> Validity:
    missed = [e for arm in arms for e in arm.events("sample_missed")]
    question = "Are there gaps in the samples?"
    if not missed:
        return Validity(question, "pass", "none", "no sampler reported a missed sample")
    worst_ones = Counter(f"{e.get('what')}: {e.get('why')}" for e in missed).most_common(5)
    seen = "; ".join(f"{count}× {what}" for what, count in worst_ones)
    return Validity(question, "inconclusive", f"{number(len(missed))} missed", seen)


def _cleanup(meta: Mapping[str, Any]) -> Validity:
    """From ``cleanup`` in the run's head, or else from the exit code that the conductor ended with."""
    state, code = meta.get("cleanup"), meta.get("problem_code")
    question = "Was everything put back?"
    if not isinstance(state, Mapping) and isinstance(code, int):
        left = [str(meta.get("problem"))] if code == CleanupIncomplete.exit_code else []
        state = {"complete": not left, "left": left}
    if not isinstance(state, Mapping):
        return Validity(question, "inconclusive", "not recorded", "the run's record says nothing of its clean-up")
    left = [str(item) for item in _items(state.get("left"))]
    if state.get("complete") and not left:
        return Validity(question, "pass", "yes", "nothing was left behind")
    return Validity(question, "fail", "no", "left behind: " + ("; ".join(left) or "not listed"))


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, (list, tuple)) else ([] if value is None else [value])


def _sealed(seal: str) -> Validity:
    question = "Is the record sealed?"
    if not seal:
        return Validity(question, "inconclusive", "no", "the run did not come to its end")
    return Validity(question, "pass", "yes", f"sha256:{seal}")


def resumption(sessions: Sequence[Session], aside: Sequence[str]) -> tuple[Validity, ...]:
    """Of a run in several sessions: what was put aside and not judged. () for one that was run in one go."""
    if not sessions and not aside:
        return ()
    seals = [f"seal before: {'sha256:' + s.seal if s.seal else 'none'}" for s in sessions]
    left = f"kept under interrupted/ and not judged: {', '.join(map(plain, aside)) or 'nothing'}"
    return (Validity("Was it run in one go?", "info", f"no, in {len(sessions) + 1} sessions", "; ".join((left, *seals))),)


def limits(arms_per_block: Mapping[str, int], meta: Mapping[str, Any], plan: Plan) -> tuple[str, ...]:
    """What the run cannot say, however well it went."""
    out = []
    target = meta.get("target")
    if isinstance(target, Mapping) and target.get("kind") == "kind":
        out.append("One host: ratios, no capacity claim. All nodes, the load and the outside world share its CPU and its page cache.")
    blocks = max(arms_per_block.values(), default=0)
    if blocks == 1:
        out.append("n=1, no interval: every arm ran once, so chance is not told apart from effect.")
    elif blocks < 6:
        out.append(f"n={blocks}: fewer than 6 blocks, no interval.")
    if plan.time_scale != 1:
        out.append(f"Time scale {number(plan.time_scale)}: back-offs, TTLs, lags and grace periods of the stack are divided by it.")
    return tuple(out)

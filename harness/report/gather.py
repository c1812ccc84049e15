"""From a run and its verdict to the sheet: every sentence and number of the report comes through here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Status
from harness.report import facts
from harness.report.arms_over_time import collect, timelines
from harness.report.budgets import budgets
from harness.report.compare import rate_bars, ratio_plot
from harness.report.figures_table import COLUMNS_MAX, arms_table, figure_pairs, split, tiles
from harness.report.judged import TONES, CheckResult, FindingResult, Judged
from harness.report.knees import knee_chart, not_measured
from harness.report.refusals import refusals
from harness.report.series import ArmData, Clock
from harness.report.sheet import (
    ArmsTable,
    Chart,
    FindingText,
    Head,
    Mark,
    Matrix,
    MatrixRow,
    Named,
    Reason,
    Sheet,
)
from harness.report.text import duration, number, plain
from harness.report.timeline import draw
from harness.report.validity import limits, resumption, validity
from harness.store.run import RunDir
from harness.store.sessions import put_aside, sessions

#: Points of each line over all arms; more arms, fewer points, so that the file stays small.
_POINTS_ALL, _POINTS_MAX, _POINTS_MIN = 1500, 240, 50
#: Verdicts whose mails are listed, and mails of each; the rest is in verdict.json.
_NAMED_MAX, _LINES_MAX = 40, 50
_LINE_LENGTH_MAX = 500
_INCIDENTS_MAX = 100
#: A claim refuted is no fault of the platform, so it is not red.
_CLAIM_LOOKS = {
    ClaimResult.CONFIRMED: ("pass", "confirmed"),
    ClaimResult.CONFIRMED_UNDER_CONDITIONS: ("pass", "confirmed under conditions"),
    ClaimResult.REFUTED: ("planned", "refuted"),
    ClaimResult.UNDECIDED: ("inconclusive", "undecided"),
}
_EXITS = {
    0: "pass", 1: "criteria failed", 2: "interrupted and undone", 3: "fault of the harness", 4: "plan or usage", 5: "inconclusive",
    6: "regression against a baseline only", 7: "guard refused", 8: "preflight or stack failed", 9: "budget or stop condition",
    10: "clean-up incomplete",
}  # fmt: skip


def sheet(run: RunDir, judged: Judged, arms: Sequence[tuple[str, ArmData]], run_events: Sequence[Mapping[str, Any]], version: str) -> Sheet:
    """Everything the report says.

    :param arms: every arm under the name that the verdict gives it.
    :param run_events: events of the whole run (``conductor.log``).
    """
    plan, meta = run.plan, run.meta
    data = [arm for _, arm in arms]
    blocks = Counter(arm.name for arm in data)
    notes = {a.name: a.note for a in plan.arms}
    refusal_arms, refused = refusals(data)
    dns = plan.load.kind == "dns"
    return Sheet(
        title=plan.title, question=plan.question, run_id=run.run_id, begun=facts.begun(run.head),
        tone=TONES[judged.status], word=judged.status.name, sentence=_sentence(judged), under=_under(judged, blocks, plan),
        tiles=tiles(judged.figures, {(c.arm, c.check) for c in judged.checks if c.tone == "planned"}), findings=tuple(_finding(f) for f in judged.findings),
        bars=rate_bars(judged.figures), ratios=ratio_plot(judged.findings, max(blocks.values(), default=0)),
        arms=_arms_table(judged, notes, dns), refusal_arms=refusal_arms, refusals=refused,
        matrix=_matrix(judged),
        notable=tuple(_reason(c) for c in judged.checks if c.tone != "pass"),
        passed=tuple(_reason(c) for c in judged.checks if c.tone == "pass"),
        named=_named(judged),
        validity=(*validity(judged, data, meta, plan, run.seal_digest), *resumption(sessions(run), put_aside(run))), limits=(*limits(blocks, meta, plan), *not_measured(plan, arms)),
        unsupported=facts.unsupported(meta), incidents=_incidents(arms, run_events, meta),
        timelines=() if dns else _timelines(arms, notes), timelines_note=_timelines_note(arms),
        tested=facts.tested(plan, run.head, meta), images=facts.images(meta, data), held=facts.held(plan, meta), load=facts.load(plan),
        timings=facts.timings(meta), budgets=budgets(plan, meta, data), phases=facts.phases(meta), command=facts.command(plan, meta), rejudge=f"mailgale judge {run.run_id}",
        seal=run.seal_digest, plan_sha=plan.sha256, version=version, resumed=facts.resumed(sessions(run)),
        knees=knee_chart(arms) if dns else None,
    )  # fmt: skip


def _arms_table(judged: Judged, notes: Mapping[str, str], dns: bool) -> ArmsTable:
    if dns:
        return arms_table(judged.figures, notes, counted="At the top: at the highest rate that was tried. A path without a knee bears every rate that was.")
    return arms_table(judged.figures, notes)


def _sentence(judged: Judged) -> str:
    """The judge's sentence without the word that already stands above it."""
    text = judged.sentence.removeprefix(f"{judged.status.name}: ")
    return text[:1].upper() + text[1:] if judged.status == Status.PASS else text


def _under(judged: Judged, blocks: Mapping[str, int], plan: Plan) -> str:
    counts = Counter(c.word for c in judged.checks)
    checks = ", ".join(f"{counts[w]} {w}" for w in sorted(counts))
    rounds = max(blocks.values(), default=0)
    return (
        f"{len(blocks)} arms × {rounds} block{'s' if rounds != 1 else ''} · {len(judged.checks)} verdicts ({checks or 'none'}) · "
        f"seed {plan.seed} · time scale {number(plan.time_scale)} · exit code {judged.exit_code} ({_EXITS.get(judged.exit_code, 'not known')})"
    )


def _finding(f: FindingResult) -> FindingText:
    tone, word = _CLAIM_LOOKS[f.result]
    return FindingText(f.claim, tone, word, f.reason, f.conditions, figure_pairs(f.figures))


def _reason(c: CheckResult) -> Reason:
    return Reason(c.check, c.arm, c.tone, c.word, c.reason, figure_pairs(c.figures))


def _matrix(judged: Judged) -> Matrix:
    by_place = {(c.check, c.arm): c for c in judged.checks}
    arms = judged.arms
    names = list(dict.fromkeys(c.check for c in judged.checks))
    if len(arms) <= COLUMNS_MAX:
        rows = tuple(MatrixRow(n, tuple(_mark(by_place.get((n, a))) for a in arms)) for n in names)
        return Matrix("Every check in every arm; – where the plan does not ask for it", tuple(Head(a) for a in arms), rows)
    plain_arms = list(dict.fromkeys(split(a)[0] for a in arms))
    merged = tuple(MatrixRow(n, tuple(_worst_mark(judged, n, a) for a in plain_arms)) for n in names)
    return Matrix("Every check in every arm: the worst of all blocks, and in how many", tuple(Head(a) for a in plain_arms), merged)


def _mark(result: CheckResult | None) -> Mark:
    return Mark("", "–") if result is None else Mark(result.tone, result.word)


def _worst_mark(judged: Judged, check: str, arm: str) -> Mark:
    found = [c for c in judged.checks if c.check == check and split(c.arm)[0] == arm]
    if not found:
        return Mark("", "–")
    order = ("pass", "planned", "inconclusive", "fail")
    bad = max(found, key=lambda c: order.index(c.tone))
    count = sum(c.tone == bad.tone for c in found)
    return Mark(bad.tone, f"{bad.word} {count}/{len(found)}")


def _named(judged: Judged) -> tuple[Named, ...]:
    shown = [c for c in judged.checks if c.evidence and c.status != Status.PASS]
    out = []
    for c in shown[:_NAMED_MAX]:
        more = len(c.evidence) - _LINES_MAX
        out.append(Named(c.check, c.arm, tuple(plain(line, length_max=_LINE_LENGTH_MAX) for line in c.evidence[:_LINES_MAX]), f"{more} more in verdict.json" if more > 0 else ""))
    if len(shown) > _NAMED_MAX:
        out.append(Named(f"{len(shown) - _NAMED_MAX} more verdicts name mails", "verdict.json", ()))
    return tuple(out)


def _incidents(arms: Sequence[tuple[str, ArmData]], run_events: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> tuple[str, ...]:
    """What went wrong without ending the run, and what ended it before its time."""
    found = [("run", e) for e in run_events if e.get("kind") == "incident"]
    found += [(f"arm {name}", e) for name, arm in arms for e in arm.events("incident")]
    counted = Counter(": ".join(t for t in (place, plain(e.get("where") or ""), plain(e.get("what") or "")) if t) for place, e in found)
    ended = [f"the run ended before its time: {plain(meta['problem'])}"] if meta.get("problem") else []
    return (*ended, *(text if count == 1 else f"{text} ({count} times)" for text, count in list(counted.items())[:_INCIDENTS_MAX]))


def _timelines(arms: Sequence[tuple[str, ArmData]], notes: Mapping[str, str]) -> tuple[Chart, ...]:
    points = max(_POINTS_MIN, min(_POINTS_MAX, _POINTS_ALL // max(1, len(arms))))
    drawn = timelines([collect(arm, name=name) for name, arm in arms])
    return tuple(
        Chart(plain(name), notes.get(arm.name, ""), draw(line, points_max=points), table)
        for (name, arm), (line, table) in zip(arms, drawn, strict=True)
    )


def _timelines_note(arms: Sequence[tuple[str, ArmData]]) -> str:
    longest = max((Clock(arm).end_s for _, arm in arms), default=0.0)
    return (
        f"All arms have the same scales: {duration(longest)} from the begin of the load to the end of settling. Dotted lines mark phases, "
        "bands mark faults. A broken line means: no sample. Latency is p50 and p99 by nearest rank in slices of time, at the time the mail was due."
    )


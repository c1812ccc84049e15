"""The two pictures that compare arms: what was taken in and delivered per second, and the ratios of the findings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.arms_over_time import Table
from harness.report.bars import Group, Ratio, bars, ratios
from harness.report.figures_table import split
from harness.report.judged import FindingResult
from harness.report.sheet import Chart
from harness.report.text import number, plain

_RATES = (("taken in per second", "accepted", "intake_per_s"), ("delivered per second", "goodput", "goodput_per_s"))
_RATIO = "_ratio"


def rate_bars(figures: Mapping[str, Mapping[str, Any]]) -> Chart | None:
    """Intake and goodput of each arm; None when no arm has either. Of several blocks: the median."""
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for arm, values in figures.items():
        arms.setdefault(split(arm)[0], []).append(values)
    groups = [Group(plain(a), tuple(_median(v, key) for _, _, key in _RATES)) for a, v in arms.items()]
    if not any(v is not None for g in groups for v in g.values):
        return None
    title, under = "Intake and goodput", "mails per second" + (", median of the blocks" if len(arms) < len(figures) else "")
    described = "; ".join(f"{g.name}: {number(g.values[0])} taken in, {number(g.values[1])} delivered" for g in groups)
    table = Table(("arm", *(n for n, _, _ in _RATES)), tuple((g.name, *(number(v) for v in g.values)) for g in groups))
    return Chart(title, under, bars("bars", title, described, [(n, t) for n, t, _ in _RATES], groups), table)


def _median(values: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [float(v[key]) for v in values if isinstance(v.get(key), (int, float))]
    return statistics.median(known) if known else None


def ratio_plot(findings: Sequence[FindingResult], blocks: int) -> Chart | None:
    """Every ratio of the findings with its interval; None when there is none."""
    rows = [_ratio(f, name, blocks) for f in findings for name in f.figures if name.endswith(_RATIO)]
    rows = [r for i, r in enumerate(rows) if r.value is not None and r not in rows[:i]]
    if not rows:
        return None
    title = "Ratios between arms"
    described = "; ".join(f"{r.name} {number(r.value)}{_interval(r)}" for r in rows)
    table = Table(("ratio", "value", "low", "high"), tuple((r.name, number(r.value), number(r.low), number(r.high)) for r in rows))
    return Chart(title, "1 is no difference; logarithmic", ratios("ratios", title, described, rows), table)


def _ratio(finding: FindingResult, name: str, blocks: int) -> Ratio:
    value, low, high = (_number(finding.figures.get(name + tail)) for tail in ("", "_low", "_high"))
    note = f"{number(low)} – {number(high)}" if low is not None and high is not None else f"n={blocks}, no interval"
    return Ratio(_name(finding.claim, name.removesuffix(_RATIO).replace("_", " ")), value, low, high, note)


def _name(claim: str, figure: str) -> str:
    """Claim and figure, without saying a word twice in a row."""
    words = f"{claim} {figure}".split()
    return " ".join(w for i, w in enumerate(words) if not i or w != words[i - 1])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


def _interval(row: Ratio) -> str:
    return f" (from {number(row.low)} to {number(row.high)})" if row.low is not None else ""

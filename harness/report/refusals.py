"""What was deferred, refused or left open: attempts by class, stage and code in each arm, with the server's own words.

Counts are attempts per recipient, from the ledger; the words are the first reply of each kind that the load kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.model.outcome import Deferral, Outcome, Stage
from harness.report.series import ArmData
from harness.report.sheet import Refusal
from harness.report.text import number, plain

_QUERY = (
    "SELECT outcome, deferral, stage, code, enhanced, count(*) FROM dones "
    f"WHERE outcome <> {int(Outcome.OK)} GROUP BY ALL ORDER BY ALL"
)
_OPEN = "SELECT (SELECT count(*) FROM invokes) - (SELECT count(*) FROM dones)"
_CLASSES = {
    Deferral.PLANNED_LIMIT: "planned limit", Deferral.GREYLIST: "greylisting", Deferral.SYSTEM: "system failure", Deferral.NONE: "not deferred",
}  # fmt: skip
#: Kinds shown; the rest is counted in one row.
_KINDS_MAX = 40
Kind = tuple[str, str, str]


def refusals(arms: Sequence[ArmData]) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
    """The arms' names, and a row for each kind of ending that was no acceptance, most frequent first. Blocks are added up."""
    names = tuple(dict.fromkeys(arm.name for arm in arms))
    counts: dict[Kind, Counter[str]] = {}
    for arm in arms:
        for *kind, count in arm.sql(_QUERY):
            counts.setdefault(_kind(*kind), Counter())[arm.name] += int(count)
        cut_off = int(arm.sql(_OPEN)[0][0])
        if cut_off > 0:
            counts.setdefault(("no ending on record", "–", ""), Counter())[arm.name] += cut_off
    words = _words(arms)
    ranked = sorted(counts, key=lambda k: (-counts[k].total(), k))
    rows = [_row(kind, counts[kind], names, words.get(kind[2], "")) for kind in ranked[:_KINDS_MAX]]
    if ranked[_KINDS_MAX:]:
        rest = sum((counts[k] for k in ranked[_KINDS_MAX:]), Counter[str]())
        rows.append(_row((f"{len(ranked) - _KINDS_MAX} further kinds", "", ""), rest, names, ""))
    return names, tuple(rows)


def _kind(outcome: int, deferral: int, stage: int, code: int, enhanced: int) -> Kind:
    if outcome == Outcome.INFO:
        name = "outcome unknown"
    elif code >= 500 or (not code and enhanced >= 50000):
        name = "rejected"
    elif not code:
        name = "no reply"
    else:
        name = _CLASSES.get(Deferral(deferral), "other") if deferral in set(Deferral) else "other"
    at = Stage(stage).name if stage in set(Stage) else "–"
    return name, at, _code(code, enhanced)


def _code(code: int, enhanced: int) -> str:
    if not code and not enhanced:
        return ""
    return f"{code} {enhanced // 10000}.{enhanced // 100 % 100}.{enhanced % 100}" if enhanced else str(code)


def _words(arms: Sequence[ArmData]) -> dict[str, str]:
    """Code → the server's words, from the first reply of its kind in any arm."""
    found: dict[str, str] = {}
    for arm in arms:
        for event in arm.events("reply"):
            found.setdefault(f"{event.get('code', '')} {event.get('enhanced') or ''}".strip(), str(event.get("text", "")))
    return found


def _row(kind: Kind, counts: Counter[str], names: Sequence[str], words: str) -> Refusal:
    return Refusal(*kind, tuple(number(counts[name]) for name in names), plain(words, length_max=300))

"""The arms side by side: counts of mail, rates, latencies, queues, and what several blocks make of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from harness.report.groups import ELSEWHERE, GROUPS, TILES, Entry
from harness.report.sheet import ArmsTable, Cell, Head, Row, Tile
from harness.report.text import duration, label, number, percent, plain

#: More arms times blocks than this are shown as one column an arm, with median and range.
COLUMNS_MAX = 8
Figures = Mapping[str, Mapping[str, Any]]


def split(label_of_arm: str) -> tuple[str, int]:
    """``"2x#3"`` → (``"2x"``, 3); without a block it is 1."""
    name, _, block = label_of_arm.partition("#")
    return name, int(block) if block.isdigit() else 1


def value_text(name: str, value: object) -> str:
    """A figure by the unit in its name, for a reader."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return number(value)
    for tail, show in _BY_UNIT:
        if name.endswith(tail):
            return show(value)
    return number(value)


_BY_UNIT: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_per_s", number), ("_cpu_s", number), ("_ms", lambda v: duration(v / 1000)), ("_ns", lambda v: duration(v / 1e9)),
    ("_s", duration), ("_share", percent), ("_bytes", lambda v: f"{number(v / 2**20)} MiB"),
)  # fmt: skip


def figure_pairs(figures: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Figures of a check or finding, as (name, value); ``x_low`` and ``x_high`` become the interval of ``x``."""
    ends = {name + tail for name in figures for tail in ("_low", "_high") if name + "_low" in figures and name + "_high" in figures}
    return tuple((_bare(n), value_text(n, v) + _interval(n, figures)) for n, v in sorted(figures.items()) if n not in ends)


def _interval(name: str, figures: Mapping[str, Any]) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f" ({value_text(name, low)} – {value_text(name, high)})" if low is not None and high is not None else ""


def _bare(name: str) -> str:
    """The name without a unit that the value shows already."""
    for tail in ("_ms", "_ns", "_s", "_share", "_bytes"):
        if name.endswith(tail) and not name.endswith(("_per_s", "_cpu_s")):
            return plain(name[: -len(tail)].replace("_", " "))
    return plain(label(name))


def tiles(figures: Figures, planned: Collection[tuple[str, str]] = ()) -> tuple[Tile, ...]:
    """The sums over all arms that a reviewer asks for first. A figure that no arm has is left out.

    :param planned: (arm, check) of failures that the plan wants; what happened in those arms alone does not alarm.
    """
    found = []
    for name, shown, alarm, mood, check in TILES:
        total = _sum(figures, name)
        others = {arm: values for arm, values in figures.items() if (arm, check) not in planned}
        alarming, anywhere = (_sum(others, alarm) or 0) > 0, (_sum(figures, alarm) or 0) > 0
        if total is not None:
            found.append(Tile(f"{shown}, as planned" if anywhere and not alarming else shown, number(total), mood if alarming else ""))
    return tuple(found)


def _sum(figures: Figures, name: str) -> float | None:
    known = [v for v in (_total(arm, name) for arm in figures.values()) if v is not None]
    return sum(known) if known else None


def _total(arm: Mapping[str, Any], name: str) -> float | None:
    value = arm.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def arms_table(figures: Figures, notes: Mapping[str, str], *, counted: str = "Mails and attempts are counted per recipient.") -> ArmsTable:
    """Every figure of every arm, under the headings of ``groups``; what stands in none comes last under its own name.

    :param notes: what each arm is, by its name in the plan.
    :param counted: what one is, for the caption.
    """
    columns = _columns(figures)
    rows: list[Row] = []
    zeros: list[str] = []
    for heading, entries in (*GROUPS, ("Further figures", _others(figures))):
        found = [(e, _row(columns, e)) for e in entries if any(e.figure in arm for arm in figures.values())]
        folded = [e.name.removeprefix("… ") for e, row in found if e.fold and all(c.text in ("0", "–") for c in row.cells)]
        present = [row for e, row in found if e.name.removeprefix("… ") not in folded]
        zeros += folded
        rows += [Row(heading), *present] if present else []
    many = len(columns) < len(figures)
    caption = counted + (" Several blocks: median, and below it the range unless all agree." if many else "")
    return ArmsTable(caption, tuple(_head(name, notes) for name in columns), tuple(rows), tuple(zeros))


def _others(figures: Figures) -> tuple[Entry, ...]:
    known = {e.figure for _, entries in GROUPS for e in entries}
    names = dict.fromkeys(n for arm in figures.values() for n in arm if n not in known and not n.startswith(ELSEWHERE))
    return tuple(Entry(n, _bare(n)) for n in names)


def _head(column: str, notes: Mapping[str, str]) -> Head:
    name, _ = split(column)
    return Head(column, notes.get(name, ""))


def _columns(figures: Figures) -> dict[str, list[Mapping[str, Any]]]:
    """One column an arm and block while they fit, otherwise one an arm."""
    if len(figures) <= COLUMNS_MAX:
        return {arm: [values] for arm, values in figures.items()}
    merged: dict[str, list[Mapping[str, Any]]] = {}
    for arm, values in figures.items():
        merged.setdefault(split(arm)[0], []).append(values)
    return merged


def _row(columns: Mapping[str, Sequence[Mapping[str, Any]]], entry: Entry) -> Row:
    cells = (_cell(entry.figure, [v[entry.figure] for v in values if v.get(entry.figure) is not None], entry.mood) for values in columns.values())
    return Row(entry.name, tuple(cells), entry.brief)


def _cell(name: str, values: Sequence[Any], mood: str) -> Cell:
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) != len(values) or not values:
        return Cell(", ".join(dict.fromkeys(value_text(name, v) for v in values)) or "–")
    middle = values[0] if len(values) == 1 else statistics.median(numbers)
    spread = "" if min(numbers) == max(numbers) else f"{value_text(name, min(numbers))} – {value_text(name, max(numbers))}"
    return Cell(value_text(name, middle), mood if max(numbers) > 0 else "", spread)

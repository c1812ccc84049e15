"""Bars that compare arms, and ratios on a logarithmic axis around 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.svg import coordinate, element, text_width, ticks
from harness.report.text import number

WIDTH = 540
_ROW, _RIGHT = 15, 60


@dataclass(frozen=True)
class Group:
    """The bars of one arm: values in the order of the tones; None draws nothing but a dash."""

    name: str
    values: Sequence[float | None]


def bars(key: str, title: str, description: str, tones: Sequence[tuple[str, str]], groups: Sequence[Group]) -> Markup:
    """Horizontal bars in groups, all on one scale that begins at 0.

    :param tones: (name for the legend, tone) of each bar in a group.
    """
    left = 16 + max((text_width(g.name, 11.5) for g in groups), default=0)
    steps = ticks(max((v for g in groups for v in g.values if v is not None), default=0.0), 4)
    scale = (WIDTH - left - _RIGHT) / steps[-1]
    height_each = len(tones) * _ROW + 10
    bottom = 26 + len(groups) * height_each
    parts = _head(key, title, description) + _key(tones, left)
    for value in steps:
        x = left + value * scale
        parts.append(element("path", d=f"M{coordinate(x)},22V{bottom}", class_="grid" if value else "axis"))
        parts.append(element("text", number(value), x=x, y=bottom + 14.0, class_="tick mid"))
    for index, group in enumerate(groups):
        parts += _group(group, tones, 26.0 + index * height_each, left, scale)
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {bottom + 20}", role="img", class_="chart",
                   aria_labelledby=f"{key}-t {key}-d")  # fmt: skip


def _head(key: str, title: str, description: str) -> list[Markup]:
    return [element("title", title, id=f"{key}-t"), element("desc", description, id=f"{key}-d")]


def _key(tones: Sequence[tuple[str, str]], left: float) -> list[Markup]:
    out = []
    x = left
    for name, tone in tones:
        out.append(element("rect", x=x, y=4.0, width=10.0, height=10.0, rx=2.0, class_=f"bar f-{tone}"))
        out.append(element("text", name, x=x + 15, y=13.0, class_="legend"))
        x += 36 + text_width(name, 11)
    return out


def _group(group: Group, tones: Sequence[tuple[str, str]], top: float, left: float, scale: float) -> list[Markup]:
    middle = top + len(tones) * _ROW / 2 + 8
    out = [element("text", group.name, x=left - 8, y=middle, class_="row-name end")]
    for row, ((_, tone), value) in enumerate(zip(tones, group.values, strict=True)):
        y = top + 4 + row * _ROW
        width = (value or 0.0) * scale
        if value is not None:
            out.append(element("rect", x=left, y=y, width=max(width, 0.5), height=_ROW - 3.0, rx=1.5, class_=f"bar f-{tone}"))
        out.append(element("text", number(value), x=left + width + 5, y=y + 9.5, class_="value"))
    return out


@dataclass(frozen=True)
class Ratio:
    """One ratio, with its interval where there is one. ``note`` is what stands beside it, e.g. "n=1, no interval"."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def ratios(key: str, title: str, description: str, rows: Sequence[Ratio]) -> Markup:
    """Points with intervals on a logarithmic axis; 1 ("no difference") is the heavy line."""
    left = 16 + max((text_width(r.name, 11.5) for r in rows), default=0)
    reach = _reach(rows)
    half = (WIDTH - left - 150) / 2
    bottom = 12 + len(rows) * 26

    def x(value: float) -> float:
        return left + half + math.log(value) / math.log(reach) * half

    parts = _head(key, title, description)
    for value in _ratio_ticks(reach):
        parts.append(element("path", d=f"M{coordinate(x(value))},8V{bottom}", class_="axis" if value == 1 else "grid"))
        parts.append(element("text", f"{number(value)}×", x=x(value), y=bottom + 14.0, class_="tick mid"))
    for index, row in enumerate(rows):
        y = 25.0 + index * 26
        parts.append(element("text", row.name, x=left - 8, y=y + 4, class_="row-name end"))
        parts += _ratio(row, y, x, left + 2 * half + 10)
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {bottom + 20}", role="img", class_="chart",
                   aria_labelledby=f"{key}-t {key}-d")  # fmt: skip


def _ratio(row: Ratio, y: float, x: object, text_x: float) -> list[Markup]:
    place = x if callable(x) else float
    out = []
    if row.low and row.high:
        out.append(element("path", d=f"M{coordinate(place(row.low))},{coordinate(y)}H{coordinate(place(row.high))}", class_="whisker"))
    if row.value:
        out.append(element("circle", cx=place(row.value), cy=y, r=4.5, class_="ratio"))
    shown = f"{number(row.value)}×" if row.value is not None else "–"
    out.append(element("text", shown, element("tspan", f"  {row.note}", class_="unit"), x=text_x, y=y + 4, class_="value strong"))
    return out


def _reach(rows: Sequence[Ratio]) -> float:
    seen = [v for r in rows for v in (r.value, r.low, r.high) if v is not None and v > 0 and math.isfinite(v)]
    widest = max((max(v, 1 / v) for v in seen), default=2.0)
    return float(next((s for s in (2, 3, 5, 10, 30, 100) if widest <= s * 0.97), widest * 1.1))


def _ratio_ticks(reach: float) -> list[float]:
    return [v for v in (0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0) if 1 / reach <= v <= reach]

"""The little of SVG that the charts need: elements with escaped text, paths, and axes with round numbers.

Colours are CSS classes, so that one drawing serves light, dark and paper. Coordinates have one decimal: enough for a screen,
small in the file, and the same bytes each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from harness.report.text import plain

Point = tuple[float, float | None]


def element(tag: str, *children: str | Markup, **attributes: object) -> Markup:
    """One element. Text children are made visible and escaped; Markup children are taken as they are.

    :param attributes: ``class_`` is ``class``; ``_`` in other names is ``-``; None is left out; floats get one decimal.
    """
    inner = Markup("").join(c if isinstance(c, Markup) else escape(plain(c)) for c in children)
    body = Markup("").join(_attribute(k, v) for k, v in attributes.items() if v is not None)
    name = Markup(tag)
    return Markup("<{}{}>{}</{}>").format(name, body, inner, name) if inner else Markup("<{}{}/>").format(name, body)


def _attribute(name: str, value: object) -> Markup:
    key = Markup("class" if name == "class_" else _CASED.get(name, name.replace("_", "-")))
    shown = coordinate(value) if isinstance(value, float) else plain(value, length_max=1_000_000)
    return Markup(' {}="{}"').format(key, shown)


_CASED = {"viewBox": "viewBox", "patternUnits": "patternUnits", "patternTransform": "patternTransform"}


def coordinate(value: float) -> str:
    """One decimal, without a trailing ``.0`` and never ``-0``."""
    text = f"{value:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


def path(points: Iterable[Point], *, step: bool = False) -> str:
    """Path data for a line. A point without a value breaks it: what was not seen is not drawn.

    :param step: hold each value until the next point.
    """
    out: list[str] = []
    pen_down, last_y = False, ""
    for x, y in points:
        if y is None:
            pen_down = False
            continue
        at, to = coordinate(x), coordinate(y)
        if pen_down and step:
            out.append(f"H{at}" if to == last_y else f"H{at}V{to}")
        else:
            out.append(f"{'L' if pen_down else 'M'}{at},{to}")
        pen_down, last_y = True, to
    return "".join(out)


def lonely(points: Sequence[Point]) -> list[tuple[float, float]]:
    """The points without a neighbour: a line would not show them, so they are drawn as dots."""
    found = []
    for i, (x, y) in enumerate(points):
        before = points[i - 1][1] if i else None
        after = points[i + 1][1] if i + 1 < len(points) else None
        if y is not None and before is None and after is None:
            found.append((x, y))
    return found


def ticks(top: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to at least ``top``, about ``count`` steps: 1, 2, 2.5 or 5 times a power of ten."""
    if not math.isfinite(top) or top <= 0:
        return [0.0, 1.0]
    rough = top / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def time_ticks(end_s: float, count: int = 8) -> list[float]:
    """Round times from 0 to at most ``end_s`` seconds."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
    step = next((s for s in steps if end_s / s <= count), steps[-1] * max(1, math.ceil(end_s / steps[-1] / count)))
    return [float(i * step) for i in range(int(end_s // step) + 1)]


def thin(points: Sequence[Point], points_max: int) -> list[Point]:
    """At most about ``points_max`` points that keep every peak and dip: lowest and highest of each slice stay."""
    if len(points) <= points_max:
        return list(points)
    width = math.ceil(len(points) / max(1, points_max // 2))
    kept: list[Point] = []
    for begin in range(0, len(points), width):
        kept += _extremes(points[begin : begin + width])
    return kept


def _extremes(part: Sequence[Point]) -> list[Point]:
    known = [(y, i) for i, (_, y) in enumerate(part) if y is not None]
    gap = [next(i for i, (_, y) in enumerate(part) if y is None)] if len(known) < len(part) else []
    return [part[i] for i in sorted({*gap, *((min(known)[1], max(known)[1]) if known else ())})]


def text_width(text: str, size: float = 11.0) -> float:
    """A guess at the width of ``text`` in system fonts, in pixels."""
    return sum(1.0 if ord(c) > 0x2E80 else 0.56 for c in plain(text)) * size

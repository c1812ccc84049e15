"""One picture of one arm over time: panels above each other on one time axis, faults as bands through all of them.

Panels of the same kind share their scale between arms (the caller passes ``top``), so that arms can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from harness.report.svg import Point, coordinate, element, lonely, path, text_width, thin, ticks, time_ticks
from harness.report.text import number

WIDTH = 540
_LEFT, _RIGHT = 50, 8
_PANEL_HEIGHT, _HEAD, _GAP = 78, 21, 12
_LANE_HEIGHT = 17


@dataclass(frozen=True)
class Series:
    """One line. ``tone`` names its colour (CSS class ``s-<tone>``); times in seconds since the load began."""

    name: str
    tone: str
    points: Sequence[Point]
    step: bool = False
    area: bool = False


@dataclass(frozen=True)
class Panel:
    """One diagram. ``top``: end of its scale; ``unit`` stands in its heading."""

    title: str
    unit: str
    series: Sequence[Series]
    top: float

    @property
    def empty(self) -> bool:
        """No series has a single value."""
        return not any(y is not None for s in self.series for _, y in s.points)


@dataclass(frozen=True)
class Lane:
    """How many of something there were: ``steps`` are (from, to, count), in seconds."""

    name: str
    steps: Sequence[tuple[float, float, int]]


@dataclass(frozen=True)
class Band:
    """A fault: from its first effect to its end, in seconds."""

    label: str
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """All that is drawn of one arm."""

    key: str
    title: str
    description: str
    end_s: float
    panels: Sequence[Panel]
    lanes: Sequence[Lane] = ()
    bands: Sequence[Band] = ()
    marks: Sequence[tuple[float, str]] = field(default=())
    begin_s: float = 0.0


class _Frame:
    """Where seconds and values lie on the paper."""

    def __init__(self, line: Timeline) -> None:
        self.begin, self.span = line.begin_s, max(line.end_s - line.begin_s, 1.0)
        self.width = WIDTH - _LEFT - _RIGHT
        self.head = 16 + (15 if line.bands else 0)
        self.plot_height = len(line.panels) * (_HEAD + _PANEL_HEIGHT + _GAP)
        self.lanes_height = (_HEAD + len(line.lanes) * _LANE_HEIGHT + _GAP) if line.lanes else 0
        self.bottom = self.head + self.plot_height + self.lanes_height
        self.height = self.bottom + 22

    def x(self, seconds: float) -> float:
        share = (seconds - self.begin) / self.span
        return _LEFT + min(1.0, max(0.0, share)) * self.width


def draw(line: Timeline, *, points_max: int = 240) -> Markup:
    """The timeline as SVG with title and description for screen readers.

    :param points_max: about so many points are drawn of each series; peaks and dips stay.
    """
    frame = _Frame(line)
    parts = [
        element("title", line.title, id=f"{line.key}-t"),
        element("desc", line.description, id=f"{line.key}-d"),
        *_bands(line, frame),
        *_marks(line, frame),
    ]
    for index, panel in enumerate(line.panels):
        parts.append(_panel(panel, frame, frame.head + index * (_HEAD + _PANEL_HEIGHT + _GAP), points_max))
    if line.lanes:
        parts.append(_lanes(line.lanes, frame, frame.head + frame.plot_height))
    parts.append(_time_axis(frame, line.end_s))
    return element(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {frame.height}", role="img", class_="chart",
        aria_labelledby=f"{line.key}-t {line.key}-d",
    )  # fmt: skip


def _bands(line: Timeline, frame: _Frame) -> list[Markup]:
    out = []
    taken = 0.0
    for band in sorted(line.bands, key=lambda b: b.begin):
        left, right = frame.x(band.begin), frame.x(band.end)
        width = max(right - left, 2.0)
        out.append(element("rect", element("title", band.label), x=left, y=26.0, width=width,
                           height=float(frame.bottom - 26), class_="band"))  # fmt: skip
        at = min(max(left, taken), WIDTH - _RIGHT - text_width(band.label, 10.5))
        out.append(element("text", f"⚡{band.label}", x=max(at, _LEFT), y=22.0, class_="band-label"))
        taken = at + text_width(band.label, 10.5) + 18
    return out


def _marks(line: Timeline, frame: _Frame) -> list[Markup]:
    out = []
    taken = -1.0
    for seconds, label in line.marks:
        x = frame.x(seconds)
        out.append(element("path", d=f"M{coordinate(x)},14V{frame.bottom}", class_="mark"))
        at = max(x + 3, taken)
        if at + text_width(label, 10) <= WIDTH:
            out.append(element("text", label, x=at, y=10.0, class_="mark-label"))
            taken = at + text_width(label, 10) + 6
    return out


def _panel(panel: Panel, frame: _Frame, top: float, points_max: int) -> Markup:
    base = top + _HEAD + _PANEL_HEIGHT
    steps = ticks(panel.top, 3)
    scale = _PANEL_HEIGHT / steps[-1]
    parts = [element("text", panel.title, element("tspan", f" {panel.unit}", class_="unit"), x=float(_LEFT), y=top + 13, class_="panel-title")]
    parts += _legend(panel.series, top + 13)
    for value in steps:
        y = base - value * scale
        parts.append(element("path", d=f"M{_LEFT},{coordinate(y)}h{frame.width}", class_="grid" if value else "axis"))
        parts.append(element("text", number(value), x=_LEFT - 6.0, y=y + 3.5, class_="tick end"))
    if panel.empty:
        parts.append(element("text", "no samples", x=_LEFT + frame.width / 2, y=base - _PANEL_HEIGHT / 2, class_="none"))
    for series in panel.series:
        parts += _line(series, frame, base, scale, points_max)
    return element("g", *parts)


def _line(series: Series, frame: _Frame, base: float, scale: float, points_max: int) -> list[Markup]:
    inside = thin([p for p in series.points if p[0] >= frame.begin], points_max)
    points: list[Point] = [(frame.x(x), None if y is None else base - min(y * scale, _PANEL_HEIGHT + 2)) for x, y in inside]
    out = _over(series, inside, frame, base, scale)
    if series.area and len(points) > 1 and all(y is not None for _, y in points):
        closed = f"{path(points, step=series.step)}V{coordinate(base)}H{coordinate(points[0][0])}Z"
        out.append(element("path", d=closed, class_=f"fill f-{series.tone}"))
    out.append(element("path", d=path(points, step=series.step), class_=f"line s-{series.tone}"))
    out += [element("circle", cx=x, cy=y, r=1.8, class_=f"dot f-{series.tone}") for x, y in lonely(points)]
    return out


def _over(series: Series, points: Sequence[Point], frame: _Frame, base: float, scale: float) -> list[Markup]:
    """What is beyond the scale is cut there, and its highest value written beside the cut."""
    beyond = max(((y, x) for x, y in points if y is not None and y * scale > _PANEL_HEIGHT * 1.001), default=None)
    if beyond is None:
        return []
    text = f"↑ {series.name} {number(beyond[0])}"
    x = min(frame.x(beyond[1]) + 4, WIDTH - _RIGHT - text_width(text, 10))
    return [element("text", text, x=x, y=base - _PANEL_HEIGHT + 8.0, class_="tick")]


def _legend(series: Sequence[Series], y: float) -> list[Markup]:
    out: list[Markup] = []
    right = float(WIDTH - _RIGHT)
    for one in reversed(series):
        right -= text_width(one.name, 10.5)
        out.append(element("text", one.name, x=right, y=y, class_="legend"))
        out.append(element("path", d=f"M{coordinate(right - 21)},{coordinate(y - 3.5)}h16", class_=f"line s-{one.tone}"))
        right -= 34
    return out


def _lanes(lanes: Sequence[Lane], frame: _Frame, top: float) -> Markup:
    parts = [element("text", "Ready endpoints", element("tspan", " per service", class_="unit"), x=float(_LEFT), y=top + 13, class_="panel-title")]
    for index, lane in enumerate(lanes):
        y = top + _HEAD + index * _LANE_HEIGHT
        most = max((count for _, _, count in lane.steps), default=0)
        parts.append(element("text", element("title", lane.name), _short(lane.name), x=_LEFT - 5.0, y=y + 10.5, class_="lane-name end"))
        for begin, end, count in lane.steps:
            parts += _lane_step(frame.x(begin), frame.x(end), y, count, most)
    return element("g", *parts)


def _lane_step(left: float, right: float, y: float, count: int, most: int) -> list[Markup]:
    width = max(right - left, 1.0)
    level = "none-ready" if count == 0 else ("full" if count == most else "part")
    out = [element("rect", x=left, y=y + 1.0, width=width, height=_LANE_HEIGHT - 4.0, class_=f"lane l-{level}")]
    if width > 12:
        out.append(element("text", str(count), x=left + 4, y=y + 10.5, class_="lane-count"))
    return out


def _short(name: str) -> str:
    """A name that fits beside its lane; begin and end stay, since names of one family differ there."""
    return name if len(name) <= 10 else f"{name[:5]}…{name[-4:]}"


def _time_axis(frame: _Frame, end_s: float) -> Markup:
    parts = []
    for seconds in time_ticks(end_s):
        x = frame.x(seconds)
        parts.append(element("text", _clock(seconds), x=x, y=frame.bottom + 14.0, class_="tick mid"))
    return element("g", *parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60}:{whole % 60:02d}"

"""From an arm's events to its timeline and the table of the same numbers. All arms of a run share their scales."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.series import (
    ArmData,
    Clock,
    highest,
    nearest_rank,
    ordinary_latency,
    per_component,
    quantiles,
    queue_depth,
    rates,
    sampling_s,
    slice_seconds,
    throttled_share,
)
from harness.report.svg import Point
from harness.report.text import duration, number, plain
from harness.report.timeline import Band, Lane, Panel, Series, Timeline

#: Slices of the picture, and rows of the table below it.
_SLICES, _ROWS = 60, 30
_QUEUE_TONES = ("q1", "q2", "q3", "q4", "q5", "q6")
_LOAD_FIELDS = ("due", "accepted", "deferred")
_Column = tuple[str, Sequence[Point], Callable[[list[float]], float]]


@dataclass(frozen=True)
class Table:
    """The numbers of a chart, for those who cannot see it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ArmLines:
    """Everything that is drawn of one arm, before the scales are known."""

    arm: str
    end_s: float
    begin_s: float
    rates: Mapping[str, Sequence[Point]]
    queues: Mapping[str, Sequence[Point]]
    p50: Sequence[Point]
    p99: Sequence[Point]
    throttled: Mapping[str, Sequence[Point]]
    host: Sequence[Point]
    lanes: Sequence[Lane]
    bands: Sequence[Band]
    marks: Sequence[tuple[float, str]]


def collect(arm: ArmData, *, name: str) -> ArmLines:
    """Read one arm."""
    clock = Clock(arm)
    begin_s = 0.0
    width = slice_seconds(clock.end_s - begin_s, _SLICES)
    steady = max(width, sampling_s(arm.events("throttle")))
    sights = ordinary_latency(arm, clock)
    return ArmLines(
        arm=name,
        end_s=clock.end_s,
        begin_s=begin_s,
        rates=rates(arm.events("load_state"), _LOAD_FIELDS, clock),
        queues=per_component(arm.events("queue"), queue_depth, clock, slice_s=max(width, sampling_s(arm.events("queue")))),
        p50=quantiles(sights, 0.5, slice_s=max(width, 5.0)),
        p99=quantiles(sights, 0.99, slice_s=max(width, 5.0)),
        throttled=_interesting(throttled_share(arm.events("throttle"), clock, slice_s=steady)),
        host=[(clock.s(e["t"]), 100 * float(e["cpu_share"])) for e in arm.events("host")],
        lanes=_lanes(arm, clock),
        bands=_bands(arm.events("fault"), clock),
        marks=_marks(arm, clock),
    )


def _interesting(lines: Mapping[str, Sequence[Point]]) -> dict[str, Sequence[Point]]:
    """At most the four components that were throttled most; the rest stays in the table of figures."""
    ranked = sorted(lines, key=lambda n: (-highest([lines[n]]), n))
    return {n: lines[n] for n in sorted(ranked[:4]) if highest([lines[n]]) > 0}


def _lanes(arm: ArmData, clock: Clock) -> list[Lane]:
    changes: dict[str, list[tuple[float, int]]] = {}
    for event in sorted(arm.events("endpoints"), key=lambda e: int(e["t"])):
        changes.setdefault(str(event["service"]), []).append((clock.s(event["t"]), len(event.get("ready") or ())))
    return [Lane(name, _steps(changes[name], clock.end_s)) for name in sorted(changes)]


def _steps(changes: Sequence[tuple[float, int]], end_s: float) -> list[tuple[float, float, int]]:
    ends = [t for t, _ in changes[1:]] + [end_s]
    return [(max(0.0, t), e, n) for (t, n), e in zip(changes, ends, strict=True) if e > 0 and e > t]


def _bands(events: Sequence[Mapping[str, Any]], clock: Clock) -> list[Band]:
    names = list(dict.fromkeys(str(e.get("name", "")) for e in events))
    return [band for name in names if (band := _band(name, events, clock)) is not None]


def _band(name: str, events: Sequence[Mapping[str, Any]], clock: Clock) -> Band | None:
    mine = {str(e["edge"]): clock.s(e["t"]) for e in events if e.get("name") == name}
    begin = mine.get("begin", mine.get("triggered"))
    if begin is None:
        return None
    ends = [mine[e] for e in ("end", "undone", "failed") if e in mine]
    return Band(name + (" (failed)" if "failed" in mine else ""), begin, max(ends, default=clock.end_s))


def _marks(arm: ArmData, clock: Clock) -> list[tuple[float, str]]:
    begins: dict[str, float] = {}
    for event in sorted(arm.events("load_state"), key=lambda e: int(e["t"])):
        begins.setdefault(str(event.get("phase")), clock.s(event["t"]))
    marks = [(t, phase) for phase, t in begins.items()]
    for event in arm.events("phase"):
        if event.get("edge") == "begin" and event.get("name") in ("heal", "settle", "census"):
            marks.append((clock.s(event["t"]), str(event["name"])))
    return sorted((t, n) for t, n in marks if 0 <= t <= clock.end_s)


@dataclass(frozen=True)
class _Scales:
    """Ends of the scales, and colours of components, that all arms of a run share."""

    rate: float
    queue: float
    latency: float
    end_s: float
    tones: Mapping[str, str]


def _scales(arms: Sequence[ArmLines]) -> _Scales:
    names = sorted({n for a in arms for n in (*a.queues, *a.throttled)})
    return _Scales(
        rate=highest(a.rates.get(n, ()) for a in arms for n in ("accepted", "deferred")),
        queue=highest(p for a in arms for p in a.queues.values()),
        latency=highest(a.p99 for a in arms),
        end_s=max((a.end_s for a in arms), default=1.0),
        tones={n: _QUEUE_TONES[i % len(_QUEUE_TONES)] for i, n in enumerate(names)},
    )


def timelines(arms: Sequence[ArmLines]) -> list[tuple[Timeline, Table]]:
    """A picture and a table of each arm, all on the same scales."""
    scales = _scales(arms)
    return [(_timeline(a, scales, i), _table(a)) for i, a in enumerate(arms)]


def _timeline(arm: ArmLines, scales: _Scales, index: int) -> Timeline:
    return Timeline(
        key=f"timeline-{index}",
        title=f"Arm {plain(arm.arm)} over time",
        description=_description(arm),
        end_s=scales.end_s,
        begin_s=arm.begin_s,
        panels=_panels(arm, scales),
        lanes=arm.lanes,
        bands=arm.bands,
        marks=arm.marks,
    )


def _panels(arm: ArmLines, scales: _Scales) -> list[Panel]:
    load = [Series(n, n, arm.rates.get(n, ()), area=n == "accepted") for n in _LOAD_FIELDS]
    queues = [Series(n, scales.tones[n], p) for n, p in arm.queues.items() if highest([p]) > 0]
    latency = [Series("p50", "p50", arm.p50), Series("p99", "p99", arm.p99)]
    cpu = [Series(n, scales.tones[n], p) for n, p in arm.throttled.items()]
    return [
        Panel("Load", "mails per second", load, scales.rate),
        Panel("Queues", "mails waiting", queues or [Series("all", "q1", [p for q in arm.queues.values() for p in q])], scales.queue),
        Panel("Delivery of ordinary mail", "seconds from due to mailbox", latency, scales.latency),
        Panel("CPU", "% of periods throttled; % of host", [*cpu, Series("host", "host", arm.host)], 100.0),
    ]


def _description(arm: ArmLines) -> str:
    faults = "; ".join(f"fault {b.label} from {number(b.begin)} s to {number(b.end)} s" for b in arm.bands) or "no fault"
    queue = max(((highest([p]), n) for n, p in arm.queues.items()), default=(0.0, "none"))
    p99 = sorted(y for _, y in arm.p99 if y is not None)
    slow = f", ordinary mail took up to {duration(nearest_rank(p99, 1.0))}" if p99 else ""
    return (
        f"{duration(arm.end_s)} from the begin of the load; at most {number(highest([arm.rates.get('accepted', ())]))} mails per second "
        f"accepted, longest queue {number(queue[0])} in {queue[1]}{slow}; {faults}. The table below holds the numbers."
    )


def _table(arm: ArmLines) -> Table:
    width = slice_seconds(arm.end_s, _ROWS)
    columns = _columns(arm)
    slots = range(int(arm.end_s // width) + (1 if arm.end_s % width else 0))
    rows = [(f"{number(s * width)}–{number((s + 1) * width)}", *(_over(*c, s * width, width) for c in columns)) for s in slots]
    return Table(("seconds", *(name for name, _, _ in columns)), tuple(rows))


def _columns(arm: ArmLines) -> list[_Column]:
    """Name, points, and how a slice of them becomes one number: rates and shares by mean, the rest by its highest."""
    return [
        *((f"{n}/s", arm.rates.get(n, ()), statistics.fmean) for n in _LOAD_FIELDS),
        *((f"queue {n}, most", p, max) for n, p in arm.queues.items() if highest([p]) > 0),
        ("p50 s", arm.p50, max), ("p99 s", arm.p99, max),
        *((f"throttled {n} %", p, statistics.fmean) for n, p in arm.throttled.items()),
        ("host CPU %", arm.host, statistics.fmean),
    ]  # fmt: skip


def _over(name: str, points: Sequence[Point], reduce: Callable[[list[float]], float], begin: float, width: float) -> str:
    inside = [y for x, y in points if y is not None and begin <= x < begin + width]
    return number(reduce(inside)) if inside else "–"

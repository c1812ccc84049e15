"""What the samplers saw, as lines over seconds since the load began.

Everything is read from an arm's events (see DESIGN.md, "Events"); nothing is interpolated: where no sample was, the line breaks.
Quantiles are by nearest rank within a slice of time, so with fewer than 100 mails in a slice the p99 is the slowest one.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from harness.model.outcome import Population
from harness.model.plan import Plan
from harness.report.svg import Point

Event = Mapping[str, Any]
#: A break between two samples of the load longer than this, in seconds, is shown as a gap.
GAP_S = 5.0
_SECOND = 1e9


class ArmData(Protocol):
    """The part of ``harness.store.history.ArmHistory`` that the report reads."""

    @property
    def name(self) -> str: ...

    @property
    def block(self) -> int: ...

    @property
    def plan(self) -> Plan: ...

    def events(self, kind: str) -> list[dict[str, Any]]: ...

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Clock:
    """Turns the run's nanoseconds into seconds since the load of this arm began.

    :param arm: its ``phase`` events, or else its first ``load_state``, say when that was.
    """

    def __init__(self, arm: ArmData) -> None:
        phases = arm.events("phase")
        begins = [int(e["t"]) for e in phases if e.get("name") == "load" and e.get("edge") == "begin"]
        states = [int(e["t"]) for e in arm.events("load_state")]
        ends = [int(e["t"]) for e in phases if e.get("name") in ("load", "heal", "settle") and e.get("edge") == "end"]
        self.zero = min(begins or states or [0])
        self.end_s = max([(t - self.zero) / _SECOND for t in (*ends, *states)], default=0.0)

    def s(self, t: object) -> float:
        """Seconds since the load began; negative before it."""
        return (int(t) - self.zero) / _SECOND if isinstance(t, (int, float)) else 0.0


def rates(events: Iterable[Event], fields: Sequence[str], clock: Clock) -> dict[str, list[Point]]:
    """Increase per second of the counters ``fields`` of ``load_state``, at the end of each interval.

    Several load processes are added up, second by second.
    """
    out: dict[str, list[Point]] = {f: [] for f in fields}
    last: Event | None = None
    for event in _summed(events, fields):
        span = 0.0 if last is None else (float(event["t"]) - float(last["t"])) / _SECOND
        if last is not None and span > 0:
            for name in fields:
                rate = None if span > GAP_S else max(0.0, float(event[name]) - float(last[name])) / span
                out[name].append((clock.s(event["t"]), rate))
        last = event
    return out


def _summed(events: Iterable[Event], fields: Sequence[str]) -> list[Event]:
    """One event per second: the sum of the newest state of every load process (told apart by ``log``)."""
    newest: dict[Any, Event] = {}
    out: list[Event] = []
    for event in sorted(events, key=lambda e: int(e["t"])):
        writer = event.get("log", "")
        done = writer in newest and int(event["t"]) - int(out[-1]["t"] if out else 0) >= 0.2 * _SECOND
        newest[writer] = event
        total: Event = {"t": event["t"], **{f: sum(float(e.get(f) or 0) for e in newest.values()) for f in fields}}
        if done or not out:
            out.append(total)
        else:
            out[-1] = {**total, "t": out[-1]["t"]}
    return out


def per_component(
    events: Iterable[Event], value: Callable[[Event], float], clock: Clock, *, slice_s: float, hold: int = 2
) -> dict[str, list[Point]]:
    """A gauge of pods, added up per component in slices of ``slice_s`` seconds.

    :param hold: a pod's last value counts for so many slices after it; then the pod counts as gone.
    """
    cells: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for event in events:
        slot = math.floor(clock.s(event["t"]) / slice_s)
        cells[str(event.get("component", ""))][str(event.get("pod", ""))][slot] = value(event)
    return {name: _added(pods, slice_s, hold) for name, pods in sorted(cells.items())}


def _added(pods: Mapping[str, Mapping[int, float]], slice_s: float, hold: int) -> list[Point]:
    slots = sorted({s for values in pods.values() for s in values})
    out: list[Point] = []
    for slot in range(slots[0], slots[-1] + 1):
        known = [v for values in pods.values() if (v := _held(values, slot, hold)) is not None]
        out.append(((slot + 0.5) * slice_s, sum(known) if known else None))
    return out


def _held(values: Mapping[int, float], slot: int, hold: int) -> float | None:
    return next((values[s] for s in range(slot, slot - hold - 1, -1) if s in values), None)


def queue_depth(event: Event) -> float:
    """Mails waiting in one pod's queue; ``hold`` and ``corrupt`` included, since they wait as well."""
    return float(sum(int(event.get(name) or 0) for name in ("incoming", "active", "deferred", "hold", "corrupt")))


def throttled_share(events: Iterable[Event], clock: Clock, *, slice_s: float) -> dict[str, list[Point]]:
    """Share of CPU periods in which a component's pods were throttled, in percent (cgroup ``cpu.stat``)."""
    gained: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    last: dict[str, Event] = {}
    for event in sorted(events, key=lambda e: int(e["t"])):
        before = last.get(str(event.get("pod")))
        last[str(event.get("pod"))] = event
        if before is None or _went_back(before, event):
            continue
        cell = gained[str(event.get("component", ""))][math.floor(clock.s(event["t"]) / slice_s)]
        cell[0] += float(event["periods"]) - float(before["periods"])
        cell[1] += float(event["throttled"]) - float(before["throttled"])
    return {name: _shares(cells, slice_s) for name, cells in sorted(gained.items())}


def _went_back(before: Event, after: Event) -> bool:
    """Counters restart with the container."""
    return float(after["periods"]) < float(before["periods"]) or float(after["throttled"]) < float(before["throttled"])


def _shares(cells: Mapping[int, Sequence[float]], slice_s: float) -> list[Point]:
    slots = range(min(cells), max(cells) + 1)
    return [((s + 0.5) * slice_s, 100 * cells[s][1] / cells[s][0] if s in cells and cells[s][0] else None) for s in slots]


def ordinary_latency(arm: ArmData, clock: Clock) -> list[tuple[float, float]]:
    """(when it was due, seconds from then to its first sight in the mailbox) of every ordinary mail that was seen."""
    rows = arm.sql(
        "SELECT any_value(s.t ORDER BY s.from_due_ns, s.t), min(s.from_due_ns) FROM sights s "
        f"WHERE s.mail IN (SELECT mail FROM offers WHERE population = {int(Population.STEADY)}) GROUP BY s.mail"
    )
    return sorted((clock.s(int(t) - int(due_ns)), int(due_ns) / _SECOND) for t, due_ns in rows)


def quantiles(samples: Sequence[tuple[float, float]], share: float, *, slice_s: float) -> list[Point]:
    """The quantile ``share`` of ``samples`` (time, value) in slices of ``slice_s`` seconds; a slice without samples is a gap."""
    cells: dict[int, list[float]] = defaultdict(list)
    for when, value in samples:
        cells[math.floor(when / slice_s)].append(value)
    if not cells:
        return []
    slots = range(min(cells), max(cells) + 1)
    return [((s + 0.5) * slice_s, nearest_rank(sorted(cells[s]), share) if s in cells else None) for s in slots]


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """Quantile by nearest rank of a sorted, non-empty list."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def highest(lines: Iterable[Iterable[Point]]) -> float:
    """The highest value in ``lines``; 0 when there is none."""
    return max((y for points in lines for _, y in points if y is not None), default=0.0)


def slice_seconds(span_s: float, slices: int) -> float:
    """A round width so that ``span_s`` seconds make at most ``slices`` slices, and never less than one second."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    return float(next((s for s in steps if span_s / s <= slices), math.ceil(span_s / slices)))


def sampling_s(events: Iterable[Event]) -> float:
    """Twice the usual time between two samples of one pod, in seconds: the narrowest slice that misses none; 0 of none."""
    last: dict[str, int] = {}
    gaps: list[float] = []
    for event in sorted(events, key=lambda e: int(e["t"])):
        pod, t = str(event.get("pod", "")), int(event["t"])
        if pod in last:
            gaps.append((t - last[pod]) / _SECOND)
        last[pod] = t
    return 2 * statistics.median(gaps) if gaps else 0.0

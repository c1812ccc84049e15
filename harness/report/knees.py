"""The knee plot: for every path and arm the rate at which failures pass the share, with its interval, and every rate that was tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.model.dnslab import LabLoad
from harness.model.plan import Plan
from harness.report.arms_over_time import Table
from harness.report.sheet import Chart
from harness.report.svg import coordinate, element, text_width
from harness.report.text import duration, number, percent, plain
from harness.store.dnslab import CellSeen, DnsArm, StepSeen, cells, settings

WIDTH = 1060
_ROW, _TOP, _RIGHT = 22.0, 34.0, 200.0
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_HEAD = ("path, arm", "per second", "counted", "failed", "share", "p50", "p95", "slots in use",
         "most in the queue", "overflows", "SERVFAIL of unbound", "at unbound per query", "connections reused")


@dataclass(frozen=True)
class _Line:
    name: str
    cell: CellSeen | None  #: None = a heading


def knee_chart(arms: Sequence[tuple[str, DnsArm]]) -> Chart | None:
    """The chart of a load of DNS queries; None where nothing was measured.

    :param arms: with the names under which the report shows them.
    """
    measured = [(name, arm, cell) for name, arm in arms for cell in cells(arm)]
    if not measured:
        return None
    share = LabLoad.of(measured[0][1].plan.load.params).fail_share
    keys = list(dict.fromkeys(cell.cell.key for _, _, cell in measured))
    lines = [line for key in keys for line in _group(key, measured)]
    title = f"Where {percent(share)} of the queries go without an answer"
    under = ("queries per second, logarithmic; a dot with its 95 % interval (isotonic, Monte Carlo within this run), an arrow where no knee was found; "
             "small marks: rates tried, filled where failures passed the share. All node caches are virtual: pods with addresses of their own.")
    told = "; ".join(f"{key}, {name}: {cell.knee.text if cell.knee else 'not measured'}" for key in keys for name, _, cell in measured if cell.cell.key == key)
    return Chart(title, under, _draw(lines, title, told, share), _table(keys, measured))


def not_measured(plan: Plan, arms: Sequence[tuple[str, DnsArm]]) -> tuple[str, ...]:
    """Which cells of the plan the run did not measure to their end, in one sentence; () when it has them all, or its load is no DNS.

    Arms that nobody asked for, or that are still to be run, count too: a field of which a part is known must not look whole.
    """
    if plan.load.kind != "dns":
        return ()
    load = LabLoad.of(plan.load.params)
    seen = {(arm.name, cell.cell.name) for _, arm in arms for cell in cells(arm) if cell.whole and cell.steps}
    missing = {a.name: [c.name for c in load.cells_of(a.name) if (a.name, c.name) not in seen] for a in plan.arms}
    told = "; ".join(f"{plain(name)}: {', '.join(map(plain, names))}" for name, names in missing.items() if names)
    count, total = sum(map(len, missing.values())), sum(len(load.cells_of(a.name)) for a in plan.arms)
    return (f"{count} of the plan's {total} cells were not measured: {told}.",) if told else ()


def _group(key: str, measured: Sequence[tuple[str, DnsArm, CellSeen]]) -> Iterable[_Line]:
    yield _Line(key, None)
    for name, arm, cell in measured:
        if cell.cell.key == key:
            known = settings(arm)
            slots = f" · {known.threads}×{known.incoming_num_tcp} slots" if known.slots else ""
            yield _Line(f"{plain(name)}{slots}", cell)


def _draw(lines: Sequence[_Line], title: str, told: str, share: float) -> Markup:
    left = 20 + max(text_width(line.name, 11.5) for line in lines)
    rates = [s.per_s for line in lines if line.cell for s in line.cell.steps] or [1.0, 10.0]
    low, high = math.log(min(rates) * 0.8), math.log(max(rates) * 1.25)
    bottom = _TOP + len(lines) * _ROW

    def x(rate: float) -> float:
        part = (math.log(max(rate, 1e-9)) - low) / max(high - low, 1e-9)
        return left + min(1.0, max(0.0, part)) * (WIDTH - left - _RIGHT)

    parts = [element("title", title, id="knees-t"), element("desc", told, id="knees-d")]
    for tick in (t for t in _TICKS if low <= math.log(t) <= high):
        parts.append(element("path", d=f"M{coordinate(x(tick))},{coordinate(_TOP - 12)}V{coordinate(bottom)}", class_="grid"))
        parts.append(element("text", number(tick), x=x(tick), y=bottom + 14.0, class_="tick mid"))
    for n, line in enumerate(lines):
        y = _TOP + n * _ROW
        if line.cell is None:
            parts.append(element("text", line.name, x=4.0, y=y + 4, class_="panel-title"))
        else:
            parts.append(element("text", line.name, x=left - 8, y=y + 4, class_="row-name end"))
            parts += _row(line.cell, y, x, share)
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {coordinate(bottom + 20)}", role="img", class_="chart", aria_labelledby="knees-t knees-d")


def _row(cell: CellSeen, y: float, x: object, share: float) -> list[Markup]:
    place = x if callable(x) else float
    out = [
        element("circle", cx=place(s.per_s), cy=y + 7, r=2.2, class_="f-deferred" if s.failed_share > share else "f-due") for s in cell.steps if s.sent
    ]
    knee = cell.knee
    if knee is None:
        return [*out, element("text", "not measured", x=WIDTH - _RIGHT + 10, y=y + 4, class_="value")]
    end = place(knee.high) if knee.high is not None else place(knee.tested) + 14
    out.append(element("path", d=f"M{coordinate(place(knee.low))},{coordinate(y)}H{coordinate(end)}", class_="whisker"))
    if knee.high is None:
        out.append(element("path", d=f"M{coordinate(end - 5)},{coordinate(y - 4)}L{coordinate(end)},{coordinate(y)}L{coordinate(end - 5)},{coordinate(y + 4)}", class_="whisker", fill="none"))
    if knee.per_s is not None:
        out.append(element("circle", cx=place(knee.per_s), cy=y, r=4.5, class_="ratio"))
    return [*out, element("text", knee.text, x=WIDTH - _RIGHT + 10, y=y + 4, class_="value strong")]


def _table(keys: Sequence[str], measured: Sequence[tuple[str, DnsArm, CellSeen]]) -> Table:
    rows = [_step(f"{key}, {plain(name)}", cell, s) for key in keys for name, _, cell in measured if cell.cell.key == key
            for s in sorted(cell.steps, key=lambda s: (s.per_s, s.number))]
    return Table(_HEAD, tuple(rows))


def _step(name: str, cell: CellSeen, step: StepSeen) -> tuple[str, ...]:
    """A rate with what became of it; behind it what the sensors saw of the whole cell."""
    used = cell.opened + cell.reused
    return (
        name, number(step.per_s), number(step.sent), number(step.failed), percent(step.failed_share),
        *(duration(q / 1000) if (q := step.quantile_ms(p)) is not None else "–" for p in (0.5, 0.95)),
        _slots(cell), number(cell.waiting_max), number(cell.overflows), number(cell.servfail), number(cell.amplification), percent(cell.reused / used) if used else "–",
    )  # fmt: skip


def _slots(cell: CellSeen) -> str:
    """Most in use, and of each thread where there are several: the kernel fills them unevenly (SO_REUSEPORT)."""
    each = f" ({' + '.join(map(str, cell.slots_by_thread))} by thread)" if len(cell.slots_by_thread) > 1 else ""
    return f"{number(cell.slots_max)}{each}"

"""The live view: one terminal screen of a run under way, made of ``rehearse.live.Screen``."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.rehearse.live import Screen
from harness.report.text import plain as visible

_EDGES = {"armed": "yellow", "triggered": "yellow", "begin": "red", "evidence": "red", "end": "yellow", "undone": "green", "failed": "bold red"}


def render(screen: Screen) -> RenderableType:
    """The screen as one panel. What comes from outside is text, never markup, and has no control characters."""
    head = Text.assemble(
        (screen.plan, "bold"), f"  arm {screen.arm or '-'} ({screen.number} of {screen.arms})  ", (visible(screen.phase) or "beginning", "cyan"),
        f" {_time(screen.phase_s)}  total {_time(screen.elapsed_s)}",
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in rows(screen):
        grid.add_row(name, value)
    return Panel(Group(head, grid), title=screen.run, title_align="left", border_style="green" if screen.ended else "blue", expand=False, width=100)


def rows(screen: Screen) -> Iterator[tuple[str, Text]]:
    """Name and value of each line below the head."""
    s = screen.state
    yield "mail", Text("  ".join(f"{k} {s.get(k, 0)}" for k in ("offered", "accepted", "deferred", "rejected", "undetermined")))
    lost = int(s.get("overdue", 0))
    seen = f"seen {s.get('seen', 0)}  awaited {s.get('awaited', 0)} (oldest {float(s.get('awaited_oldest_s', 0)):.0f} s)  "
    yield "arrival", Text.assemble(seen, (f"lost so far {lost}", "bold red" if lost else "green"))
    yield "queue", Text("  ".join(f"{visible(component)} {depth}" for component, depth in sorted(screen.queues.items())) or "-")
    for name, (kind, edge, targets) in screen.faults.items():
        yield "fault", Text.assemble(visible(f"{name}: {kind} "), (visible(edge), _EDGES.get(edge, "")), visible(f" {targets}"))
    yield "undo", Text(visible("; ".join(screen.to_undo)), style="red") if screen.to_undo else Text("nothing to undo", style="green")
    yield "budget", Text("  ".join(_left(name, used, allowed) for name, (used, allowed) in screen.used.items()))
    for incident in screen.incidents:
        yield "incident", Text(visible(incident), style="yellow", overflow="ellipsis", no_wrap=True)


def plain(screen: Screen) -> str:
    """One line, for where there is no terminal."""
    s = screen.state
    faults = ", ".join(f"{name} {edge}" for name, (_, edge, _) in screen.faults.items())
    return visible(
        f"{screen.arm or '-'} {screen.phase or 'beginning'}: offered {s.get('offered', 0)}, accepted {s.get('accepted', 0)}, deferred {s.get('deferred', 0)}, "
        f"lost so far {s.get('overdue', 0)}; queue {sum(screen.queues.values())}; faults: {faults or 'none'}; to undo: {len(screen.to_undo)}"
    )


def _left(name: str, used: float, allowed: float) -> str:
    return f"{name} {used:.0f} of {allowed:g}, {max(allowed - used, 0):.0f} left" if allowed else f"{name} {used:.0f}"


def _time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

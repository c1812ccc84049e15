"""``mailgale selftest``: proof that the verdicts can be trusted."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table as Shown

from harness.cli.terminal import console, make_progress
from harness.selftest.table import Row, Table, a_a, known_bad, quick
from harness.support.checkout import Checkout

_MODES = {"quick": quick, "known-bad": known_bad, "aa": a_a}


@click.command("selftest")
@click.argument("mode", type=click.Choice(list(_MODES)), default="quick")
@click.option("--json", "path", type=click.Path(path_type=Path), default=None, help="where the table goes as JSON [.mailgale/selftest-MODE.json]")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def selftest(mode: str, path: Path | None, output: str) -> int:
    """Plant defects and see each found by the right check; judge 300 good histories without a FAIL. Needs no cluster.

    quick: 300 good histories and every defect that a small history shows. known-bad: every defect, with 30,000 mails where that is
    needed, and a platform that misbehaves over real sockets. aa: 20 pairs of runs in which nothing was changed, compared. Exit 0 when every line holds, else 3.

    \b
    Examples:
      mailgale selftest
      mailgale selftest known-bad --json selftest.json
    """
    table = _MODES[mode](make_progress())
    path = path or Checkout.find().state / f"selftest-{mode}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table.to_json())
    if output == "json":
        click.echo(table.to_json(), nl=False)
    else:
        _print(table, path)
    return 0 if table.well else 3


def _print(table: Table, path: Path) -> None:
    out = console(stderr=False)
    shown = Shown("", "defect", "planted", "check", "expected", "seen", box=None, header_style="bold")
    for row in table.rows:
        shown.add_row("[green]✓[/]" if row.well else "[red]✗[/]", row.name, row.planted, row.check, row.expected, row.seen)
    out.print(shown)
    for row in (r for r in table.rows if not r.well):
        out.print(f"✗ {row.name}: {row.reason}", markup=False)
    for name, why in table.not_expressible.items():
        out.print(f"not tested yet: {name}: {why}", markup=False)
    out.print(f"{_count(table.rows)} of {len(table.rows)} lines hold, {table.took_s:.0f} s; {path}", markup=False)


def _count(rows: tuple[Row, ...]) -> int:
    return sum(r.well for r in rows)

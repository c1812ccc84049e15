"""From a judged run to what a change reviewer reads: ``report.html``, ``summary.md``, ``junit.xml``, and the lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import __version__
from harness.report import html, judged, junit, markdown
from harness.report.dns_page import dns_page
from harness.report.gather import sheet
from harness.report.sheet import Sheet
from harness.report.terminal import summary_lines
from harness.store.history import RunHistory, load
from harness.store.run import RunDir, write_whole

__all__ = ["ReportPaths", "Sheet", "read", "summary_lines", "write"]


@dataclass(frozen=True)
class ReportPaths:
    """Where the report's files lie."""

    html: Path
    markdown: Path
    junit: Path


def write(run_path: Path, verdict: Mapping[str, Any], *, history: RunHistory | None = None) -> tuple[ReportPaths, Sheet]:
    """Write the three files into the run's directory, replacing earlier ones. Same run and verdict, same bytes.

    :param verdict: the content of ``verdict.json``.
    :param history: the run, when the caller has read it already; it is left open.
    :returns: where the files lie, and the sheet for :func:`summary_lines`.
    :raises UsageError: there is no run at ``run_path``.
    :raises StoreDamaged: its head or the verdict does not read.
    :raises OSError: the files cannot be written.
    """
    result = judged.read(verdict)
    if history is not None:
        page = _sheet(history, result)
    else:
        with load(RunDir.open(run_path)) as fresh:
            page = _sheet(fresh, result)
    paths = ReportPaths(run_path / "report.html", run_path / "summary.md", run_path / "junit.xml")
    seed = (history.plan if history else RunDir.open(run_path).plan).seed
    for path, text in ((paths.html, html.render(page)), (paths.markdown, markdown.render(page)), (paths.junit, junit.render(result, seed=seed))):
        write_whole(path, text.encode())
    return paths, page


def read(history: RunHistory, verdict: Mapping[str, Any]) -> Sheet:
    """What the report says, without writing it.

    :raises StoreDamaged: the verdict does not read.
    """
    return _sheet(history, judged.read(verdict))


def _sheet(history: RunHistory, result: judged.Judged) -> Sheet:
    arms = [(arm.label, arm) for arm in history.arms]
    return replace(sheet(history.run, result, arms, history.events, __version__), dns=dns_page(history.arms))

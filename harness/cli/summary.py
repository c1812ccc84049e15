"""The one screen at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli.terminal import console

_COLOURS = (("✓ PASS", "bold green"), ("? INCONCLUSIVE", "bold yellow"), ("✗ FAIL", "bold red"))


def print_summary(lines: Sequence[str]) -> None:
    """Print the report's lines for a terminal; the verdict's line in its colour where there is one."""
    out = console(stderr=False)
    for line in lines:
        out.print(line, markup=False, style=_style(line), no_wrap=True, overflow="ignore", crop=False)


def _style(line: str) -> str:
    return next((style for start, style in _COLOURS if line.startswith(start)), "")

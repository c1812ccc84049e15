"""Which figures of an arm stand under which heading, in which order, and which of them alarm when above 0."""

from __future__ import annotations

from harness.report.figures_table import COUNTS

Entries = tuple[tuple[str, str, str], ...]
GROUPS: tuple[tuple[str, Entries], ...] = (
    ("Mail", COUNTS),
)

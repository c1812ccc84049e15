"""The verdict on one screen: at most 40 lines of at most 100 columns, without colour codes (the command line adds them)."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from harness.report.sheet import Head, Pairs, Row, Sheet
from harness.report.text import NARROW_SPACE, duration, plain

LINES_MAX, COLUMNS_MAX = 40, 100
_MARKS = {"pass": "✓", "inconclusive": "?", "fail": "✗", "planned": "☒", "info": "·"}
_ROWS_MAX = 16


def summary_lines(sheet: Sheet, report: Path | None = None, *, took_s: float | None = None) -> list[str]:
    """The summary, ready to print.

    :param report: path of ``report.html``, named in the last line and never cut.
    :param took_s: how long the command itself took, set-up included; shown before the times on record.
    """
    last = [f"Report   {report}"] if report else []
    required = [*_verdict(sheet), *_timings(sheet, took_s), *_seal(sheet)]
    room = LINES_MAX - len(required) - len(last)
    parts: list[str] = []
    for part in (_arms(sheet), _findings(sheet), _notable(sheet)):
        parts += _fitting(part, room - len(parts))
    lines = (*_verdict(sheet), *parts, *_timings(sheet, took_s), *_seal(sheet))
    return [*(_cut(line.replace(NARROW_SPACE, " ")) for line in lines), *last]


def _fitting(part: Sequence[str], room: int) -> list[str]:
    """``part`` with a blank line after it, as far as there is room; what is left out is counted."""
    if not part or room < 3:
        return []
    if len(part) + 1 <= room:
        return [*part, ""]
    return [*part[: room - 2], f"  … {len(part) - room + 2} more lines in the report", ""]


def _verdict(sheet: Sheet) -> list[str]:
    words = f"{_MARKS[sheet.tone]} {sheet.word}  {plain(sheet.sentence)}"
    lines = textwrap.wrap(words, COLUMNS_MAX, subsequent_indent="  ", max_lines=4, placeholder=" …")
    again = [line for text in sheet.resumed[-1:] for line in _wrapped("·", text)]
    return [*lines, _cut(f"  {plain(sheet.under)}"), *again, ""]


def _arms(sheet: Sheet) -> list[str]:
    rows = [r for r in sheet.arms.rows if r.cells and r.brief]
    rows = rows or [r for r in sheet.arms.rows if r.cells][:_ROWS_MAX]
    return _columns(sheet.arms.heads, rows) if rows else []


def _columns(heads: Sequence[Head], rows: Sequence[Row]) -> list[str]:
    table = [["", *(plain(h.name) for h in heads)], *([plain(r.name), *(plain(c.text) for c in r.cells)] for r in rows)]
    first = min(34, max(_width(line[0]) for line in table))
    wide = max(8, min(18, (COLUMNS_MAX - first) // max(1, len(heads)) - 2))
    return [_padded(line[0], first) + "".join("  " + _right(cell, wide) for cell in line[1:]) for line in table]


def _findings(sheet: Sheet) -> list[str]:
    return [line for f in sheet.findings for line in _wrapped(_MARKS[f.tone], f"{f.claim} {f.word}: {f.reason}")]


def _notable(sheet: Sheet) -> list[str]:
    return [line for r in sheet.notable for line in _wrapped(_MARKS[r.tone], f"{r.check} in {r.arm}, {r.word}: {r.reason}")]


def _wrapped(mark: str, text: str) -> list[str]:
    return textwrap.wrap(f"{mark} {plain(text)}", COLUMNS_MAX, subsequent_indent="  ", max_lines=2, placeholder=" …")


def _timings(sheet: Sheet, took_s: float | None) -> list[str]:
    taken = [*([("this command", duration(took_s))] if took_s is not None else []), *sheet.timings]
    return [*_pairs("Time", tuple(taken)), *_pairs("Budget", sheet.budgets), ""] if taken or sheet.budgets else []


def _pairs(title: str, pairs: Pairs) -> list[str]:
    text = f"{title:<9}" + " · ".join(f"{plain(n)} {plain(v)}" for n, v in pairs)
    return textwrap.wrap(text, COLUMNS_MAX, subsequent_indent=" " * 9, max_lines=3, placeholder=" …") if pairs else []


def _seal(sheet: Sheet) -> list[str]:
    return [f"Seal     {'sha256:' + sheet.seal if sheet.seal else 'none: the run did not come to its end'}",
            f"Again    {plain(sheet.command)}"]  # fmt: skip


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def _clipped(text: str, columns: int) -> str:
    if _width(text) <= columns:
        return text
    while _width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def _cut(line: str) -> str:
    return _clipped(line, COLUMNS_MAX).rstrip()


def _padded(text: str, columns: int) -> str:
    text = _clipped(text, columns)
    return text + " " * (columns - _width(text))


def _right(text: str, columns: int) -> str:
    text = _clipped(text, columns)
    return " " * (columns - _width(text)) + text

"""``summary.md``: the first screen of the report for a pull request or a pipeline's summary page, well under its size limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.report.sheet import Sheet
from harness.report.text import markdown, plain

#: Mails named in the summary, over all verdicts.
_LINES_MAX = 30
#: Reasons given, and characters of each; pipelines cut summaries at 1 MiB.
_REASONS_MAX, _LENGTH_MAX = 60, 500
_SHAPES = {"pass": "✅", "inconclusive": "⚠️", "fail": "❌", "planned": "☑️", "info": "ℹ️"}


def render(sheet: Sheet) -> str:
    """The summary as GitHub-flavoured Markdown. Every value is escaped, our own sentences too."""
    parts = [*_top(sheet), *_findings(sheet), *_arms(sheet), *_dns(sheet), *_checks(sheet), *_named(sheet), *_validity(sheet), *_again(sheet)]
    return "\n".join(parts) + "\n"


def _top(sheet: Sheet) -> list[str]:
    tiles = " · ".join(f"{markdown(t.name)} **{markdown(t.value)}**" for t in sheet.tiles)
    head = [f"# {_SHAPES[sheet.tone]} {sheet.word}: {markdown(sheet.title)}", "", f"**{markdown(sheet.sentence)}**", ""]
    return [*head, *([tiles, ""] if tiles else []), markdown(sheet.under), "", *(line for text in sheet.resumed for line in (markdown(text), ""))]


def _findings(sheet: Sheet) -> list[str]:
    lines = [f"- **{markdown(f.claim)} {markdown(f.word)}**: {markdown(f.reason)}" for f in sheet.findings]
    return ["## Findings", "", *lines, ""] if lines else []


def _arms(sheet: Sheet) -> list[str]:
    table = sheet.arms
    if not table.rows:
        return []
    rows = [[r.name, *(_ranged(c.text, c.range) for c in r.cells)] for r in table.rows if r.cells]
    return ["## Arms side by side", "", *_table(["figure", *(h.name for h in table.heads)], rows, right=True), "", *_zeros(table.zeros)]


def _dns(sheet: Sheet) -> list[str]:
    """The ladder and the tables of the DNS section."""
    if sheet.dns is None:
        return []
    parts = [(sheet.dns.ladder.title, sheet.dns.ladder.table), *sheet.dns.tables]
    tables = [line for title, t in parts for line in (f"**{markdown(title)}**", "", *_table(t.head, t.rows, right=True), "")]
    return ["## DNS", "", *tables, *(line for note in sheet.dns.notes for line in (markdown(note), ""))]


def _zeros(names: Sequence[str]) -> list[str]:
    return [f"None in any arm: {markdown(', '.join(names))}", ""] if names else []


def _ranged(text: str, spread: str) -> str:
    return f"{text} ({spread})" if spread else text


def _checks(sheet: Sheet) -> list[str]:
    rows = [[r.name, *(f"{_SHAPES.get(c.tone, '')} {c.word}".strip() for c in r.cells)] for r in sheet.matrix.rows]
    table = _table(["check", *(h.name for h in sheet.matrix.heads)], rows) if rows else ["No check was made."]
    why = [f"- **{markdown(r.check)}** in {markdown(r.arm)}, {markdown(r.word)}: {_short(r.reason)}" for r in sheet.notable[:_REASONS_MAX]]
    why += [f"- {len(sheet.notable) - _REASONS_MAX} more in the report"] if len(sheet.notable) > _REASONS_MAX else []
    return ["## Checks", "", *table, "", *why, *([""] if why else [])]


def _short(text: str) -> str:
    return markdown(plain(text, length_max=_LENGTH_MAX))


def _named(sheet: Sheet) -> list[str]:
    lines = [f"- {markdown(n.check)} in {markdown(n.arm)}: {_short(line)}" for n in sheet.named for line in n.lines]
    more = [f"- {len(lines) - _LINES_MAX} more in the report"] if len(lines) > _LINES_MAX else []
    return ["## Mails and moments", "", *lines[:_LINES_MAX], *more, ""] if lines else []


def _validity(sheet: Sheet) -> list[str]:
    rows = [[v.question, v.word, v.seen] for v in sheet.validity]
    limits = [f"- {markdown(item)}" for item in sheet.limits]
    lacking = [f"- not supported here: {markdown(name)} ({markdown(why)})" for name, why in sheet.unsupported]
    incidents = [f"- incident: {markdown(i)}" for i in sheet.incidents]
    return ["## Can this run be trusted?", "", *_table(["question", "answer", "seen"], rows), "", *limits, *lacking, *incidents, ""]


def _again(sheet: Sheet) -> list[str]:
    rows: Iterable[tuple[str, str]] = (
        ("again", sheet.command), ("same verdict, offline", sheet.rejudge), ("seal", f"sha256:{sheet.seal}" if sheet.seal else "not sealed"),
        ("plan", f"sha256:{sheet.plan_sha}"),
    )  # fmt: skip
    return ["## Do it again", "", *(f"- {name}: <code>{markdown(value)}</code>" for name, value in rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> list[str]:
    rule = ["---", *(["---:" if right else "---"] * (len(head) - 1))]
    return [_line(head), "|" + "|".join(rule) + "|", *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown(c) for c in cells) + " |"

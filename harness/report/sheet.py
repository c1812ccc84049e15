"""What the report says, ready to be laid out: every value is text for a reader or a drawing. The HTML, Markdown and terminal
writers only arrange it, so they cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from harness.report.arms_over_time import Table

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tile:
    """One big number. ``mood``: "", ``bad`` or ``doubt``."""

    name: str
    value: str
    mood: str = ""


@dataclass(frozen=True)
class Cell:
    """One figure in a table; ``range`` stands small below it."""

    text: str
    mood: str = ""
    range: str = ""


@dataclass(frozen=True)
class Row:
    """A figure over all arms; a row without cells is a heading. ``brief``: it stands in the terminal's summary too."""

    name: str
    cells: tuple[Cell, ...] = ()
    brief: bool = False


@dataclass(frozen=True)
class Head:
    """A column: an arm."""

    name: str
    note: str = ""


@dataclass(frozen=True)
class ArmsTable:
    """Figures against arms. ``zeros``: what was 0 in every arm and has no row."""

    caption: str = ""
    heads: tuple[Head, ...] = ()
    rows: tuple[Row, ...] = ()
    zeros: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A status in a table: a shape (``tone``) and a word; no tone, no shape."""

    tone: str
    word: str


@dataclass(frozen=True)
class MatrixRow:
    """One check over all arms."""

    name: str
    cells: tuple[Mark, ...]


@dataclass(frozen=True)
class Matrix:
    """Checks against arms."""

    caption: str = ""
    heads: tuple[Head, ...] = ()
    rows: tuple[MatrixRow, ...] = ()


@dataclass(frozen=True)
class Reason:
    """What one check said of one arm."""

    check: str
    arm: str
    tone: str
    word: str
    reason: str
    figures: Pairs = ()


@dataclass(frozen=True)
class FindingText:
    """What the arms together say of one claim."""

    claim: str
    tone: str
    word: str
    reason: str
    conditions: str
    figures: Pairs = ()


@dataclass(frozen=True)
class Named:
    """The mails or moments behind one verdict."""

    check: str
    arm: str
    lines: tuple[str, ...]
    more: str = ""


@dataclass(frozen=True)
class Validity:
    """One thing that could have spoilt the run, and what was seen of it."""

    question: str
    tone: str
    word: str
    seen: str


@dataclass(frozen=True)
class Refusal:
    """One kind of ending that was no acceptance: counts per arm, and the server's words."""

    kind: str
    stage: str
    code: str
    counts: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Chart:
    """A drawing and the same numbers as a table."""

    title: str
    under: str
    svg: Markup
    table: Table


@dataclass(frozen=True)
class DnsPage:
    """The DNS section. ``tables``: (caption, table), in order; ``notes``: what must be known to read them."""

    ladder: Chart
    tables: tuple[tuple[str, Table], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """The whole report."""

    title: str
    question: str
    run_id: str
    begun: str
    tone: str
    word: str
    sentence: str
    under: str
    tiles: tuple[Tile, ...]
    findings: tuple[FindingText, ...]
    bars: Chart | None
    ratios: Chart | None
    arms: ArmsTable
    refusal_arms: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    matrix: Matrix
    notable: tuple[Reason, ...]
    passed: tuple[Reason, ...]
    named: tuple[Named, ...]
    validity: tuple[Validity, ...]
    limits: tuple[str, ...]
    unsupported: Pairs
    incidents: tuple[str, ...]
    timelines: tuple[Chart, ...]
    timelines_note: str
    tested: Pairs
    images: Pairs
    held: Pairs
    load: Pairs
    timings: Pairs
    budgets: Pairs
    phases: Table | None
    command: str
    rejudge: str
    seal: str
    plan_sha: str
    version: str
    resumed: tuple[str, ...] = ()
    knees: Chart | None = None
    dns: DnsPage | None = None

    @property
    def contents(self) -> Pairs:
        """Anchor and name of every section that is there."""
        there = (
            ("findings", "Findings", self.findings), ("knees", "Knees", self.knees), ("compare", "Comparison", self.bars or self.ratios),
            ("arms", "Figures", self.arms.rows), ("dns", "DNS", self.dns), ("refusals", "Refusals", self.refusals), ("checks", "Checks", True), ("mails", "Mails", self.named),
            ("validity", "Validity", True), ("timelines", "Timelines", self.timelines), ("tested", "What was tested", True),
            ("again", "Do it again", True),
        )  # fmt: skip
        return tuple((anchor, name) for anchor, name, content in there if content)

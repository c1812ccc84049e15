"""The sheet as one HTML file that needs nothing else: no script, nothing to load, a policy that forbids both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report.sheet import Sheet
from harness.report.text import plain

_TEMPLATES = Path(__file__).with_name("templates")


def render(sheet: Sheet) -> str:
    """The page. Every value passes ``text.plain`` and is escaped on its way in; only our own drawings are Markup."""
    css = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template("report.html.j2").render(sheet=sheet, css=css) + "\n"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_visible, auto_reload=False,
    )  # fmt: skip


def _visible(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value

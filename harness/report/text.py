"""Text for readers: foreign bytes made visible and harmless, numbers made comparable.

Whatever came from a mail, a server's reply or a cluster is data. ``plain`` is the one gate: no control, bidirectional or
invisible character leaves it as itself; each is replaced by a picture a reader can see. Escaping for a format (HTML, Markdown,
XML) comes after it. Source: Unicode TR 36 and TR 39, "Trojan Source" (CVE-2021-42574), ECMA-48 for escape sequences.

Known limit: look-alike letters (homoglyphs) stay as they are; right-to-left letters stay too, and are isolated by CSS.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

#: Longest foreign text shown in one place, in characters.
TEXT_LENGTH_MAX = 2000
_INVISIBLE = frozenset({0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x3164, 0xFFA0})
#: Always; a colon that begins a link or an emoji; what would begin a list; a dot that makes a link of "www.".
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~=@&$]|:(?! |$)|\A[-+]|(?i:(?<=www))\.")
_LIST = re.compile(r"\A(\d{1,9})([.)])(?= |\Z)")
NARROW_SPACE = "\u202f"


def plain(value: object, *, length_max: int = TEXT_LENGTH_MAX, lines: bool = False) -> str:
    """``value`` as text in which nothing is hidden.

    :param length_max: longer text is cut, and says so.
    :param lines: keep line feeds (for log excerpts); otherwise they become ``␤``.
    """
    text = str(value)
    cut = f" … ({len(text) - length_max} more characters)" if len(text) > length_max else ""
    return "".join(_visible(c, lines) for c in text[:length_max]) + cut


def _visible(char: str, lines: bool) -> str:
    code = ord(char)
    if 0x20 <= code < 0x7F or (lines and char == "\n"):
        return char
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code in _INVISIBLE or unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"⟨U+{code:04X}⟩"
    return char


def markdown(value: object) -> str:
    """``value`` as Markdown that renders as exactly this text, also inside a table cell (CommonMark 0.31, section 2.4).

    Marks become numeric character references, which no Markdown dialect reads as markup or turns into a link; what is harmless
    where it stands stays readable. The result is for the middle of a line that something else begins.
    """
    escaped = _MARKDOWN.sub(lambda m: f"&#{ord(m[0])};", plain(value))
    return _LIST.sub(lambda m: f"{m[1]}&#{ord(m[2])};", escaped)


def xml(value: object, *, lines: bool = False) -> str:
    """``value`` with valid XML 1.0 characters only (section 2.2). Escaping is the XML writer's."""
    return plain(value, lines=lines)


def number(value: object, digits: int = 3) -> str:
    """A figure for a reader: ``12345.678`` → ``12 346``, ``0.01234`` → ``0.0123``; ``–`` for none.

    :param digits: significant digits of what is not a whole number.
    """
    if value is None or isinstance(value, bool):
        return "–" if value is None else ("yes" if value else "no")
    if not isinstance(value, (int, float)):
        return plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    return _rounded(value, digits).replace("-", "−")


def _rounded(value: float, digits: int) -> str:
    if value == int(value) or abs(value) >= 10**digits:
        return f"{round(value):,}".replace(",", NARROW_SPACE)
    magnitude = math.floor(math.log10(abs(value)))
    text = f"{value:.{max(0, min(digits - 1 - magnitude, 9))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: object) -> str:
    """Seconds for a reader: ``0.0042`` → ``4.2 ms``, ``75`` → ``1:15 min``; ``–`` for none."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return "–"
    if abs(seconds) < 1 and seconds != 0:
        return f"{number(seconds * 1000)} ms"
    if abs(seconds) < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}:{minutes_left:02d} h" if hours else f"{minutes}:{rest:02d} min"


def percent(share: object) -> str:
    """``0.123`` → ``12.3 %``; ``–`` for none."""
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not math.isfinite(share):
        return "–"
    return f"{number(share * 100)} %"


def label(name: str) -> str:
    """A figure's name for a reader: ``p99_ms`` → ``p99 (ms)``, ``intake_per_s`` → ``intake (per s)``."""
    for tail, unit in _UNITS:
        if name.endswith(tail):
            return f"{name[: -len(tail)].replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


_UNITS = (
    ("_per_s", "per s"), ("_ms", "ms"), ("_ns", "ns"), ("_s", "s"), ("_share", "share"), ("_bytes", "bytes"),
    ("_mib", "MiB"), ("_cores", "cores"), ("_percent", "%"),
)


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` with its keys as text; {} where it is no mapping: what was recorded may be anything."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}

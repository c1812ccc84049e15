"""report.text: foreign text made visible, numbers made comparable."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", "a␛[31mb"), ("a\r\nb\x00\x7f", "a␍␊b␀␡"), ("a\u202eb", "a⟨U+202E⟩b"), ("\ud800", "⟨U+D800⟩"), ("\U000e0041", "⟨U+E0041⟩"),
        ("\ufffe", "⟨U+FFFE⟩"), ("日本語 ü ✓ 📧", "日本語 ü ✓ 📧"), (5, "5"),
    ],
)
def test_what_is_hidden_becomes_visible(raw: object, shown: str):
    assert text.plain(raw) == shown


def test_long_text_is_cut_and_says_so():
    assert text.plain("x" * 30, length_max=10) == "x" * 10 + " … (20 more characters)"


def test_lines_stay_where_asked():
    assert text.plain("a\nb\r", lines=True) == "a\nb␍"


@given(st.text())
def test_markdown_reads_back_as_the_text_and_holds_no_live_mark(raw: str):
    escaped = text.markdown(raw)
    assert html.unescape(escaped) == text.plain(raw)
    assert not set(re.sub(r"&#\d+;", "", escaped)) & set("\\`*_{}[]<>#|~=@&$")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("no-loss in 1x: 19.8 per s (p99)", "no-loss in 1x: 19.8 per s (p99)"), ("- item", "&#45; item"), ("1. item", "1&#46; item"), ("19.8", "19.8"),
        ("http://x", "http&#58;//x"), ("WWW.x.org", "WWW&#46;x.org"), (":smile:", "&#58;smile:"), ("a|b", "a&#124;b"), ("-----", "&#45;----"),
    ],
)
def test_markdown_stays_readable_where_it_can(raw: str, shown: str):
    assert text.markdown(raw) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (12345, "12\u202f345"), (12345.678, "12\u202f346"), (0.0123456, "0.0123"), (1.5, "1.5"), (-2.25, "−2.25"), (99.96, "100"),
        (None, "–"), (float("nan"), "–"), (float("inf"), "∞"), (True, "yes"), ("x\x1b", "x␛"), (1e-12, "0"),
    ],
)
def test_numbers(value: object, shown: str):
    assert text.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.0042, "4.2 ms"), (0, "0 s"), (75, "1:15 min"), (59.96, "60 s"), (3725, "1:02 h"), (None, "–"), (True, "–")])
def test_durations(value: object, shown: str):
    assert text.duration(value) == shown


def test_shares():
    assert text.percent(0.1234) == "12.3 %"
    assert text.percent("x") == "–"


def test_labels_carry_their_unit():
    assert text.label("p99_ms") == "p99 (ms)"
    assert text.label("intake_per_s") == "intake (per s)"
    assert text.label("lost") == "lost"

"""svg, timeline and bars: geometry, gaps, and text that stays text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.bars import Group, Ratio, bars, ratios
from harness.report.svg import element, lonely, path, thin, ticks, time_ticks
from harness.report.timeline import Band, Lane, Panel, Series, Timeline, draw


def test_elements_escape_text_and_attributes():
    made = element("text", "<b>&\u202e", class_='"x"')
    assert str(made) == '<text class="&#34;x&#34;">&lt;b&gt;&amp;⟨U+202E⟩</text>'


def test_a_gap_breaks_the_line():
    assert path([(0, 1), (1, 2), (2, None), (3, 4)]) == "M0,1L1,2M3,4"


def test_a_lonely_point_becomes_a_dot():
    assert lonely([(0, 1), (1, None), (2, 5), (3, None)]) == [(0, 1), (2, 5)]


def test_steps_hold_their_value():
    assert path([(0, 1), (2, 1), (4, 3)], step=True) == "M0,1H2H4V3"


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_ticks_reach_the_top_in_few_round_steps(top: float):
    found = ticks(top)
    assert found[0] == 0
    assert found[-1] >= top * 0.999
    assert 2 <= len(found) <= 6


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_ticks_of_nothing(bad: float):
    assert ticks(bad) == [0.0, 1.0]


def test_time_ticks_end_before_the_end():
    assert time_ticks(58) == [0, 10, 20, 30, 40, 50]
    assert len(time_ticks(90000)) <= 9


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1, max_size=400))
def test_thinning_keeps_the_extremes_and_the_order(values: list[float | None]):
    points = [(float(i), v) for i, v in enumerate(values)]
    kept = thin(points, 40)
    assert len(kept) <= 70 or len(points) <= 40
    known = [v for v in values if v is not None]
    if known:
        assert max(v for _, v in kept if v is not None) == max(known)
        assert min(v for _, v in kept if v is not None) == min(known)
    assert kept == sorted(kept, key=lambda p: p[0])


def timeline(**more: object) -> Timeline:
    panel = Panel("Load", "mails per second", [Series("accepted", "accepted", [(0, 1), (5, 20), (10, 3)], area=True)], 10)
    base = {"key": "t", "title": "Arm <1x>", "description": "d", "end_s": 60.0, "panels": [panel]}
    return Timeline(**{**base, **more})  # type: ignore[arg-type]


def shapes(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())


def test_a_timeline_is_well_formed_and_says_what_it_is():
    svg = draw(timeline(bands=[Band("kill <mx>", 10, 20)], lanes=[Lane("mx", [(0, 10, 2), (10, 20, 0), (20, 60, 1)])], marks=[(0, "burst")]))
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    labelled = set((root.get("aria-labelledby") or "").split())
    assert {e.get("id") for e in root if e.tag in ("title", "desc")} == labelled
    assert [e.text for e in root if e.tag == "title"] == ["Arm <1x>"]


def test_a_fault_is_a_band_over_its_time():
    svg = draw(timeline(bands=[Band("kill", 15, 45)]))
    band = next(e for e in shapes(svg) if e.get("class") == "band")
    assert float(band.get("x") or 0) == pytest.approx(50 + 482 * 0.25)
    assert float(band.get("width") or 0) == pytest.approx(482 * 0.5)


def test_lanes_show_whether_all_some_or_none_were_ready():
    svg = draw(timeline(lanes=[Lane("mx", [(0, 10, 2), (10, 20, 0), (20, 60, 1)])]))
    assert [e.get("class") for e in shapes(svg) if e.tag == "rect"] == ["lane l-full", "lane l-none-ready", "lane l-part"]


def test_services_with_long_names_stay_apart():
    svg = draw(timeline(lanes=[Lane("mailbox", [(0, 60, 2)]), Lane("mailbox-proxy", [(0, 60, 2)]), Lane("mailbox-proxy-v6", [(0, 60, 2)])]))
    assert [e.text or "".join(e.itertext()) for e in shapes(svg) if e.get("class") == "lane-name end"] == [
        "mailboxmailbox", "mailbox-proxymailb…roxy", "mailbox-proxy-v6mailb…y-v6",
    ]  # fmt: skip


def test_what_is_beyond_the_scale_is_cut_and_named():
    assert "↑ accepted 20" in draw(timeline())


def test_no_samples_says_so():
    assert "no samples" in draw(timeline(panels=[Panel("Load", "", [Series("a", "due", [(0, None)])], 0)]))


def test_bars_are_as_long_as_their_values():
    svg = bars("b", "Bars", "d", [("in", "accepted"), ("out", "goodput")], [Group("1x", (10.0, 5.0)), Group("2x", (None, 0.0))])
    widths = [float(e.get("width") or 0) for e in shapes(svg) if e.get("class") in ("bar f-accepted", "bar f-goodput")][2:]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert len(widths) == 3


def test_ratios_stand_on_a_logarithmic_axis():
    svg = ratios("r", "Ratios", "d", [Ratio("double", 2.0), Ratio("half", 0.5), Ratio("same", 1.0), Ratio("none", None)])
    x = [float(e.get("cx") or 0) for e in shapes(svg) if e.tag == "circle"]
    assert x[0] - x[2] == pytest.approx(x[2] - x[1], abs=0.2)
    assert len(x) == 3


def test_an_interval_is_drawn():
    svg = ratios("r", "Ratios", "d", [Ratio("double", 2.0, 1.5, 2.5, "1.5 – 2.5")])
    assert [e for e in shapes(svg) if e.get("class") == "whisker"]

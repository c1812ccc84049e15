"""What is judged as load ends where only the watchers were left."""

from __future__ import annotations

from pathlib import Path

from harness.selftest.builder import HistoryBuilder
from harness.store.history import load
from harness.store.latency import ordinary_latency
from harness.store.spans import load_span


def test_the_watch_is_no_load_but_its_sightings_count(tmp_path: Path):
    plain = HistoryBuilder(tmp_path / "plain")
    watched = HistoryBuilder(tmp_path / "watched")
    states = watched.arm("1x").of("load-1.log", "load_state")
    for state in states[-3:]:
        state["phase"] = "watch"
    spans, latencies = [], []
    for builder in (plain, watched):
        with load(builder.write()) as history:
            arm = next(a for a in history.arms if a.name == "1x")
            spans.append(load_span(arm))
            latencies.append(ordinary_latency(arm))
    assert spans[1].end == states[-3]["t"] < spans[0].end
    assert spans[1].begin == spans[0].begin
    assert latencies[1].watched > 0

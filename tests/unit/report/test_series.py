"""series and arms_over_time: what the samplers saw, in seconds since the load began."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report import series
from harness.report.arms_over_time import collect, timelines
from harness.selftest.builder import HistoryBuilder, good_run, kill_run
from harness.store.history import load

S = 1_000_000_000


class Arm:
    """An arm of hand-made events."""

    name, block = "1x", 1

    def __init__(self, *events: dict[str, Any]) -> None:
        self.all = list(events)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.all if e["kind"] == kind]

    def sql(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return []


def clock() -> series.Clock:
    return series.Clock(Arm({"kind": "phase", "name": "load", "edge": "begin", "t": 100 * S}))


def state(t: float, log: str = "load-1.log", **fields: float) -> dict[str, Any]:
    return {"kind": "load_state", "t": round(t * S), "log": log, "accepted": 0, **fields}


def test_time_begins_with_the_load():
    assert clock().zero == 100 * S
    assert series.Clock(Arm(state(7.0), state(9.0))).zero == 7 * S
    assert series.Clock(Arm()).end_s == 0


def test_counters_become_rates():
    found = series.rates([state(100), state(101, accepted=20), state(102, accepted=50)], ["accepted"], clock())
    assert found["accepted"] == [(1.0, 20.0), (2.0, 30.0)]


def test_a_gap_between_states_is_no_rate():
    found = series.rates([state(100), state(101, accepted=20), state(120, accepted=50)], ["accepted"], clock())
    assert found["accepted"] == [(1.0, 20.0), (20.0, None)]


def test_several_load_processes_are_added_up():
    events = [state(100 + i / 2, log, accepted=10 * (i // 2)) for i in range(8) for log in [f"load-{i % 2 + 1}.log"]]
    total = sum(r for _, r in series.rates(events, ["accepted"], clock())["accepted"] if r is not None)
    assert total * 0.5 == pytest.approx(60, abs=11)


def queue(t: float, pod: str, active: int, component: str = "mx") -> dict[str, Any]:
    return {"kind": "queue", "t": round(t * S), "pod": pod, "component": component, "incoming": 1, "active": active, "deferred": 0, "hold": 0, "corrupt": 0}


def test_queues_of_a_components_pods_are_added_up():
    events = [queue(100, "mx-0", 9), queue(100.5, "mx-1", 4), queue(100, "out-0", 0, "outbound")]
    found = series.per_component(events, series.queue_depth, clock(), slice_s=2)
    assert found == {"mx": [(1.0, 15.0)], "outbound": [(1.0, 1.0)]}


def test_a_pod_that_is_gone_counts_no_longer():
    events = [queue(100, "mx-0", 9), *(queue(100 + 2 * i, "mx-1", 0) for i in range(6))]
    found = series.per_component(events, series.queue_depth, clock(), slice_s=2, hold=1)["mx"]
    assert [y for _, y in found] == [11, 11, 1, 1, 1, 1]


def throttle(t: float, periods: int, throttled: int) -> dict[str, Any]:
    return {"kind": "throttle", "t": round(t * S), "pod": "mx-0", "component": "mx", "periods": periods, "throttled": throttled}


def test_throttling_is_a_share_of_the_periods_between_samples():
    found = series.throttled_share([throttle(100, 0, 0), throttle(102, 20, 5), throttle(104, 40, 25)], clock(), slice_s=2)
    assert found == {"mx": [(3.0, 25.0), (5.0, 100.0)]}


def test_counters_that_restart_with_the_container_are_no_throttling():
    found = series.throttled_share([throttle(100, 900, 900), throttle(102, 10, 0), throttle(104, 30, 10)], clock(), slice_s=2)
    assert found == {"mx": [(5.0, 50.0)]}


def test_quantiles_by_nearest_rank():
    samples = [(0.1 * i, float(i)) for i in range(1, 11)]
    assert series.quantiles(samples, 0.5, slice_s=10) == [(5.0, 5.0)]
    assert series.quantiles(samples, 0.99, slice_s=10) == [(5.0, 10.0)]
    assert series.quantiles([(1, 1.0), (25, 2.0)], 0.5, slice_s=10) == [(5.0, 1.0), (15.0, None), (25.0, 2.0)]


def test_slices_are_round_and_few():
    assert series.slice_seconds(58, 60) == 1
    assert series.slice_seconds(500, 60) == 10
    assert series.slice_seconds(1e7, 60) * 60 >= 1e7


def test_ordinary_latency_is_the_first_sight_of_steady_mail_only(tmp_path):
    with load(good_run(tmp_path)) as run:
        arm = run.arms[0]
        found = series.ordinary_latency(arm, series.Clock(arm))
        steady = arm.one("SELECT count(DISTINCT mail) FROM offers WHERE population = 2")
    assert len(found) == steady
    assert all(0.2 < latency < 2 for _, latency in found)


def test_a_real_arm_has_all_its_lines(tmp_path):
    with load(good_run(tmp_path)) as run:
        lines = [collect(a, name=a.label) for a in run.arms]
    one, two = lines
    assert series.highest([one.rates["accepted"]]) == pytest.approx(22, rel=0.2)
    assert series.highest([two.rates["accepted"]]) == pytest.approx(42, rel=0.2)
    assert series.highest([two.queues["mx"]]) > series.highest([one.queues["mx"]]) > 100
    assert series.highest([one.p99]) >= series.highest([one.p50]) > 0
    assert series.highest([one.throttled["mx"]]) == pytest.approx(70, abs=1)
    assert [lane.name for lane in one.lanes] == ["mx"]
    first, second = timelines(lines)
    assert [p.top for p in first[0].panels] == [p.top for p in second[0].panels], "arms share their scales"
    assert first[0].end_s == second[0].end_s
    assert len(first[1].rows) <= 31
    assert all(len(r) == len(first[1].head) for r in first[1].rows)


def test_a_fault_becomes_a_band_and_its_endpoints_a_gap(tmp_path):
    with load(kill_run(tmp_path)) as run:
        lines = collect(run.arms[0], name="queue-on-pvc")
    assert [(b.label, round(b.begin), round(b.end)) for b in lines.bands] == [("kill-mx", 14, 20)]
    assert [n for _, _, n in lines.lanes[0].steps] == [1, 0, 1]
    assert "fault kill-mx" in timelines([lines])[0][0].description


def test_missing_samples_leave_a_gap_in_the_table(tmp_path):
    b = HistoryBuilder(tmp_path)
    b.arm("1x").drop_events("observe.log", "queue")
    b.arm("1x").drop_events("observe.log", "host")
    with load(b.write()) as run:
        lines = collect(run.arms[0], name="1x")
        table = timelines([lines])[0][1]
    assert "host CPU %" in table.head
    assert {row[table.head.index("host CPU %")] for row in table.rows} == {"–"}

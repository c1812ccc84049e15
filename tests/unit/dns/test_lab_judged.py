"""The laboratory's records, judged offline: evidence, capacity, claims, report. Each defect is planted and must be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.judge import judge
from harness.model.verdict import ClaimResult, Status
from harness.report import write as write_report
from harness.store.dnslab import cells
from harness.store.history import load
from tests.unit.dns.lab_history import PLAN, Recorded, plan, write

FEW, MANY = Recorded(10, {"tcp": 80}), Recorded(1000)


def verdicts(tmp_path: Path, few: Recorded = FEW, many: Recorded = MANY) -> dict[tuple[str, str], tuple[Status, str]]:
    return {(v.arm, v.check): (v.status, v.reason) for v in judge(write(tmp_path, {"few": few, "many": many}).path).verdicts}


def claims(tmp_path: Path, few: Recorded = FEW, many: Recorded = MANY) -> dict[str, tuple[ClaimResult, str, str]]:
    return {f.claim: (f.result, f.reason, f.conditions) for f in judge(write(tmp_path, {"few": few, "many": many}).path).findings}


def test_few_slots_fail_and_many_bear_it(tmp_path: Path):
    found = verdicts(tmp_path)
    assert {found[arm, check][0] for arm in ("few", "many") for check in ("evidence-complete", "load-was-real", "faults-happened")} == {Status.PASS}
    assert found["many", "dns-capacity"] == (Status.PASS, "2 paths bear 100 queries a second")
    status, reason = found["few", "dns-capacity"]
    assert status == Status.FAIL
    assert reason.startswith("tcp: failures pass the share at 57/s")
    assert "7 connections waited for one of 10 slots" in reason


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (Recorded(10, {"tcp": 80}, unfinished="udp"), "the cell udp did not come to its end"),
        (Recorded(10, {"tcp": 80}, cells=("tcp",)), "the cell udp was not run"),
        (Recorded(10, {"tcp": 80}, settings=False), "unbound did not say with which settings it ran"),
        (Recorded(10, {"tcp": 80}, uncounted=200), "3360 queries were sent and the caches counted 3160"),
        (Recorded(10, {"tcp": 80}, sensors_stop_s=20), "without a 'dns_resolver' event"),
    ],
)
def test_missing_evidence_is_inconclusive(tmp_path: Path, spoilt: Recorded, says: str):
    status, reason = verdicts(tmp_path, spoilt)["few", "evidence-complete"]
    assert status == Status.INCONCLUSIVE
    assert says in reason


def test_a_generator_that_lags_shows_nothing(tmp_path: Path):
    status, reason = verdicts(tmp_path, Recorded(10, {"tcp": 80}, lag_ms=900))["few", "load-was-real"]
    assert status == Status.INCONCLUSIVE
    assert "900 ms behind" in reason


def test_a_rate_within_the_interval_is_not_told(tmp_path: Path):
    status, _ = verdicts(tmp_path, Recorded(10, {"tcp": 160}))["few", "dns-capacity"]
    assert status == Status.INCONCLUSIVE


def test_t32b_is_confirmed_under_the_conditions_it_was_seen_under(tmp_path: Path):
    result, reason, conditions = claims(tmp_path)["T32b"]
    assert result == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    assert "10 slots 57/s" in reason
    assert "1000 slots none up to 160/s" in reason
    assert "unbound 1.26.2, one thread" in conditions


@pytest.mark.parametrize(
    ("few", "many", "result", "says"),
    [
        (Recorded(10), MANY, ClaimResult.REFUTED, "10 slots none up to 160/s"),
        (FEW, Recorded(1000, {"tcp": 80}), ClaimResult.UNDECIDED, "1000 slots 57/s"),
        (Recorded(10, {"tcp": 80, "udp": 80}), MANY, ClaimResult.UNDECIDED, "something else than the slots"),
        (Recorded(10, {"tcp": 80}, cells=("tcp",)), MANY, ClaimResult.UNDECIDED, "the evidence is not sound: few"),
        (Recorded(10, {"tcp": 80}, threads=2), MANY, ClaimResult.UNDECIDED, "no path was measured with both"),
        (Recorded(20, {"tcp": 80}), MANY, ClaimResult.UNDECIDED, "no path was measured with both"),
    ],
)
def test_t32b_otherwise(tmp_path: Path, few: Recorded, many: Recorded, result: ClaimResult, says: str):
    found = claims(tmp_path, few, many)["T32b"]
    assert found[0] == result
    assert says in found[1]


def test_t32a_is_counted_by_unbound(tmp_path: Path):
    assert claims(tmp_path)["T32a of force_tcp"][0] == ClaimResult.CONFIRMED_UNDER_CONDITIONS
    leaking = Recorded(10, {"tcp": 80}, leak=0.3)
    assert claims(tmp_path, leaking, MANY)["T32a of force_tcp"][0] == ClaimResult.REFUTED
    only_tcp = Recorded(10, {"tcp": 80}, cells=("tcp",)), Recorded(1000, cells=("tcp",))
    assert claims(tmp_path, *only_tcp)["T32a of force_tcp"][0] == ClaimResult.UNDECIDED


def test_the_warm_up_is_cut_off_and_dispersion_is_by_second(tmp_path: Path):
    with load(write(tmp_path, {"few": FEW})) as history:
        seen = cells(history.arms[0])[0]
    assert [(s.per_s, s.sent, s.failed) for s in seen.steps] == [(40, 200, 0), (80, 400, 80), (160, 800, 160)]
    assert (seen.slots_max, seen.waiting_max, seen.slots_by_thread) == (10, 7, (10,))


def test_judging_again_gives_the_same_bytes_and_the_report_draws_the_knees(tmp_path: Path):
    run = write(tmp_path, {"few": FEW, "many": MANY})
    first = judge(run.path)
    paths, _ = write_report(run.path, first.to_json())
    page = paths.html.read_bytes()
    again = judge(run.path)
    write_report(run.path, again.to_json())
    assert (first.to_bytes(), page) == (again.to_bytes(), paths.html.read_bytes())
    text = page.decode()
    assert 'id="knees"' in text
    assert "none up to 160/s" in text
    assert "All node caches are virtual" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"few": FEW, "many": MANY}, None),
        ({"few": FEW}, "2 of the plan's 4 cells were not measured: many: tcp, udp."),
        ({"few": Recorded(10, unfinished="udp"), "many": MANY}, "1 of the plan's 4 cells were not measured: few: udp."),
    ],
)
def test_a_part_of_the_field_is_not_shown_as_the_whole(tmp_path: Path, arms: dict[str, Recorded], says: str | None):
    run = write(tmp_path, arms)
    paths, _ = write_report(run.path, judge(run.path).to_json())
    text = paths.markdown.read_text()
    assert (says in text) if says else ("cells were not measured" not in text)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: dns\n", "kind: dns\n      scenario: friday\n", "a load of the kind 'dns' has no scenario"),
        ("kind: dns\n", "kind: mail\n", "'load.scenario' is missing"),
        ("kind: dns\n", "kind: ldap\n", "'load.kind'"),
        ("        warm_s: 1\n", "        warm_s: 1\n        zone: lab.test\n", "'test.'"),
        ("        warm_s: 1\n", "        warm_s: 1\n        arms_cells: {fewer: [tcp]}\n", "there is no arm 'fewer'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(tmp_path: Path, old: str, new: str, says: str):
    with pytest.raises(PlanError) as caught:
        plan(tmp_path, PLAN.replace(old, new))
    assert says in str(caught.value)

"""The verdict on a whole run: evidence first, planted defects, damage, and the same bytes again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.checks import no_loss
from harness.errors import StoreDamaged, UsageError
from harness.judge import judge
from harness.model.plan import CheckSpec
from harness.model.verdict import ClaimResult, Status
from harness.selftest.builder import HistoryBuilder, good_run, kill_run
from harness.selftest.friday import friday_plan, limited_plan


def test_a_good_run_passes(tmp_path: Path):
    run = good_run(tmp_path)
    verdict = judge(run.path)
    assert (verdict.status, verdict.exit_code) == (Status.PASS, 0)
    assert verdict.sentence.startswith("PASS: ")
    first = (run.path / "verdict.json").read_bytes()
    judge(run.path)
    assert (run.path / "verdict.json").read_bytes() == first
    assert json.loads(first)["status"] == "PASS"
    assert run.verify() == []


def test_a_lost_mail_fails_the_run(tmp_path: Path):
    b = HistoryBuilder(tmp_path)
    b.arm("2x").lose(9)
    verdict = judge(b.write().path)
    assert (verdict.status, verdict.exit_code) == (Status.FAIL, 1)
    assert "no-loss in 2x (1 acknowledged mail" in verdict.sentence


def test_a_planted_defect_must_fail_and_only_there(tmp_path: Path):
    assert judge(kill_run(tmp_path).path).status == Status.PASS
    verdict = judge(kill_run(tmp_path, lossy=False).path)
    assert verdict.status == Status.FAIL
    assert "the planted defect was not found" in verdict.sentence


def test_a_planted_defect_that_is_not_found_in_half_an_arm_shows_nothing(tmp_path: Path):
    """As after Ctrl-C: what did not come to its end cannot have failed."""
    run = kill_run(tmp_path, lossy=False)
    (run.path / "arms" / "1-queue-on-emptydir" / "faults.log").unlink()
    assert judge(run.path).status == Status.INCONCLUSIVE


@pytest.mark.parametrize("spoil", [
    lambda a: a.saturate_generator(), lambda a: a.saturate_host(), lambda a: a.cut_log("load-1.log", 35),
    lambda a: a.absent.add("observe.log"), lambda a: a.unread("mailbox", "user1@example.org/INBOX"),
    lambda a: a.drop_events("observe.log", "host"),
])
def test_without_evidence_there_is_no_pass(tmp_path: Path, spoil):
    b = HistoryBuilder(tmp_path)
    spoil(b.arm("1x"))
    verdict = judge(b.write().path)
    assert (verdict.status, verdict.exit_code) == (Status.INCONCLUSIVE, 5)


def test_a_failure_stands_without_evidence(tmp_path: Path):
    b = HistoryBuilder(tmp_path)
    b.arm("1x").lose(9)
    b.arm("1x").saturate_host()
    assert judge(b.write().path).status == Status.FAIL


def test_evidence_is_judged_though_the_plan_does_not_ask(tmp_path: Path):
    plan = replace(friday_plan(), checks=(CheckSpec("no-loss", {}),))
    b = HistoryBuilder(tmp_path, plan)
    b.arm("1x").saturate_host()
    assert judge(b.write().path).status == Status.INCONCLUSIVE


def test_an_arm_that_did_not_run_is_no_pass(tmp_path: Path):
    run = HistoryBuilder(tmp_path).write(seal=False)
    for path in sorted((run.path / "arms/1-2x").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (run.path / "arms/1-2x").rmdir()
    run.seal()
    verdict = judge(run.path)
    assert verdict.status == Status.INCONCLUSIVE
    assert "the arm was not run" in verdict.sentence


@pytest.mark.parametrize("spoil", [
    lambda p: (p / "seal.json").unlink(),
    lambda p: (p / "plan.yaml").write_text("other"),
    lambda p: (p / "arms/1-1x/spec.json").write_text('{"x": 1}'),
    lambda p: (p / "arms/1-1x/late.log").write_bytes(b""),
    lambda p: (p / "conductor.log").unlink(),
])
def test_a_run_that_changed_is_no_pass(tmp_path: Path, spoil):
    run = good_run(tmp_path)
    spoil(run.path)
    assert judge(run.path).status == Status.INCONCLUSIVE


def test_a_head_that_does_not_read_is_an_error(tmp_path: Path):
    run = good_run(tmp_path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(StoreDamaged):
        judge(run.path)
    with pytest.raises(UsageError):
        judge(tmp_path)


def test_a_check_that_breaks_is_inconclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(no_loss, "check", lambda arm, limits: 1 / 0)
    verdict = judge(good_run(tmp_path).path)
    assert verdict.status == Status.INCONCLUSIVE
    assert "ZeroDivisionError" in verdict.sentence


def test_unknown_checks_and_claims_are_said(tmp_path: Path):
    plan = replace(friday_plan(), checks=(CheckSpec("no-such", {}),), findings=("no-such",))
    verdict = judge(HistoryBuilder(tmp_path, plan).write().path)
    assert verdict.status == Status.INCONCLUSIVE
    assert verdict.findings[0].result == ClaimResult.UNDECIDED


@pytest.mark.slow
def test_blocks_are_told_apart_and_give_intervals(tmp_path: Path):
    b = HistoryBuilder(tmp_path, blocks=6)
    b.arm("1x", 3).lose(5)
    verdict = judge(b.write().path)
    assert [v.arm for v in verdict.verdicts if v.status == Status.FAIL] == ["1x#3"]
    t15 = next(f for f in verdict.findings if f.claim == "T15")
    assert t15.result == ClaimResult.CONFIRMED
    assert 1.8 < t15.figures["intake_ratio_low"] < t15.figures["intake_ratio"] < t15.figures["intake_ratio_high"] < 2.2


def test_a_claim_rests_on_arms_with_sound_evidence_only(tmp_path: Path):
    """A host that was used up in one arm of two leaves nothing to compare, however clear the ratio of the two looks."""
    b = HistoryBuilder(tmp_path, limited_plan())
    b.arm("2x").saturate_host()
    verdict = judge(b.write().path)
    t15 = next(f for f in verdict.findings if f.claim == "T15")
    assert t15.result == ClaimResult.UNDECIDED
    assert "left out, the evidence is not sound: 2x" in t15.reason


def test_findings_of_the_friday_burst(tmp_path: Path):
    verdict = judge(HistoryBuilder(tmp_path, limited_plan()).write().path)
    assert verdict.status == Status.PASS
    assert {f.claim: f.result.name for f in verdict.findings} == dict.fromkeys(
        ("T15", "T14", "T15 flow control", "T15 control"), "CONFIRMED_UNDER_CONDITIONS"
    )


EVIDENCE = st.sampled_from([
    ("conductor.log", "phase"), ("conductor.log", "expected_writers"), ("observe.log", "queue"), ("observe.log", "host"),
    ("observe.log", "pod"), ("load-1.log", "load_state"), ("load-1.log", "load_end"), ("load-1.log", "recipients"), ("load-1.log", "senders"),
])
DEFECTS = st.sampled_from([
    lambda a: a.lose(7), lambda a: a.duplicate(7), lambda a: a.corrupt(7), lambda a: a.leave_queued(7), lambda a: a.saturate_host(),
    lambda a: a.unread("mailbox", "user1@example.org/INBOX"), lambda a: a.cut_log("observe.log", 40),
])


@given(DEFECTS, st.lists(EVIDENCE, max_size=3), st.lists(st.sampled_from(["census.log", "observe.log", "load-1.log"]), max_size=2))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_removing_evidence_never_makes_a_pass(tmp_path: Path, defect, dropped, absent):
    b = HistoryBuilder(tmp_path)
    b.arms = b.arms[:1]
    defect(b.arms[0])
    for log, kind in dropped:
        b.arms[0].drop_events(log, kind)
    b.arms[0].absent |= set(absent)
    assert judge(b.write().path).status != Status.PASS


@given(st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_records_does_not_matter(tmp_path: Path, rng):
    def outcome(shuffle: bool) -> list[tuple[str, Status, str]]:
        b = HistoryBuilder(tmp_path)
        b.arms = b.arms[:1]
        b.arms[0].lose(7)
        b.arms[0].duplicate(9)
        if shuffle:
            rng.shuffle(b.arms[0].mails)
            for m in b.arms[0].mails:
                rng.shuffle(m.copies)
            for events in b.arms[0].events.values():
                rng.shuffle(events)
            rng.shuffle(b.arms[0].scopes)
            rng.shuffle(b.arms[0].userops)
        return [(v.check, v.status, v.reason) for v in judge(b.write().path).verdicts]

    assert outcome(shuffle=True) == outcome(shuffle=False)

"""How verdicts become one, without a run: every row is a small table of verdicts and what must be said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from harness.judge.combine import EVIDENCE, effective, overall, plain_arm, sentence, unsound
from harness.judge.verdict import RunVerdict
from harness.model.verdict import ClaimResult, Finding, Status, Verdict
from harness.selftest.friday import kill_plan

PLAN = kill_plan()
LOSSY = next(a.name for a in PLAN.arms if a.expect_fail)
OTHER = next(a.name for a in PLAN.arms if not a.expect_fail)
PASS, UNSURE, FAIL = Status.PASS, Status.INCONCLUSIVE, Status.FAIL


def v(check: str, arm: str, status: Status = PASS, reason: str = "because") -> Verdict:
    return Verdict(check, arm, status, reason)


def arm(name: str, no_loss: Status | None = PASS, *more: Verdict, without: str = "") -> list[Verdict]:
    made = [v(check, name) for check in EVIDENCE if check != without]
    return [*made, *([v("no-loss", name, no_loss)] if no_loss is not None else []), *more]


@pytest.mark.parametrize(("verdicts", "status"), [
    ([], UNSURE), (arm(OTHER), PASS), (arm(OTHER, FAIL), FAIL), (arm(OTHER, UNSURE), UNSURE), (arm(LOSSY, FAIL), PASS), (arm(LOSSY, PASS), FAIL),
    (arm(LOSSY, UNSURE), UNSURE), (arm(LOSSY, None), UNSURE), (arm(OTHER, None), PASS), ([*arm(OTHER), *arm(LOSSY, FAIL)], PASS),
    (arm("an arm that the plan has not"), PASS), (arm("an arm that the plan has not", FAIL), FAIL), (arm(f"{LOSSY}#2", FAIL), PASS), (arm(f"{LOSSY}#2"), FAIL),
    *[(arm(OTHER, without=check), UNSURE) for check in EVIDENCE], *[(arm(LOSSY, FAIL, without=check), UNSURE) for check in EVIDENCE],
    ([v("evidence-complete", LOSSY, UNSURE), *arm(LOSSY, PASS, without="evidence-complete")], UNSURE),
    ([v("evidence-complete", OTHER, UNSURE), *arm(OTHER, FAIL, without="evidence-complete")], FAIL),
])
def test_the_worst_counts_and_missing_evidence_is_no_pass(verdicts: Sequence[Verdict], status: Status):
    assert overall(PLAN, verdicts) == status


@pytest.mark.parametrize(("arm_name", "check", "status", "doubtful", "wanted"), [
    (OTHER, "no-loss", FAIL, False, FAIL), (LOSSY, "no-loss", FAIL, False, PASS), (LOSSY, "no-loss", PASS, False, FAIL), (LOSSY, "no-loss", PASS, True, UNSURE),
    (LOSSY, "no-loss", FAIL, True, PASS), (LOSSY, "no-loss", UNSURE, True, UNSURE), (LOSSY, "integrity", FAIL, False, FAIL),
    (LOSSY, "integrity", PASS, True, PASS), ("unknown", "no-loss", FAIL, False, FAIL),
])
def test_what_a_verdict_means_for_the_plan(arm_name: str, check: str, status: Status, doubtful: bool, wanted: Status):
    assert effective(PLAN, v(check, arm_name, status), frozenset({arm_name}) if doubtful else frozenset({"another"})) == wanted


def test_labels_and_what_is_unsound():
    assert [plain_arm(x) for x in ("1x", "1x#2", "a#b#3")] == ["1x", "1x", "a#b"]
    assert unsound([*arm("a"), v("no-loss", "b", FAIL), v("load-was-real", "c", UNSURE), v("faults-happened", "d", FAIL)]) == {"c", "d"}


@pytest.mark.parametrize(("verdicts", "said"), [
    (arm(OTHER), "PASS: all 4 checks hold in 1 arm."),
    ([*arm(OTHER), *arm(LOSSY, FAIL)], "PASS: all 8 checks hold in 2 arms; no-loss failed where the plan says that it must."),
    (arm(LOSSY), f"FAIL: no-loss in {LOSSY} (the planted defect was not found)."),
    (arm(OTHER, FAIL), f"FAIL: no-loss in {OTHER} (because)."),
    ([], "INCONCLUSIVE: there is nothing to judge."),
    ([v(f"c{n}", OTHER, FAIL) for n in range(3)], f"FAIL: c0 in {OTHER} (because); c1 in {OTHER} (because); c2 in {OTHER} (because)."),
    ([v(f"c{n}", OTHER, FAIL) for n in range(5)], f"FAIL: c0 in {OTHER} (because); c1 in {OTHER} (because); c2 in {OTHER} (because), and 2 more."),
    ([v("evidence-complete", LOSSY, UNSURE, "cut"), v("no-loss", LOSSY)], f"INCONCLUSIVE: evidence-complete in {LOSSY} (cut); no-loss in {LOSSY} (the planted defect was not found)."),
])
def test_the_sentence(verdicts: Sequence[Verdict], said: str):
    assert sentence(PLAN, verdicts, overall(PLAN, verdicts)) == said


@pytest.mark.parametrize(("status", "code"), [(PASS, 0), (FAIL, 1), (UNSURE, 5)])
def test_the_file(status: Status, code: int):
    verdict = Verdict("no-loss", "1x", status, "why", {"lost": 1.0}, ("mail 7",))
    finding = Finding("t15", ClaimResult.REFUTED, "so", {"ratio": 2.0}, "six blocks")
    raw = RunVerdict("r1", status, "said", (verdict,), (finding,), {"1x": {"lost": 1}}, {"1x": ("no-loss",)}).to_bytes()
    assert raw.endswith(b"}\n")
    assert json.loads(raw) == {
        "run_id": "r1", "status": status.name, "sentence": "said", "exit_code": code, "figures": {"1x": {"lost": 1}}, "expect_fail": {"1x": ["no-loss"]},
        "verdicts": [{"check": "no-loss", "arm": "1x", "status": status.name, "reason": "why", "figures": {"lost": 1.0}, "evidence": ["mail 7"]}],
        "findings": [{"claim": "t15", "result": "REFUTED", "reason": "so", "figures": {"ratio": 2.0}, "conditions": "six blocks"}],
    }

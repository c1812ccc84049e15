"""Sessions that fail and pods that go out of service: well, planted defect, and too little evidence."""

from __future__ import annotations

import pytest

from harness.model.outcome import Deferral, Outcome, Stage
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder

PVC = "queue-on-pvc"


class TestNoFailedSessions:
    def test_pass(self, judged):
        v = judged("no-failed-sessions")
        assert v.status == Status.PASS
        assert v.figures["smtp_failed"] == 0
        assert v.figures["smtp_sessions"] > 100

    @pytest.mark.parametrize(
        ("outcome", "code", "status"),
        [(Outcome.FAIL, 0, Status.FAIL), (Outcome.FAIL, 421, Status.FAIL), (Outcome.INFO, 0, Status.FAIL), (Outcome.FAIL, 451, Status.PASS)],
    )
    def test_a_cut_session_fails_and_an_answered_one_does_not(self, judged, outcome, code, status):
        def spoil(a: ArmBuilder):
            a.end_attempt(100, outcome, Stage.CONNECT if outcome == Outcome.FAIL else Stage.DOT, code, Deferral.SYSTEM if code else Deferral.NONE)
            a.retry(100)

        v = judged("no-failed-sessions", spoil)
        assert v.status == status
        assert v.figures["smtp_failed"] == (status == Status.FAIL)
        assert len(v.evidence) == (status == Status.FAIL)

    def test_an_attempt_without_an_end_is_a_failed_session(self, judged):
        def spoil(a: ArmBuilder):
            a.mail(100).attempts[0].t_done = None
            a.retry(100)

        assert judged("no-failed-sessions", spoil).status == Status.FAIL

    def test_a_limit_allows_some(self, judged):
        assert judged("no-failed-sessions", lambda a: a.end_attempt(100, Outcome.FAIL, Stage.CONNECT, 0), failed_max=1).status == Status.PASS

    def test_hardly_any_session_is_no_evidence(self, judged):
        assert judged("no-failed-sessions", operations_min=1e6).status == Status.INCONCLUSIVE

    def test_no_load_is_no_evidence(self, judged):
        assert judged("no-failed-sessions", lambda a: a.drop_events("load-1.log", "load_state")).status == Status.INCONCLUSIVE


def filter_pod(a: ArmBuilder, t: float, *, ready: bool, restarts: int = 0) -> None:
    if t < 10:
        a.of("conductor.log", "pods_at_start")[0]["pods"].append({"name": "outbound-0", "uid": "u", "node": "worker", "component": "outbound"})
    a.event("observe.log", "pod", t, pod="outbound-0", component="outbound", uid="u", node="worker", phase="Running", ready=ready, restarts=restarts, ips=[])


class TestReadyThroughout:
    def test_pass_though_the_victim_itself_was_gone(self, judged):
        v = judged("ready-throughout", lambda a: filter_pod(a, 5, ready=True), arm=PVC)
        assert (v.status, v.figures["unready"]) == (Status.PASS, 0)

    @pytest.mark.parametrize("how", [{"ready": False}, {"ready": True, "restarts": 1}])
    def test_a_pod_that_nobody_aimed_at_must_not_go(self, judged, how):
        def spoil(a: ArmBuilder):
            filter_pod(a, 5, ready=True)
            filter_pod(a, 42, **how)

        v = judged("ready-throughout", spoil, arm=PVC)
        assert v.status == Status.FAIL
        assert "outbound-0" in v.evidence[0]

    def test_long_after_the_fault_is_another_matter(self, judged):
        def spoil(a: ArmBuilder):
            filter_pod(a, 5, ready=True)
            filter_pod(a, 60, ready=False)

        assert judged("ready-throughout", spoil, arm=PVC).status == Status.PASS

    def test_without_a_fault_or_a_watch_nothing_is_known(self, judged):
        assert judged("ready-throughout").status == Status.INCONCLUSIVE
        assert judged("ready-throughout", lambda a: a.drop_events("observe.log", "pod"), arm=PVC).status == Status.INCONCLUSIVE

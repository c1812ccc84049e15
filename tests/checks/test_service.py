"""Checks on the service and on the evidence: well, planted defect, and too little evidence."""

from __future__ import annotations

import pytest

from harness.model.outcome import Deferral, Outcome, Population, Stage
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder, ns

FAIL = Outcome.FAIL
PVC = "queue-on-pvc"


def late(a: ArmBuilder, share: float, by_s: float) -> None:
    steady = [m for m in a.mails if m.population == Population.STEADY and m.t_due > 26]
    for m in steady[: max(1, int(len(steady) * share))]:
        m.sight = m.t_due + by_s


class TestDeliveryLatency:
    def test_pass(self, judged):
        v = judged("delivery-latency")
        assert v.status == Status.PASS
        assert v.figures["mails"] == 60
        assert 500 < v.figures["p50_ms"] < v.figures["p99_ms"] < 1000

    def test_late_mail_fails(self, judged):
        v = judged("delivery-latency", lambda a: late(a, 0.05, 70))
        assert (v.status, round(v.figures["p99_ms"])) == (Status.FAIL, 70000)

    def test_one_late_mail_in_sixty_is_beyond_p99(self, judged):
        assert judged("delivery-latency", lambda a: late(a, 0, 70)).status == Status.FAIL

    def test_p50_has_a_limit_of_its_own(self, judged):
        assert judged("delivery-latency", p50_ms_max=100).status == Status.FAIL

    def test_unseen_mail_counts_against_it(self, judged):
        def unseen(a: ArmBuilder):
            for m in a.mails:
                if m.population == Population.STEADY and 30 < m.t_due < 32.2:
                    m.sight = None

        v = judged("delivery-latency", unseen, p99_ms_max=20000.0)
        assert v.status == Status.FAIL
        assert v.figures["unseen"] == 4

    @pytest.mark.parametrize("kind", ["first_sight", "load_state"])
    def test_without_sights_or_load_nothing_is_known(self, judged, kind):
        def spoil(a: ArmBuilder):
            a.drop_events("load-1.log", kind)
            for m in a.mails:
                m.sight = None

        assert judged("delivery-latency", spoil).status == Status.INCONCLUSIVE

    def test_too_few_mails(self, judged):
        assert judged("delivery-latency", mails_min=61).status == Status.INCONCLUSIVE


class TestAvailability:
    def test_pass(self, judged):
        assert judged("availability").status == Status.PASS

    def test_system_failures_count(self, judged):
        v = judged("availability", lambda a: [a.end_attempt(n, FAIL, Stage.RCPT, 451, Deferral.SYSTEM) for n in range(1, 20)])
        assert v.status == Status.FAIL
        assert "smtp" in v.reason

    def test_the_planned_limit_is_no_outage(self, judged):
        assert judged("availability", arm="1x-limit").status == Status.PASS

    def test_failing_readers_fail(self, judged):
        def spoil(a: ArmBuilder):
            a.userops = [(*op[:6], int(FAIL), *op[7:]) if op[4] == 4 and i % 9 == 0 else op for i, op in enumerate(a.userops)]

        v = judged("availability", spoil)
        assert v.status == Status.FAIL
        assert "imap" in v.reason

    def test_a_fault_may_stop_it_for_a_while_only(self, judged):
        def outage(a: ArmBuilder, until: float):
            for m in a.mails:
                for t in m.attempts:
                    if 40 <= t.t < until:
                        t.outcome, t.stage, t.code, t.t_done = FAIL, Stage.CONNECT, 0, t.t + 0.01
            for f in [e for e in a.of("faults.log", "fault") if e["edge"] in ("end", "undone")]:
                f["t"] = ns(until)

        v = judged("availability", lambda a: outage(a, 46), arm=PVC)
        assert v.status == Status.PASS, v.reason
        assert 5.5 < v.figures["kill-mx_smtp_outage_s"] < 6.5
        assert 5.5 < v.figures["kill-mx_smtp_recovery_s"] < 6.5
        assert judged("availability", lambda a: outage(a, 46), arm=PVC, outage_s_max=3).status == Status.FAIL
        v = judged("availability", lambda a: outage(a, 100), arm=PVC)
        assert v.status == Status.FAIL
        assert "did not come back" in v.reason

    def test_the_same_failures_without_a_fault_fail(self, judged):
        def outage(a: ArmBuilder):
            for m in a.mails:
                for t in m.attempts:
                    if 40 <= t.t < 46:
                        t.outcome, t.stage, t.code = FAIL, Stage.CONNECT, 0

        assert judged("availability", outage).status == Status.FAIL

    @pytest.mark.parametrize("spoil", [lambda a: a.userops.clear(), lambda a: a.drop_events("load-1.log", "load_state")])
    def test_a_protocol_that_was_not_used_is_not_available(self, judged, spoil):
        assert judged("availability", lambda a: a.drop_events("load-1.log", "load_state")).status == Status.INCONCLUSIVE
        v = judged("availability", lambda a: setattr(a, "mails", a.mails[:5]))
        assert v.status == Status.INCONCLUSIVE


class TestRateControl:
    def test_pass(self, judged):
        v = judged("rate-control", arm="1x-limit")
        assert v.status == Status.PASS
        assert v.figures["planned"] == 320

    def test_a_limit_that_never_acts_is_not_tested(self, judged):
        assert judged("rate-control", arm="1x").status == Status.INCONCLUSIVE

    def test_mail_not_accepted_fails(self, judged):
        v = judged("rate-control", lambda a: a.end_attempt(4, FAIL, Stage.DOT, 451, Deferral.PLANNED_LIMIT), arm="1x-limit")
        assert (v.status, v.figures["late"]) == (Status.FAIL, 1)
        assert v.evidence[0].startswith("mail 4 to ")

    def test_mail_accepted_after_the_deadline_fails(self, judged):
        def spoil(a: ArmBuilder):
            a.mail(4).attempts[-1].t_done = 26 + 151

        assert judged("rate-control", spoil, arm="1x-limit").figures["late"] == 1

    @pytest.mark.parametrize(("took_s", "late_mails"), [(0.1, 0), (29, 0), (31, 1)])
    def test_mail_that_is_due_after_the_deadline_has_one_of_its_own(self, judged, took_s, late_mails):
        def spoil(a: ArmBuilder):
            mail = next(m for m in reversed(a.mails) if m.population is Population.STEADY)
            mail.t_due = 26.0 + 152
            mail.attempts[-1].t, mail.attempts[-1].t_done = mail.t_due, mail.t_due + took_s

        assert judged("rate-control", spoil, arm="1x-limit").figures["late"] == late_mails

    @pytest.mark.parametrize("reason", ["stopped", None])
    def test_a_load_that_was_cut_short_before_the_deadline_shows_nothing(self, judged, reason):
        def spoil(a: ArmBuilder):
            a.end_attempt(4, FAIL, Stage.DOT, 451, Deferral.PLANNED_LIMIT)
            if reason:
                a.of("load-1.log", "load_end")[0].update(reason=reason)
            else:
                a.drop_events("load-1.log", "load_end")

        v = judged("rate-control", spoil, arm="1x-limit")
        assert (v.status, v.figures["late"]) == (Status.INCONCLUSIVE, 1)

    def test_refusals_fail(self, judged):
        v = judged("rate-control", lambda a: a.end_attempt(4, FAIL, Stage.DOT, 550), arm="1x-limit")
        assert (v.status, v.figures["refused"]) == (Status.FAIL, 1)
        assert "1 mail refused with 5xx" in v.reason
        allowed = judged("rate-control", lambda a: a.end_attempt(4, FAIL, Stage.DOT, 550), arm="1x-limit", refused_max=1, late_max=1)
        assert allowed.status == Status.PASS

    def test_ordinary_mail_that_nobody_watched_shows_nothing(self, judged):
        v = judged("rate-control", lambda a: [setattr(m, "sight", None) for m in a.mails], arm="1x-limit")
        assert v.status == Status.INCONCLUSIVE
        assert "no ordinary mail was seen" in v.reason

    def test_other_deferrals_fail(self, judged):
        def spoil(a: ArmBuilder):
            for m in a.mails[:120]:
                for t in m.attempts:
                    if t.deferral:
                        t.deferral = Deferral.SYSTEM

        assert "otherwise than by the limit" in judged("rate-control", spoil, arm="1x-limit").reason

    def test_ordinary_mail_must_not_be_limited(self, judged):
        def spoil(a: ArmBuilder):
            for m in a.mails:
                if m.population == Population.STEADY and m.number % 5 == 0:
                    a.end_attempt(m.number, FAIL, Stage.DOT, 451, Deferral.PLANNED_LIMIT)
                    a.retry(m.number, 0.1)

        assert judged("rate-control", spoil, arm="1x-limit").status == Status.FAIL

    def test_ordinary_mail_must_not_be_late(self, judged):
        assert judged("rate-control", lambda a: late(a, 0.1, 90), arm="1x-limit").status == Status.FAIL

    def test_without_load_nothing_is_known(self, judged):
        assert judged("rate-control", lambda a: a.drop_events("load-1.log", "load_state"), arm="1x-limit").status == Status.INCONCLUSIVE


class TestEvidenceComplete:
    def test_pass(self, judged):
        assert judged("evidence-complete").status == Status.PASS

    @pytest.mark.parametrize("spoil", [
        lambda a: a.unclosed.add("load-1.log"),
        lambda a: a.cut_log("load-1.log", 35),
        lambda a: a.cut_log("observe.log", 35),
        lambda a: a.unclosed.add("census.log"),
        lambda a: a.absent.add("observe.log"),
        lambda a: a.absent.add("census.log"),
        lambda a: a.drop_events("conductor.log", "expected_writers"),
        lambda a: a.drop_events("conductor.log", "phase"),
        lambda a: a.drop_events("load-1.log", "load_end"),
        lambda a: a.drop_events("load-1.log", "load_state"),
        lambda a: a.drop_events("load-1.log", "recipients"),
        lambda a: a.drop_events("observe.log", "queue"),
        lambda a: a.drop_events("observe.log", "host"),
        lambda a: setattr(a, "scopes", [s for s in a.scopes if s["round"] == 1]),
        lambda a: a.events["observe.log"].__delitem__(slice(20, 90)),
    ])
    def test_gaps(self, judged, spoil):
        v = judged("evidence-complete", spoil)
        assert v.status == Status.INCONCLUSIVE
        assert v.evidence

    def test_a_hole_in_the_samples_is_measured(self, judged):
        def hole(a: ArmBuilder):
            a.events["observe.log"] = [e for e in a.events["observe.log"] if not (e["kind"] == "host" and ns(30) < e["t"] < ns(48))]

        v = judged("evidence-complete", hole)
        assert v.status == Status.INCONCLUSIVE
        assert v.figures["host_gap_s"] == 18


class TestLoadWasReal:
    def test_pass(self, judged):
        assert judged("load-was-real").status == Status.PASS

    @pytest.mark.parametrize("spoil", [
        lambda a: a.saturate_generator(),
        lambda a: a.saturate_host(),
        lambda a: a.drop_events("observe.log", "host"),
        lambda a: a.drop_events("load-1.log", "load_end"),
        lambda a: a.drop_events("load-1.log", "load_state"),
        lambda a: setattr(a, "mails", a.mails[:50]),
        lambda a: a.of("load-1.log", "load_end")[0].update(reason="stopped"),
        lambda a: [e.pop("lag_p99_ms") for e in a.of("load-1.log", "load_state")],
    ])
    def test_unreal(self, judged, spoil):
        assert judged("load-was-real", spoil).status == Status.INCONCLUSIVE

    def test_what_saturates_must_have_been_throttled(self, judged):
        assert judged("load-was-real", throttled_share_min=0.5).status == Status.PASS
        assert judged("load-was-real", throttled_share_min=0.9).status == Status.INCONCLUSIVE
        assert judged("load-was-real", lambda a: a.drop_events("observe.log", "throttle"), throttled_share_min=0.1).status == Status.INCONCLUSIVE


def fault(a: ArmBuilder, edge: str) -> dict:
    return next(e for e in a.of("faults.log", "fault") if e["edge"] == edge)


def drop_edge(a: ArmBuilder, edge: str) -> None:
    a.events["faults.log"] = [e for e in a.events["faults.log"] if e.get("edge") != edge]


def did_nothing(a: ArmBuilder) -> None:
    """The fault claims evidence, but the samplers see the same pod before and after."""
    a.events["observe.log"] = [e for e in a.events["observe.log"] if not (e["kind"] == "pod" and e["t"] >= ns(40))]
    for p in a.of("conductor.log", "pods_at_end")[0]["pods"]:
        if p["name"] == "mx-0":
            p["uid"] = "uid-mx-0"


class TestFaultsHappened:
    def test_pass(self, judged):
        assert judged("faults-happened", arm=PVC).status == Status.PASS

    def test_none_planned(self, judged):
        assert judged("faults-happened").status == Status.PASS

    @pytest.mark.parametrize("edge", ["begin", "evidence", "end", "undone"])
    def test_a_missing_edge(self, judged, edge):
        assert judged("faults-happened", lambda a: drop_edge(a, edge), arm=PVC).status == Status.INCONCLUSIVE

    @pytest.mark.parametrize("spoil", [
        did_nothing,
        lambda a: a.events["faults.log"].clear(),
        lambda a: fault(a, "evidence").update(detail={}),
        lambda a: fault(a, "begin").update(t=ns(10)),
        lambda a: fault(a, "begin").update(t=ns(190)),
        lambda a: fault(a, "end").update(edge="failed", detail={"why": "no such pod"}),
        lambda a: [fault(a, e).update(targets=[]) for e in ("begin", "evidence")],
        lambda a: a.event("faults.log", "fault", 44, name="other", fault="kill_pod", edge="begin", targets=["mx-0"], detail={}),
        lambda a: a.mails.clear(),
    ])
    def test_not_shown(self, judged, spoil):
        v = judged("faults-happened", spoil, arm=PVC)
        assert v.status == Status.INCONCLUSIVE, v
        assert v.evidence

"""What the checks say of a target without queues, without readers, and of mail that was not accepted."""

from __future__ import annotations

import pytest

from harness.model.outcome import Deferral, Outcome, Stage
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder


def without_queues(a: ArmBuilder, **settled: object) -> None:
    """As an endpoints' conductor and census write it."""
    a.event("conductor.log", "not_supported", 0.5, what="queues", why="cannot be listed")
    a.drop_events("observe.log", "queue")
    a.scopes = [s for s in a.scopes if s["source"] != "queue"]
    if settled:
        a.event("census.log", "settled", 100, **settled)


@pytest.mark.parametrize("check", ["evidence-complete", "no-loss", "no-unexplained-duplicates", "integrity"])
def test_a_target_without_queues_can_pass(judged, check):
    assert judged(check, lambda a: without_queues(a, quiet=True, waited_s=3)).status == Status.PASS
    assert judged(check, lambda a: without_queues(a, quiet=False, waited_s=1e6)).status == Status.PASS


def test_queues_are_not_to_be_left_out_where_they_can_be_listed(judged):
    def forgotten(a: ArmBuilder) -> None:
        without_queues(a, quiet=True, waited_s=3)
        a.drop_events("conductor.log", "not_supported")

    assert judged("evidence-complete", forgotten).status == Status.INCONCLUSIVE

    def forgotten_and_lost(a: ArmBuilder) -> None:
        forgotten(a)
        a.lose(7)

    assert judged("no-loss", forgotten_and_lost).status == Status.INCONCLUSIVE


@pytest.mark.parametrize(("settled", "status"), [
    ({"quiet": False, "waited_s": 1e6}, Status.FAIL), ({"quiet": False, "waited_s": 0.5}, Status.INCONCLUSIVE), ({}, Status.INCONCLUSIVE),
])
def test_absence_is_loss_only_after_the_whole_wait(judged, settled, status):
    def lost(a: ArmBuilder) -> None:
        without_queues(a, **settled)
        a.lose(7)

    assert judged("no-loss", lost).status == status


def test_a_census_that_was_announced_is_asked_for(judged):
    def unread(a: ArmBuilder) -> None:
        without_queues(a, quiet=True, waited_s=3)
        a.absent.add("census.log")

    assert judged("evidence-complete", unread).status == Status.INCONCLUSIVE

    def no_readers(a: ArmBuilder) -> None:
        unread(a)
        a.event("conductor.log", "not_supported", 0.5, what="readers", why="none was named")
        a.expected.remove("census.log")
        for e in a.of("conductor.log", "expected_writers"):
            e["names"] = [n for n in e["names"] if n != "census.log"]

    assert judged("evidence-complete", no_readers).status == Status.PASS
    assert judged("no-loss", no_readers).status == Status.INCONCLUSIVE


def test_all_accepted_passes(judged):
    v = judged("all-accepted")
    assert v.status == Status.PASS
    assert v.figures["offered"] > 100


@pytest.mark.parametrize(("outcome", "stage", "code", "words"), [
    (Outcome.FAIL, Stage.RCPT, 550, "refused"), (Outcome.FAIL, Stage.RCPT, 450, "still deferred"), (Outcome.INFO, Stage.DOT, 0, "without an answer"),
    (Outcome.FAIL, Stage.CONNECT, 0, "without an answer"),
])
def test_a_mail_that_was_not_accepted_is_named(judged, outcome, stage, code, words):
    def spoil(a: ArmBuilder) -> None:
        a.end_attempt(7, outcome, stage, code, Deferral.SYSTEM if 400 <= code < 500 else Deferral.NONE)

    v = judged("all-accepted", spoil)
    assert v.status == Status.FAIL
    assert words in v.reason
    assert any(line.startswith("mail 7 to ") for line in v.evidence)
    assert judged("all-accepted", spoil, not_accepted_max=5).status == Status.PASS


def test_a_mail_that_was_never_tried_is_the_servers_doing_unless_the_generator_lagged(judged):
    def untried(a: ArmBuilder) -> None:
        a.mail(7).attempts.clear()

    assert judged("all-accepted", untried).status == Status.FAIL

    def lagging(a: ArmBuilder) -> None:
        untried(a)
        a.saturate_generator()

    v = judged("all-accepted", lagging)
    assert v.status == Status.INCONCLUSIVE
    assert "it was the limit" in v.reason

    def stopped(a: ArmBuilder) -> None:
        untried(a)
        for e in a.of("load-1.log", "load_end"):
            e["reason"] = "stopped"

    assert judged("all-accepted", stopped).status == Status.INCONCLUSIVE


def test_a_refusal_stands_whatever_the_generator_did(judged):
    def spoil(a: ArmBuilder) -> None:
        a.end_attempt(7, Outcome.FAIL, Stage.RCPT, 550)
        a.saturate_generator()

    assert judged("all-accepted", spoil).status == Status.FAIL


def test_too_few_offered_is_inconclusive(judged):
    assert judged("all-accepted", mails_min=1_000_000).status == Status.INCONCLUSIVE
    assert judged("all-accepted", lambda a: a.cut_log("load-1.log", 35)).status == Status.INCONCLUSIVE

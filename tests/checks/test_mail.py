"""Every check on what became of the mail: well, planted defect, and too little evidence."""

from __future__ import annotations

import pytest

from harness.model.outcome import Deferral, Outcome, Stage
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder, Copy, Mail, sha_of

FAIL, INFO = Outcome.FAIL, Outcome.INFO


@pytest.mark.parametrize("check", ["no-loss", "no-unexplained-duplicates", "integrity", "queue-drained"])
def test_a_good_arm_passes(judged, check):
    assert judged(check).status == Status.PASS


def test_a_lost_mail_is_named(judged):
    v = judged("no-loss", lambda a: a.lose(7))
    assert v.status == Status.FAIL
    assert v.figures["lost"] == 1
    assert len(v.evidence) == 1
    line = v.evidence[0]
    assert line.startswith("mail 7 to user")
    assert "at 198.51.100." in line
    assert "-friday-burst-" in line
    assert ".1-1x.7" in line
    assert "acknowledged +" in line


def test_the_queue_id_of_a_lost_mail_comes_from_the_pods_log(tmp_path):
    from harness.checks import no_loss
    from harness.selftest.builder import HistoryBuilder
    from harness.store.history import load

    b = HistoryBuilder(tmp_path)
    b.arm("1x").lose(7)
    run = b.write(seal=False)
    arm = run.arm(1, "1x")
    (arm.logs / "mx-0.postfix.log").write_text(f"postfix/cleanup[9]: 4bXyZ12abc: message-id=<{run.run_id}.1-1x.7@mailgale.example.net>\n")
    with load(run) as history:
        assert history.arms[0].name == "1x"
        assert "queue id mx-0 4bXyZ12abc" in no_loss.check(history.arms[0], {"lost_max": 0}).evidence[0]


def test_lost_beyond_fifty_is_counted_but_not_listed(judged):
    v = judged("no-loss", lambda a: [a.lose(n) for n in range(1, 81)])
    assert v.figures["lost"] == 80
    assert len(v.evidence) == 50


@pytest.mark.parametrize("source", ["mailbox", "quarantine"])
@pytest.mark.parametrize("rounds", [(1,), (2,), (1, 2)])
def test_absence_in_an_unread_mailbox_is_no_loss(judged, source, rounds):
    def spoil(a: ArmBuilder):
        a.lose(7)
        name = "INBOX" if source == "mailbox" else "Junk"
        a.unread(source, f"{a.recipients[a.mail(7).rcpts[0]]}/{name}", rounds)

    assert judged("no-loss", spoil).status == Status.INCONCLUSIVE


@pytest.mark.parametrize("spoil", [
    lambda a: a.unread("queue", "mx-0:deferred"),
    lambda a: a.unread("queue", "mx-0:active", (2,)),
    lambda a: a.scopes.clear(),
    lambda a: setattr(a, "scopes", [s for s in a.scopes if s["source"] != "queue"]),
    lambda a: setattr(a, "scopes", [s for s in a.scopes if s["round"] == 1]),
    lambda a: a.unclosed.add("census.log"),
    lambda a: a.absent.add("census.log"),
])
def test_without_a_whole_census_nothing_is_lost_and_nothing_passes(judged, spoil):
    def both(a: ArmBuilder):
        a.lose(7)
        spoil(a)

    v = judged("no-loss", both)
    assert v.status == Status.INCONCLUSIVE
    assert v.figures["lost"] == 0


def test_a_pod_whose_queue_was_not_read_makes_absence_unproven(judged):
    def spoil(a: ArmBuilder):
        a.lose(7)
        a.scopes = [s for s in a.scopes if not s["where"].startswith("mx-1")]

    assert judged("no-loss", spoil, arm="2x").status == Status.INCONCLUSIVE


def test_mail_still_queued_is_neither_lost_nor_well(judged):
    v = judged("no-loss", lambda a: a.leave_queued(7))
    assert v.status == Status.INCONCLUSIVE
    assert v.figures["queued"] == 1


def test_mail_gone_from_the_queue_between_the_rounds_is_undetermined(judged):
    def spoil(a: ArmBuilder):
        a.leave_queued(7)
        a.mail(7).copies[0].rounds = (1,)

    v = judged("no-loss", spoil)
    assert v.status == Status.INCONCLUSIVE
    assert v.figures["undetermined"] == 1


def test_nothing_acknowledged_is_no_pass(judged):
    def spoil(a: ArmBuilder):
        for m in a.mails:
            m.copies.clear()
            m.sight = None
            for t in m.attempts:
                t.outcome, t.stage, t.code = FAIL, Stage.CONNECT, 0

    for check in ("no-loss", "no-unexplained-duplicates", "integrity"):
        assert judged(check, spoil).status == Status.INCONCLUSIVE


@pytest.mark.parametrize("copies", [0, 1])
def test_an_attempt_in_doubt_may_have_one_copy_or_none(judged, copies):
    def spoil(a: ArmBuilder):
        a.end_attempt(7, INFO, Stage.DOT, 0)
        if not copies:
            a.lose(7)

    for check in ("no-loss", "no-unexplained-duplicates", "integrity"):
        assert judged(check, spoil).status == Status.PASS


def test_an_attempt_without_end_is_in_doubt(judged):
    def spoil(a: ArmBuilder):
        a.mail(7).attempts[-1].t_done = None
        a.lose(7)

    assert judged("no-loss", spoil).status == Status.PASS


def test_a_retry_after_doubt_explains_a_second_copy_and_not_a_third(judged):
    def twice(a: ArmBuilder):
        a.end_attempt(7, INFO, Stage.DOT, 0)
        a.retry(7)
        a.duplicate(7)

    def thrice(a: ArmBuilder):
        twice(a)
        a.duplicate(7)

    v = judged("no-unexplained-duplicates", twice)
    assert (v.status, v.figures["explained"]) == (Status.PASS, 1)
    v = judged("no-unexplained-duplicates", thrice)
    assert (v.status, v.figures["unexplained"]) == (Status.FAIL, 1)


def test_an_unexplained_duplicate_is_named(judged):
    v = judged("no-unexplained-duplicates", lambda a: a.duplicate(5))
    assert v.status == Status.FAIL
    assert v.evidence[0].startswith("mail 5 to ")


def test_a_copy_after_a_4xx_to_the_dot_has_a_budget_of_its_own(judged):
    def spoil(a: ArmBuilder):
        a.end_attempt(7, FAIL, Stage.DOT, 451, Deferral.SYSTEM)
        a.retry(7)
        a.duplicate(7)

    v = judged("no-unexplained-duplicates", spoil)
    assert (v.status, v.figures["possible"], v.figures["unexplained"]) == (Status.FAIL, 1, 0)
    assert judged("no-unexplained-duplicates", spoil, possible_max=1).status == Status.PASS


def test_a_fault_after_the_acknowledgement_explains_one_copy(judged):
    def early(a: ArmBuilder):
        a.duplicate(5)

    def late(a: ArmBuilder):
        a.duplicate(next(m.number for m in a.mails if m.attempts and m.t_ok > 41))

    assert judged("no-unexplained-duplicates", early, arm="queue-on-pvc").figures["fault"] == 1
    assert judged("no-unexplained-duplicates", early, arm="queue-on-pvc").status == Status.PASS
    assert judged("no-unexplained-duplicates", late, arm="queue-on-pvc").status == Status.FAIL


def test_too_many_explained_duplicates_fail(judged):
    def spoil(a: ArmBuilder):
        for n in range(1, 60):
            a.end_attempt(n, INFO, Stage.DOT, 0)
            a.retry(n)
            a.duplicate(n)

    assert judged("no-unexplained-duplicates", spoil).status == Status.FAIL


@pytest.mark.parametrize("check", ["no-unexplained-duplicates", "integrity", "queue-drained"])
def test_unread_places_make_it_inconclusive(judged, check):
    assert judged(check, lambda a: a.unread("queue", "mx-0:deferred")).status == Status.INCONCLUSIVE


@pytest.mark.parametrize(("spoil", "kind"), [
    (lambda a: a.corrupt(6), "corrupted"),
    (lambda a: a.misdeliver(6), "misdelivered"),
    (lambda a: a.quarantine(6), "quarantined"),
    (lambda a: a.bounce(6), "bounced"),
    (lambda a: a.end_attempt(6, FAIL, Stage.DOT, 554), "rejected_but_delivered"),
    (lambda a: a.end_attempt(6, FAIL, Stage.RCPT, 450, Deferral.SYSTEM), "rejected_but_delivered"),
    (lambda a: a.event("load-1.log", "expunged", 45, mail=6, mailbox=a.recipients[a.mail(6).rcpts[0]]), "resurrected"),
    (lambda a: a.mail(6).copies.append(Copy("mailbox", "user1@example.org/INBOX", "user1@example.org", sha_of(9).hex(), mail=99999)), "unknown"),
    (lambda a: a.mail(481).copies.clear(), "vanished"),
])
def test_integrity_names_what_is_wrong(judged, spoil, kind):
    v = judged("integrity", spoil)
    assert v.status == Status.FAIL, v
    assert v.figures[kind] == 1
    assert v.evidence


def test_planted_quarantine_is_right(judged):
    assert judged("integrity", lambda a: a.quarantine(6, planted=True)).status == Status.PASS


def test_a_copy_without_hash_proves_nothing(judged):
    def spoil(a: ArmBuilder):
        a.mail(6).copies[0].sha = ""

    assert judged("integrity", spoil).status == Status.INCONCLUSIVE


def test_unknown_mail_is_no_failure_while_the_load_log_is_cut(judged):
    def spoil(a: ArmBuilder):
        a.mail(6).copies.append(Copy("mailbox", "user1@example.org/INBOX", "user1@example.org", sha_of(9).hex(), mail=99999))
        a.unclosed.add("load-1.log")

    assert judged("integrity", spoil).status == Status.INCONCLUSIVE


def test_mail_with_an_empty_sender_is_not_counted(judged):
    def spoil(a: ArmBuilder):
        a.mail(6).flags = 4
        a.lose(6)

    assert judged("no-loss", spoil).status == Status.PASS


def test_every_recipient_of_a_mail_is_judged_alone(judged):
    def spoil(a: ArmBuilder):
        from harness.selftest.builder import Attempt

        m: Mail = a.mail(6)
        other = (m.rcpts[0] + 1) % a.users
        m.rcpts.append(other)
        m.attempts.append(Attempt(other, m.attempts[-1].t, m.attempts[-1].t_done))

    v = judged("no-loss", spoil)
    assert (v.status, v.figures["lost"]) == (Status.FAIL, 1)


def test_mail_to_the_internet_is_looked_for_in_sinks(judged):
    def there(a: ArmBuilder):
        m = a.mail(6)
        m.flags, m.rcpts, m.attempts[-1].rcpt = 8, [a.users], a.users
        m.copies = [Copy("sink", "sink.example.net", "someone@example.net", sha_of(6).hex())]

    def gone(a: ArmBuilder):
        there(a)
        a.mail(6).copies.clear()

    def unread(a: ArmBuilder):
        gone(a)
        a.unread("sink", "sink.example.net")

    assert judged("no-loss", there).status == Status.PASS
    assert judged("no-loss", gone).status == Status.FAIL
    assert judged("no-loss", unread).status == Status.INCONCLUSIVE


def test_mail_left_in_a_queue_is_named_by_place(judged):
    v = judged("queue-drained", lambda a: (a.leave_queued(7), [s.update(found=1) for s in a.scopes if s["where"] == "mx-0:deferred"]))
    assert v.status == Status.FAIL
    assert v.evidence == ("mx-0:deferred: 1",)


def changed(a: ArmBuilder, number: int, *kinds: str, uid: int = 1000) -> Mail:
    """What is on record of a change that the mail's reader made."""
    mail = a.mail(number)
    for kind in kinds:
        a.event("load-1.log", kind, 60, mail=number, mailbox=f"{a.recipients[mail.rcpts[0]]}/INBOX", uid=str(uid))
    return mail


CHECKS = ("no-loss", "no-unexplained-duplicates", "integrity", "mailbox-state", "queue-drained")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("number", [6, 481], ids=["burst", "ordinary, seen"])
def test_a_deletion_without_an_end_may_have_taken_effect_or_not(judged, check, there, number):
    def spoil(a: ArmBuilder):
        mail = changed(a, number, "deleting")
        if not there:
            mail.copies.clear()

    assert judged(check, spoil).status == Status.PASS


@pytest.mark.parametrize("check", CHECKS)
def test_what_its_reader_deleted_is_not_lost(judged, check):
    v = judged(check, lambda a: changed(a, 6, "deleting", "expunged").copies.clear())
    assert v.status == Status.PASS
    if check == "no-loss":
        assert v.figures["deleted"] == 1


def test_duplicates_do_not_hide_behind_deletions(judged):
    def spoil(a: ArmBuilder):
        changed(a, 6, "expunged", uid=1000)
        changed(a, 6, "expunged", uid=1001).copies.clear()

    v = judged("no-unexplained-duplicates", spoil)
    assert (v.status, v.figures["unexplained"]) == (Status.FAIL, 1)


def test_the_same_deletion_told_twice_is_one(judged):
    def spoil(a: ArmBuilder):
        changed(a, 6, "expunged", "expunged").copies.clear()

    assert judged("no-unexplained-duplicates", spoil).status == Status.PASS


@pytest.mark.parametrize("check", ["no-unexplained-duplicates", "integrity"])
def test_one_of_two_explained_copies_deleted_is_no_resurrection(judged, check):
    def spoil(a: ArmBuilder):
        a.end_attempt(6, INFO, Stage.DOT, 0)
        a.retry(6)
        a.duplicate(6)
        del changed(a, 6, "expunged", uid=1001).copies[1]

    assert judged(check, spoil).status == Status.PASS


def test_no_fault_explains_a_mail_that_is_back_under_the_uid_that_was_expunged(judged):
    def spoil(a: ArmBuilder):
        mail = next(m for m in a.mails if m.t_ok < 30)
        a.event("load-1.log", "expunged", 31, mail=mail.number, mailbox=f"{a.recipients[mail.rcpts[0]]}/INBOX", uid=str(mail.copies[0].uid))

    v = judged("integrity", spoil, arm="queue-on-pvc")
    assert (v.status, v.figures["resurrected"]) == (Status.FAIL, 1)


@pytest.mark.parametrize(("kinds", "status"), [(("moving",), Status.PASS), (("moving", "moved"), Status.FAIL)])
def test_a_copy_in_both_mailboxes_is_explained_by_a_move_in_doubt_only(judged, kinds, status):
    def spoil(a: ArmBuilder):
        mail = changed(a, 6, *kinds)
        a.inbox(mail, mail.rcpts[0]).where = f"{a.recipients[mail.rcpts[0]]}/Archive"

    assert judged("no-unexplained-duplicates", spoil).status == status


def test_a_mail_lost_in_a_move_is_lost(judged):
    v = judged("no-loss", lambda a: changed(a, 6, "moving", "moved").copies.clear())
    assert (v.status, v.figures["lost"]) == (Status.FAIL, 1)


def unsent(a: ArmBuilder, *numbers: int):
    """These mails need SMTPUTF8, and the server does not announce it."""
    for n in numbers:
        a.end_attempt(n, FAIL, Stage.MAIL, 0)
        for attempt in a.mail(n).attempts:
            attempt.enhanced = 50607
        a.mail(n).copies.clear()
    a.event("load-1.log", "reply", 30, code=0, enhanced="5.6.7", stage="mail", text="the server does not announce SMTPUTF8", deferral="none")


def test_what_could_not_be_sent_is_refused_and_not_deferred(judged):
    v = judged("all-accepted", lambda a: unsent(a, 6, 7))
    assert v.status == Status.FAIL
    assert (v.figures["refused"], v.figures["deferred"], v.figures["unanswered"]) == (2, 0, 0)
    assert "5.6.7 the server does not announce SMTPUTF8" in v.evidence[0]


@pytest.mark.parametrize("check", ["availability", "no-failed-sessions", "no-loss", "integrity"])
def test_what_could_not_be_sent_is_no_failed_session_and_no_loss(judged, check):
    assert judged(check, lambda a: unsent(a, *range(1, 41))).status == Status.PASS


def test_a_load_without_the_extensions_it_asks_for_was_not_the_plans(judged):
    v = judged("load-was-real", lambda a: a.event("load-1.log", "not_offered", 30, proto="smtp", extension="DSN"))
    assert v.status == Status.INCONCLUSIVE
    assert "offers no DSN (smtp)" in v.reason

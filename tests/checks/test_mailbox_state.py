"""Flags, UIDVALIDITY and unique IDs: kept, changed, and not seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder
from harness.selftest.friday import IMAP_USER, POP_USER

CHECK = "mailbox-state"


def marked(a: ArmBuilder):
    return next(c for m in a.mails for c in m.copies if c.flags)


def test_a_good_arm_passes_with_figures_of_what_was_looked_at(judged):
    v = judged(CHECK)
    assert v.status == Status.PASS
    assert v.figures["mailboxes"] == 40
    assert v.figures["flags"] >= 10
    assert v.figures["uidls"] >= 10


def test_a_lost_flag_is_named(judged):
    v = judged(CHECK, lambda a: setattr(marked(a), "flags", ("\\Flagged",)))
    assert (v.status, v.figures["flags_lost"]) == (Status.FAIL, 1)
    assert v.evidence[0].startswith("mail ")
    assert f"user{IMAP_USER + 1}@example.org/inbox: \\Seen is gone" in v.evidence[0]


def test_a_flag_more_is_none_lost(judged):
    assert judged(CHECK, lambda a: setattr(marked(a), "flags", ("\\Flagged", "\\Seen", "\\Answered"))).status == Status.PASS


def test_a_flag_on_one_of_two_copies_is_there(judged):
    def spoil(a: ArmBuilder):
        mail = next(m for m in a.mails if any(c.flags for c in m.copies))
        a.duplicate(mail.number)

    assert judged(CHECK, spoil).status == Status.PASS


def test_a_mail_that_is_gone_has_lost_no_flag(judged):
    def spoil(a: ArmBuilder):
        a.lose(next(m for m in a.mails if any(c.flags for c in m.copies)).number)

    assert judged(CHECK, spoil).status == Status.PASS


@pytest.mark.parametrize(("log", "kind"), [("census.log", "scope"), ("load-1.log", "uidvalidity")])
def test_another_uidvalidity_is_named(judged, log, kind):
    def spoil(a: ArmBuilder):
        place = f"{a.recipients[IMAP_USER]}/INBOX"
        if kind == "scope":
            next(s for s in a.scopes if s["where"] == place)["uidvalidity"] = 7
        else:
            a.of(log, kind)[0]["uidvalidity"] = 7

    v = judged(CHECK, spoil)
    assert (v.status, v.figures["renumbered"]) == (Status.FAIL, 1)
    assert v.evidence == (f"user{IMAP_USER + 1}@example.org/inbox: UIDVALIDITY 7, 1700000000",)


@pytest.mark.parametrize("rounds", [(1,), (2,), (1, 2)])
def test_another_unique_id_is_named_once(judged, rounds):
    def spoil(a: ArmBuilder):
        a.renamed = {(n, a.of("load-1.log", "uidl")[0]["mail"]): "elsewhere" for n in rounds}

    v = judged(CHECK, spoil)
    assert (v.status, v.figures["uidls_changed"]) == (Status.FAIL, 1)
    assert len(v.evidence) == 1
    assert "became" in v.evidence[0]


def test_a_copy_more_or_less_by_pop3_is_no_other_id(judged):
    def spoil(a: ArmBuilder):
        first, second = [e["mail"] for e in a.of("load-1.log", "uidl")][:2]
        a.duplicate(first)
        a.lose(second)

    assert judged(CHECK, spoil).status == Status.PASS


@pytest.mark.parametrize(("why", "spoil"), [
    ("no mailbox told its state", lambda a: (a.scopes.clear(), a.events.pop("load-1.log"))),
    ("was not read", lambda a: a.unread("mailbox", f"{a.recipients[IMAP_USER]}/INBOX", (2,))),
    ("none is on record", lambda a: a.drop_events("load-1.log", "flagged")),
    ("did not look for", lambda a: [setattr(c, "flags", None) for m in a.mails for c in m.copies]),
])
def test_what_was_not_seen_is_inconclusive(judged, why, spoil):
    v = judged(CHECK, spoil)
    assert v.status == Status.INCONCLUSIVE
    assert why in v.reason


def test_mail_read_by_pop3_and_no_unique_ids_in_the_census(tmp_path):
    from harness.checks import mailbox_state
    from harness.selftest.builder import HistoryBuilder
    from harness.selftest.friday import friday_plan
    from harness.store.history import load

    plan = friday_plan()
    plan = replace(plan, load=replace(plan.load, params={**plan.load.params, "pop_users": 1}))
    b = HistoryBuilder(tmp_path, plan, arms=["1x"])
    b.arms[0].popped = ()
    with load(b.write()) as history:
        v = mailbox_state.check(history.arms[0], {k: float(n or 0) for k, n in mailbox_state.LIMITS.items()})
    assert v.status == Status.INCONCLUSIVE
    assert "no unique IDs" in v.reason


def test_a_planned_renumbering_may_be_allowed(judged):
    def spoil(a: ArmBuilder):
        a.of("load-1.log", "uidvalidity")[0]["uidvalidity"] = 7

    assert judged(CHECK, spoil, renumbered_max=1).status == Status.PASS


def test_a_good_arm_has_a_reader_by_pop3(judged):
    seen: list[int] = []
    judged(CHECK, lambda a: seen.extend(m.number for m in a.mails if m.rcpts == [POP_USER]))
    assert len(seen) >= 10


@pytest.mark.parametrize("kind", ["deleting", "expunged"])
def test_mail_read_by_pop3_that_its_user_deleted_needs_no_unique_id_in_the_census(judged, kind):
    def spoil(a: ArmBuilder):
        for e in list(a.of("load-1.log", "uidl")):
            a.event("load-1.log", kind, 60, mail=e["mail"], mailbox=e["mailbox"], uid=f"pop3:{e['uidl']}")
            a.mail(e["mail"]).copies.clear()
        a.popped = ()

    assert judged(CHECK, spoil).status == Status.PASS


@pytest.mark.parametrize("kinds", [("deleting",), ("deleting", "expunged"), ("moving", "moved")])
def test_a_second_copy_need_not_have_the_flags_of_one_that_its_user_deleted_or_moved(judged, kinds):
    def spoil(a: ArmBuilder):
        e = a.of("load-1.log", "flagged")[0]
        mail = a.mail(e["mail"])
        a.inbox(mail, mail.rcpts[0])
        del mail.copies[0]
        for kind in kinds:
            a.event("load-1.log", kind, 60, mail=e["mail"], mailbox=e["mailbox"], uid=str(e["uid"]))

    assert judged(CHECK, spoil).status == Status.PASS
    assert judged(CHECK, lambda a: (spoil(a), a.drop_events("load-1.log", kinds[0]), a.drop_events("load-1.log", "expunged"))).status == Status.FAIL

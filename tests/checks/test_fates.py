"""The final states, all in one history: what each mail went through, and the whole row that it must get. Rules: harness/store/fates.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.model.outcome import MailFlag, Outcome, Population, Stage
from harness.selftest.builder import ArmBuilder, HistoryBuilder, Mail
from harness.selftest.friday import limited_plan
from harness.store.history import load

Act = Callable[[ArmBuilder, Mail], object]
DOUBT, NO = Outcome.INFO, Outcome.FAIL
#: A mail of the burst that went well.
WELL: dict[str, Any] = {
    "state": "delivered", "n_try": 1, "n_ok": 1, "n_info": 0, "n_dot4": 0, "last_code": 250, "n": 1, "box": 1, "quarantine": 0, "queue2": 0,
    "dup_explained": 0, "dup_possible": 0, "dup_fault": 0, "dup_unexplained": 0, "n_deleted": 0, "vanished": False, "unhashed": False,
}
NOWHERE = {"n": 0, "box": 0}


def ended(outcome: Outcome, stage: Stage, code: int, *, keep: bool = False, enhanced: int | None = None) -> Act:
    """The only attempt ended so; its copy stays only with ``keep``."""
    def act(a: ArmBuilder, m: Mail) -> None:
        a.end_attempt(m.number, outcome, stage, code)
        if enhanced is not None:
            m.attempts[-1].enhanced = enhanced
        if not keep:
            m.copies.clear()

    return act


def then(*acts: Act) -> Act:
    return lambda a, m: [act(a, m) for act in acts]


def retry(a: ArmBuilder, m: Mail) -> None:
    a.retry(m.number)


def copy(a: ArmBuilder, m: Mail) -> None:
    a.duplicate(m.number)


def gone(a: ArmBuilder, m: Mail) -> None:
    m.copies.clear()


def queued(a: ArmBuilder, m: Mail) -> None:
    a.leave_queued(m.number)


def junk(a: ArmBuilder, m: Mail) -> None:
    a.quarantine(m.number)


def damaged(a: ArmBuilder, m: Mail) -> None:
    a.corrupt(m.number)


def rounds(*numbers: int, which: int = -1) -> Act:
    return lambda a, m: setattr(m.copies[which], "rounds", numbers)


def told(*kinds: str) -> Act:
    """Its reader says so, of the copy under UID 1000."""
    return lambda a, m: [a.event("load-1.log", k, 150, mail=m.number, mailbox=f"{a.recipients[m.rcpts[0]]}/INBOX", uid="1000") for k in kinds]


def found_by_uid(a: ArmBuilder, m: Mail) -> None:
    m.copies[0].uid = 1000


def cut(a: ArmBuilder, m: Mail) -> None:
    m.attempts[-1].t_done = None
    m.copies.clear()


def beside(a: ArmBuilder, m: Mail) -> None:
    """One more, in quarantine."""
    a.inbox(m, m.rcpts[0])
    m.copies[-1].source, m.copies[-1].where = "quarantine", f"{m.copies[-1].recipient}/Junk"


def also_queued(a: ArmBuilder, m: Mail) -> None:
    kept = list(m.copies)
    a.leave_queued(m.number)
    m.copies += kept


def bounced_whole(a: ArmBuilder, m: Mail) -> None:
    a.bounce(m.number)
    m.copies[0].failed = ()


CASES: dict[str, tuple[Act, dict[str, Any]]] = {
    "well": (lambda a, m: None, {}),
    "in no round": (gone, {"state": "lost", **NOWHERE}),
    "in the first round only": (rounds(1), {}), "in the second round only": (rounds(2), {}),
    "queued": (queued, {"state": "queued", **NOWHERE, "queue2": 1}),
    "queued in the first round only": (then(queued, rounds(1)), {"state": "undetermined", **NOWHERE}),
    "queued in the second round only": (then(queued, rounds(2)), {"state": "queued", **NOWHERE, "queue2": 1}),
    "delivered and queued": (also_queued, {"queue2": 1}),
    "queued with another hash": (then(queued, damaged), {"state": "queued", **NOWHERE, "queue2": 1}),
    "bounced": (lambda a, m: a.bounce(m.number), {"state": "bounced", **NOWHERE}), "bounced, no recipient named": (bounced_whole, {"state": "bounced", **NOWHERE}),
    "quarantined": (junk, {"state": "quarantined", "box": 0, "quarantine": 1}),
    "quarantined, first round": (then(junk, rounds(1)), {"state": "quarantined", "box": 0, "quarantine": 1}),
    "quarantined, second round": (then(junk, rounds(2)), {"state": "quarantined", "box": 0, "quarantine": 1}),
    "quarantined and damaged": (then(junk, damaged), {"state": "corrupted", "box": 0, "quarantine": 1}),
    "delivered and quarantined": (beside, {"state": "duplicated", "n": 2, "quarantine": 1, "dup_unexplained": 1}),
    "damaged": (damaged, {"state": "corrupted"}),
    "one of two damaged": (then(damaged, copy), {"state": "corrupted", "n": 2, "box": 2, "dup_unexplained": 1}),
    "the other of two damaged": (then(copy, lambda a, m: setattr(m.copies[1], "sha", "f" * 32)), {"state": "corrupted", "n": 2, "box": 2, "dup_unexplained": 1}),
    "without a hash": (lambda a, m: setattr(m.copies[0], "sha", ""), {"unhashed": True}),
    "twice": (copy, {"state": "duplicated", "n": 2, "box": 2, "dup_unexplained": 1}),
    "twice, in either round once": (then(copy, rounds(2), rounds(1, which=0)), {}),
    "acknowledged twice": (then(retry, copy), {"state": "duplicated", "n_try": 2, "n_ok": 2, "n": 2, "box": 2, "dup_explained": 1}),
    "in doubt, then acknowledged, thrice": (
        then(ended(DOUBT, Stage.DOT, 0, keep=True), retry, copy, copy),
        {"state": "duplicated", "n_try": 2, "n_info": 1, "n": 3, "box": 3, "dup_explained": 1, "dup_unexplained": 1}),
    "deferred at the dot, then acknowledged, twice": (
        then(ended(NO, Stage.DOT, 451, keep=True), retry, copy), {"state": "duplicated", "n_try": 2, "n_dot4": 1, "n": 2, "box": 2, "dup_possible": 1}),
    "deferred at the dot, then acknowledged, thrice": (
        then(ended(NO, Stage.DOT, 451, keep=True), retry, copy, copy),
        {"state": "duplicated", "n_try": 2, "n_dot4": 1, "n": 3, "box": 3, "dup_possible": 1, "dup_unexplained": 1}),
    "deferred before the message, then acknowledged": (then(ended(NO, Stage.RCPT, 451, keep=True), retry), {"n_try": 2}),
    "refused": (ended(NO, Stage.DOT, 554), {"state": "refused", "n_ok": 0, "last_code": 554, **NOWHERE}),
    "refused by the first such code": (ended(NO, Stage.DOT, 500), {"state": "refused", "n_ok": 0, "last_code": 500, **NOWHERE}),
    "refused here": (ended(NO, Stage.RCPT, 0, enhanced=50000), {"state": "refused", "n_ok": 0, "last_code": 550, **NOWHERE}),
    "refused and delivered": (ended(NO, Stage.DOT, 554, keep=True), {"state": "rejected_but_delivered", "n_ok": 0, "last_code": 554}),
    "refused and queued": (then(ended(NO, Stage.DOT, 554), queued), {"state": "rejected_but_delivered", "n_ok": 0, "last_code": 554, **NOWHERE, "queue2": 1}),
    "refused, queued in the first round": (
        then(ended(NO, Stage.DOT, 554), queued, rounds(1)), {"state": "rejected_but_delivered", "n_ok": 0, "last_code": 554, **NOWHERE}),
    "deferred before the message": (ended(NO, Stage.RCPT, 450), {"state": "deferred", "n_ok": 0, "last_code": 450, **NOWHERE}),
    "deferred before it and delivered": (ended(NO, Stage.RCPT, 450, keep=True), {"state": "rejected_but_delivered", "n_ok": 0, "last_code": 450}),
    "deferred at the dot": (ended(NO, Stage.DOT, 400), {"state": "deferred", "n_ok": 0, "n_dot4": 1, "last_code": 400, **NOWHERE}),
    "deferred at the dot by the last such code": (ended(NO, Stage.DOT, 499), {"state": "deferred", "n_ok": 0, "n_dot4": 1, "last_code": 499, **NOWHERE}),
    "deferred at the dot and delivered": (ended(NO, Stage.DOT, 451, keep=True), {"n_ok": 0, "n_dot4": 1, "last_code": 451, "dup_possible": 1}),
    "deferred at the dot and queued": (then(ended(NO, Stage.DOT, 451), queued), {"state": "queued", "n_ok": 0, "n_dot4": 1, "last_code": 451, **NOWHERE, "queue2": 1}),
    "never attempted": (then(gone, lambda a, m: m.attempts.clear()), {"state": "never_attempted", "n_try": 0, "n_ok": 0, "last_code": 0, **NOWHERE}),
    "in doubt": (ended(DOUBT, Stage.DOT, 0), {"state": "in_doubt", "n_ok": 0, "n_info": 1, "last_code": 0, **NOWHERE}),
    "in doubt and delivered": (ended(DOUBT, Stage.DOT, 0, keep=True), {"n_ok": 0, "n_info": 1, "last_code": 0}),
    "in doubt and delivered twice": (
        then(ended(DOUBT, Stage.DOT, 0, keep=True), copy), {"state": "duplicated", "n_ok": 0, "n_info": 1, "last_code": 0, "n": 2, "box": 2, "dup_unexplained": 1}),
    "cut off": (cut, {"state": "in_doubt", "n_ok": 0, "n_info": 1, "last_code": 0, **NOWHERE}),
    "deleted": (then(told("deleting", "expunged"), gone), {**NOWHERE, "n_deleted": 1}),
    "deleted and back": (then(told("deleting", "expunged"), found_by_uid), {"state": "resurrected", "n_deleted": 1}),
    "deletion begun": (then(told("deleting"), gone), NOWHERE),
    "seen and gone": (then(gone, lambda a, m: setattr(m, "sight", 150.0)), {**NOWHERE, "vanished": True}),
    "seen and deleted": (then(told("deleting", "expunged"), gone, lambda a, m: setattr(m, "sight", 149.0)), {**NOWHERE, "n_deleted": 1}),
    "moved in doubt, in both mailboxes": (then(told("moving"), copy), {"state": "duplicated", "n": 2, "box": 2, "dup_explained": 1}),
    "moved, in both mailboxes": (then(told("moving", "moved"), copy), {"state": "duplicated", "n": 2, "box": 2, "dup_unexplained": 1}),
    "from nobody": (lambda a, m: setattr(m, "flags", m.flags | int(MailFlag.NULL_SENDER)), {"state": "not_counted"}),
}


def test_every_row(tmp_path: Path):
    """All of them in one history, so that none has an effect on another."""
    b = HistoryBuilder(tmp_path, limited_plan(), arms=["1x"])
    arm = b.arms[0]
    plain = [m for m in arm.mails if m.population is Population.ELASTIC and len(m.rcpts) == 1 and not m.flags and m.sight is None]
    chosen = dict(zip(CASES, plain[10:], strict=False))
    for name, (act, _) in CASES.items():
        act(arm, chosen[name])
    with load(b.write()) as history:
        one = history.arms[0]
        one.fates()
        found = {int(r[0]): dict(zip(WELL, r[1:], strict=True)) for r in one.sql(f"SELECT mail, {', '.join(WELL)} FROM fates")}
        assert one.sql("SELECT * FROM strays") == []
    assert {name: found.pop(m.number) for name, m in chosen.items()} == {name: {**WELL, **changes} for name, (_, changes) in CASES.items()}
    assert [n for n, row in found.items() if row["state"] != "delivered"] == []

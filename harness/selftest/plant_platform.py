"""How defects of the platform are planted in a history: each function changes one that was well."""

from __future__ import annotations

from collections.abc import Callable

from harness.model.outcome import Deferral, Outcome, Population, Proto, Stage, UserOp
from harness.selftest.builder import ArmBuilder, Attempt, Copy, HistoryBuilder, Mail, ns
from harness.selftest.content import contents, found_sha, mislabelled, truncated

_FAIL, _INFO, _OK = Outcome.FAIL, Outcome.INFO, Outcome.OK
MANY = 30_000
KILL_AT = 40.0


def on(change: Callable[[ArmBuilder], object]) -> Callable[[HistoryBuilder], object]:
    """``change``, done to the first arm."""
    return lambda history: change(history.arms[0])


def _first(history: HistoryBuilder) -> ArmBuilder:
    return history.arms[0]


def _elastic(arm: ArmBuilder) -> list[Mail]:
    return [m for m in arm.mails if m.population == Population.ELASTIC]


def drop_every(n: int) -> Callable[[HistoryBuilder], None]:
    """Every ``n``-th mail of the burst is dropped after its acknowledgement."""

    def plant(history: HistoryBuilder) -> None:
        for mail in _elastic(_first(history))[n - 1 :: n]:
            mail.copies.clear()
            mail.sight = None

    return plant


def drop_of_many(history: HistoryBuilder) -> None:
    """30,000 mails more, every 10,000th dropped."""
    arm = _first(history)
    pour(arm, MANY)
    for mail in [m for m in arm.mails if m.number > 100_000][9_999::10_000]:
        mail.copies.clear()


def pour(arm: ArmBuilder, count: int) -> None:
    """``count`` mails more in the burst, numbered from 100,001, all delivered."""
    burst_s = 24.0
    for i in range(count):
        mail, t = Mail(100_001 + i, 26.0, i % 12, Population.ELASTIC, [i % arm.users]), 26.1 + burst_s * i / count
        mail.attempts.append(Attempt(mail.rcpts[0], t, t + 0.05))
        arm.inbox(mail, mail.rcpts[0])
        arm.mails.append(mail)


def refuse_all(history: HistoryBuilder) -> None:
    """451 to every RCPT, for ever."""
    for mail in _first(history).mails:
        mail.copies.clear()
        mail.sight = None
        for a in mail.attempts:
            a.outcome, a.stage, a.code, a.enhanced, a.deferral = _FAIL, Stage.RCPT, 451, 40300, Deferral.SYSTEM


def truncate(history: HistoryBuilder) -> None:
    """A real message, found with half its body."""
    content = contents()[0]
    _contain(_first(history).mail(9), content.sha, found_sha(truncated(content.raw)))


def damage_charset(history: HistoryBuilder) -> None:
    """A real message, found with another charset on the same octets."""
    content = next(c for c in contents() if c.non_ascii)
    _contain(_first(history).mail(9), content.sha, found_sha(mislabelled(content.raw)))


def _contain(mail: Mail, offered: bytes, found: str) -> None:
    mail.sha = offered
    for copy in mail.copies:
        copy.sha = found


def reject_and_deliver(history: HistoryBuilder) -> None:
    """554 to the dot, and the mail is delivered all the same."""
    _first(history).end_attempt(9, _FAIL, Stage.DOT, 554)


def resurrect(history: HistoryBuilder) -> None:
    """A reader expunged it, and it is there."""
    arm = _first(history)
    mail = arm.mail(9)
    mail.sight = mail.t_ok + 1
    arm.event("load-1.log", "expunged", mail.sight + 1, mail=9, mailbox=f"{arm.recipients[mail.rcpts[0]]}/INBOX")


def duplicate_and_delete(history: HistoryBuilder) -> None:
    """It came twice, acknowledged once, and its reader deleted both."""
    arm = _first(history)
    mail = arm.mail(9)
    for uid in ("1000", "1001"):
        arm.event("load-1.log", "expunged", mail.t_ok + 2, mail=9, mailbox=f"{arm.recipients[mail.rcpts[0]]}/INBOX", uid=uid)
    mail.copies.clear()


def resurrect_by_kill(history: HistoryBuilder) -> None:
    """A reader expunged it, the pod was killed, and it is there again under its old UID."""
    arm = _first(history)
    mail = next(m for m in _elastic(arm) if m.t_ok < KILL_AT - 5)
    arm.event("load-1.log", "expunged", mail.t_ok + 2, mail=mail.number, mailbox=f"{arm.recipients[mail.rcpts[0]]}/INBOX", uid=str(mail.copies[0].uid))


def lose_in_a_move(history: HistoryBuilder) -> None:
    """MOVE was answered with OK, and the mail is in neither mailbox."""
    arm = _first(history)
    mail = arm.mail(9)
    for kind in ("moving", "moved"):
        arm.event("load-1.log", kind, mail.t_ok + 2, mail=9, mailbox=f"{arm.recipients[mail.rcpts[0]]}/INBOX", uid="1000", to="Archive")
    mail.copies.clear()


def ignore_dele(history: HistoryBuilder) -> None:
    """A POP3 reader deleted it, QUIT said +OK, and it is there."""
    resurrect(history)
    arm = _first(history)
    t = arm.mail(9).t_ok + 2
    for op in (UserOp.RETR, UserOp.DELE, UserOp.QUIT):
        arm.userops.append((ns(t), ns(t) + 20_000_000, 5, 100, Proto.POP3, op, _OK, 0, 0))


def vanish(history: HistoryBuilder) -> None:
    """A reader saw it, nobody deleted it, and it is gone."""
    arm = _first(history)
    mail = arm.mail(9)
    mail.sight = mail.t_ok + 1
    mail.copies.clear()


def renumber(history: HistoryBuilder) -> None:
    """One mailbox has another UIDVALIDITY in the second round."""
    for scope in _first(history).scopes:
        if scope["source"] == "mailbox":
            scope["uidvalidity"] += scope["round"] == 2 and scope["where"].startswith("user3@")


def renumber_since(history: HistoryBuilder) -> None:
    """A mailbox has another UIDVALIDITY than the one a user saw during the load, in both rounds."""
    for event in _first(history).of("load-1.log", "uidvalidity"):
        event["uidvalidity"] -= 1


def lose_a_flag(history: HistoryBuilder) -> None:
    """The first mail that its user marked has one of its two flags no more."""
    _marked(history).flags = ("\\Seen",)


def lose_all_flags(history: HistoryBuilder) -> None:
    """As after a mailbox was brought back from a copy without its index: every mail is there, no flag is."""
    for copy in (c for m in _first(history).mails for c in m.copies if c.flags):
        copy.flags = ()


def _marked(history: HistoryBuilder) -> Copy:
    return next(c for m in _first(history).mails for c in m.copies if c.flags)


def rename(rounds: tuple[int, ...]) -> Callable[[HistoryBuilder], None]:
    """A mail that the load read by POP3 has another unique ID in ``rounds`` of the census."""

    def plant(history: HistoryBuilder) -> None:
        arm = _first(history)
        mail = arm.of("load-1.log", "uidl")[0]["mail"]
        arm.renamed = {(n, mail): "0000ffff" for n in rounds}

    return plant


def lose_with_the_pod(history: HistoryBuilder) -> None:
    """Mail in the queue of the killed pod is gone."""
    arm = _first(history)
    for mail in [m for m in _elastic(arm) if m.t_ok < KILL_AT][200:230]:
        arm.lose(mail.number)


def strand(history: HistoryBuilder) -> None:
    """The second pod is scaled in; its volume still holds mail."""
    arm = _first(history)
    for mail in _elastic(arm)[:12]:
        mail.copies = [Copy("queue", "mx-1:deferred", arm.recipients[mail.rcpts[0]], mail.sha.hex(), queue="deferred", orphan=True)]
    for scope in arm.scopes:
        if scope["where"] == "mx-1:deferred":
            scope["found"] = 12
    for event in arm.of("conductor.log", "pods_at_end"):
        event["pods"] = [p for p in event["pods"] if p["name"] != "mx-1"]


def two_masters(history: HistoryBuilder) -> None:
    """Forty mails are delivered by both masters."""
    for mail in _elastic(_first(history))[:40]:
        _first(history).duplicate(mail.number)


def limit_per_pod(history: HistoryBuilder) -> None:
    """Each sender's mails are accepted twice as fast as the one limit allows."""
    arm = _first(history)
    begin = 26.0
    for mail in _elastic(arm):
        for a in mail.attempts:
            a.t = begin + (a.t - begin) / 2
            a.t_done = None if a.t_done is None else a.t + 0.1


def refuse_over_the_limit(history: HistoryBuilder) -> None:
    """554 where the limit should say 451."""
    for mail in [m for m in _elastic(_first(history)) if m.attempts[0].deferral][:30]:
        last = mail.attempts[0]
        last.code, last.enhanced, last.deferral = 554, 50701, Deferral.NONE
        mail.attempts, mail.copies = [last], []


def defer_for_ever(history: HistoryBuilder) -> None:
    """Twenty mails never get past the limit."""
    for mail in [m for m in _elastic(_first(history)) if m.attempts[0].deferral][:20]:
        mail.attempts, mail.copies = mail.attempts[:1], []


def delay_ordinary(history: HistoryBuilder) -> None:
    """Ordinary mail is seen 90 s after it was due."""
    for mail in _first(history).mails:
        if mail.population == Population.STEADY and mail.t_due > 40:
            mail.sight = mail.t_due + 90


def hang_at_rcpt(history: HistoryBuilder) -> None:
    """Every second mail gets no answer to RCPT."""
    for mail in _elastic(_first(history))[::2]:
        for a in mail.attempts:
            a.outcome, a.stage, a.code, a.t_done = _FAIL, Stage.RCPT, 0, a.t + 10
        mail.copies.clear()


def all_unready(history: HistoryBuilder) -> None:
    """No pod is in the Service for 6 seconds."""
    arm = _first(history)
    arm.event("observe.log", "endpoints", 34, service="mx", ready=[])
    arm.event("observe.log", "endpoints", 40, service="mx", ready=["10.244.1.5"])
    for mail in arm.mails:
        first = mail.attempts[0]
        if 34 <= first.t < 40:
            tried = Attempt(first.rcpt, first.t, first.t + 0.01, _FAIL, Stage.CONNECT, Deferral.NONE, 0, 0)
            first.t, first.t_done = first.t + 6, first.t + 6.1
            mail.attempts.insert(0, tried)


def pin_addresses(history: HistoryBuilder) -> None:
    """From the kill on every connection fails."""
    for mail in _first(history).mails:
        for a in mail.attempts:
            if a.t >= KILL_AT:
                a.outcome, a.stage, a.code, a.t_done = _FAIL, Stage.CONNECT, 0, a.t + 0.01
                mail.copies.clear()
                mail.sight = None


def cut_at_the_kill(history: HistoryBuilder) -> None:
    """Mails in hand when the pod was killed: kept and delivered, the reply never sent, so they come again."""
    arm = _first(history)
    for mail in [m for m in _elastic(arm) if m.t_ok < KILL_AT][-40:]:
        cut = mail.attempts[-1]
        cut.outcome, cut.code, cut.t, cut.t_done = _INFO, 0, KILL_AT - 0.2, KILL_AT
        arm.retry(mail.number, 6.5)
        arm.inbox(mail, mail.rcpts[0])

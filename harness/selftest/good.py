"""Generated histories in which all is well, however rough the way there: each may end in no FAIL.

A history is a function of its number: a Friday burst in one of four arms, in which mails met cut connections, retries, a killed pod,
legal re-encoding, users who delete and move what they read, filters that did their work. Limits: one arm, about 240 mails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.model.outcome import Deferral, MailFlag, Outcome, Population, Stage
from harness.model.plan import Plan
from harness.selftest.builder import ArmBuilder, Attempt, Copy, HistoryBuilder, Mail
from harness.selftest.content import LEGAL, contents, found_sha
from harness.selftest.friday import kill_plan, limited_plan, plant_kill

BURST = 200
KILL_AT = 28.0
_FAIL, _INFO = Outcome.FAIL, Outcome.INFO
#: Cut connections are what these histories are about, so more attempts than by default may break.
_ROUGH = {"availability": {"failed_share_max": 0.2, "grace_s": 1.0, "operations_min": 5.0}, "rate-control": {"system_share_max": 0.2}}


def good_history(root: Path, number: int) -> HistoryBuilder:
    """History ``number`` below ``root``, not written yet."""
    rng = random.Random(f"good/{number}")
    name = ("1x", "2x", "1x-limit", "queue-on-pvc")[number % 4]
    plan = _rough(kill_plan() if name == "queue-on-pvc" else limited_plan())
    made = HistoryBuilder(root, plan, arms=[name], burst=BURST)
    arm = made.arms[0]
    limited = name == "1x-limit"
    if name == "queue-on-pvc":
        plant_kill(arm, KILL_AT)
        _killed(arm, rng)
    mails = [m for m in arm.mails if m.population == Population.ELASTIC and not m.attempts[0].deferral]
    rng.shuffle(mails)
    turns = iter(mails)
    for event in EVENTS:
        if not (limited and event in _NOT_UNDER_A_LIMIT):
            for mail in _take(turns, rng.randrange(4)):
                event(arm, mail, rng)
    rng.shuffle(arm.mails)
    return made


def _take(turns: Iterator[Mail], count: int) -> Iterator[Mail]:
    for _ in range(count):
        yield next(turns)


def _rough(plan: Plan) -> Plan:
    return replace(plan, checks=tuple(replace(c, limits={**c.limits, **_ROUGH.get(c.name, {})}) for c in plan.checks))


def _before(mail: Mail, outcome: Outcome, stage: Stage, code: int = 0, deferral: Deferral = Deferral.NONE, *, cut: bool = False) -> None:
    """One attempt more in front of the mail's first, that ended so; ``cut``: with no end on record."""
    first = mail.attempts[0]
    begin = first.t - 0.9
    for rcpt in dict.fromkeys(a.rcpt for a in mail.attempts):
        mail.attempts.insert(0, Attempt(rcpt, begin, None if cut else begin + 0.05, outcome, stage, deferral, code, code // 100 * 10000))


def cut_before_the_dot(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """The connection broke before the message was over; tried again."""
    _before(mail, _FAIL, rng.choice((Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.BODY)))


def cut_after_the_dot(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """The platform may have kept the first try as well: one copy or two."""
    _before(mail, _INFO, Stage.DOT)
    if rng.random() < 0.5:
        arm.inbox(mail, mail.rcpts[0])


def cut_with_no_end(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """The sender was stopped behind the dot, so the first try has no end on record."""
    _before(mail, _INFO, Stage.DOT, cut=True)


def given_up_in_doubt(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """Nobody knows; none or one copy is right."""
    mail.attempts[-1].outcome, mail.attempts[-1].code, mail.attempts[-1].t_done = _INFO, 0, mail.attempts[-1].t + 1
    if rng.random() < 0.5:
        mail.copies.clear()


def greylisted(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """450 at the first RCPT, taken at the second."""
    _before(mail, _FAIL, Stage.RCPT, 450, Deferral.GREYLIST)


def deferred_at_the_dot(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """451 to the dot and nothing kept; taken at the second try."""
    _before(mail, _FAIL, Stage.DOT, 451, Deferral.SYSTEM)


def refused_for_good(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """550 to RCPT, and no copy."""
    last = mail.attempts[-1]
    last.outcome, last.stage, last.code, last.enhanced = _FAIL, Stage.RCPT, 550, 50101
    mail.copies.clear()


def re_encoded(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """A real message; the census hashes what a mail server made of it."""
    content = rng.choice(contents())
    mail.sha = content.sha
    for copy in mail.copies:
        copy.sha = found_sha(rng.choice(LEGAL)(content.raw))


def _changed(arm: ArmBuilder, mail: Mail, *kinds: str, uid: int = 1000) -> None:
    """Its reader saw it and changed its mailbox: what is on record of it."""
    mail.sight = mail.t_ok + 0.5
    for n, kind in enumerate(kinds):
        arm.event("load-1.log", kind, mail.sight + 1 + n / 10, mail=mail.number, mailbox=f"{arm.recipients[mail.rcpts[0]]}/INBOX", uid=str(uid))


def deleted_by_its_user(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """Seen and expunged, so the census finds nothing."""
    _changed(arm, mail, "deleting", "expunged")
    mail.copies.clear()


def deletion_in_doubt(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """The connection broke behind EXPUNGE: it is there or not."""
    _changed(arm, mail, "deleting")
    if rng.random() < 0.5:
        mail.copies.clear()


def one_of_two_deleted(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """Delivered twice, since the first try was cut behind the dot; its user deleted one of the two."""
    _before(mail, _INFO, Stage.DOT)
    arm.inbox(mail, mail.rcpts[0])
    gone = mail.copies.pop(rng.randrange(2))
    _changed(arm, mail, "deleting", "expunged", uid=gone.uid)


def moved_by_its_user(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """In another mailbox of its recipient."""
    _changed(arm, mail, "moving", "moved")
    for copy in mail.copies:
        copy.where = f"{copy.recipient}/Archive"


def move_in_doubt(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """The connection broke behind MOVE: here, there, or in both (RFC 6851 section 3.3)."""
    _changed(arm, mail, "moving")
    if rng.random() < 0.5:
        arm.inbox(mail, mail.rcpts[0]).where = f"{arm.recipients[mail.rcpts[0]]}/Archive"


def to_several(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """A second recipient, delivered as well."""
    last, other = mail.attempts[-1], (mail.rcpts[0] + 1) % arm.users
    mail.rcpts.append(other)
    mail.attempts.append(Attempt(other, last.t, last.t_done))
    arm.inbox(mail, other)


def to_the_internet(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """To a recipient outside, found in a sink."""
    outside = arm.users
    mail.flags |= int(MailFlag.TO_INTERNET)
    mail.rcpts = [outside]
    for attempt in mail.attempts:
        attempt.rcpt = outside
    mail.copies = [Copy("sink", "sink.example.net", arm.recipients[outside], mail.sha.hex())]


def with_an_empty_sender(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """Mail with the empty sender is not counted, found or not."""
    mail.flags |= int(MailFlag.NULL_SENDER)
    mail.copies.clear()


def caught_by_the_filter(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """A planted GTUBE mail in quarantine."""
    arm.quarantine(mail.number, planted=True)


def met_on_the_move(arm: ArmBuilder, mail: Mail, rng: random.Random) -> None:
    """In a queue in the first round of the census, in its mailbox in the second."""
    for copy in mail.copies:
        copy.rounds = (2,)
    mail.copies.append(Copy("queue", "mx-0:active", arm.recipients[mail.rcpts[0]], mail.sha.hex(), rounds=(1,), queue="active"))


def _killed(arm: ArmBuilder, rng: random.Random) -> None:
    """What the kill did: attempts broke while the pod was away, a few mails came twice (killed between reply and queue removal)."""
    held = [m for m in arm.mails if m.population == Population.ELASTIC and m.t_ok < KILL_AT]
    for mail in rng.sample(held, 3):
        arm.inbox(mail, mail.rcpts[0])
    for mail in arm.mails:
        if KILL_AT <= mail.attempts[-1].t < KILL_AT + 1.5 and mail.population == Population.ELASTIC:
            _before(mail, _FAIL, Stage.CONNECT)
            mail.attempts[0].t = max(mail.attempts[0].t, KILL_AT)
            mail.attempts[0].t_done = mail.attempts[0].t + 0.02
    arm.event("observe.log", "pod", KILL_AT + 9, pod="mailbox-0", component="mailbox", uid="uid-mailbox-0", node="worker", phase="Running",
              ready=True, restarts=1, ips=["10.244.1.20"])


Event = Callable[[ArmBuilder, Mail, random.Random], None]
EVENTS: tuple[Event, ...] = (
    cut_before_the_dot, cut_after_the_dot, cut_with_no_end, given_up_in_doubt, greylisted, deferred_at_the_dot, refused_for_good, re_encoded,
    deleted_by_its_user, deletion_in_doubt, one_of_two_deleted, moved_by_its_user, move_in_doubt, to_several, to_the_internet, with_an_empty_sender, caught_by_the_filter, met_on_the_move,
)
#: Rate control asks for every mail to be accepted in the end.
_NOT_UNDER_A_LIMIT = frozenset((given_up_in_doubt, refused_for_good))

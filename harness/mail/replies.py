"""The one place that turns how a handover ended into outcome, stage and class of deferral, for each recipient.

===================================================================  =====================================================
ending                                                               outcome
===================================================================  =====================================================
refused, or gone before the last octet was handed to the transport   FAIL
4xx/5xx to a command before it                                       FAIL for the recipients concerned
gone or silent after it, before the reply                            INFO
4xx/5xx to it                                                        FAIL
2xx to it                                                            OK
===================================================================  =====================================================

A recipient's own 4xx/5xx to RCPT stands, whatever DATA answers (RFC 5321 section 3.3: 554 when no recipient is left). LMTP
gives one reply to the dot for each accepted recipient, in order (RFC 2033 section 4.2): cut after k, the others are INFO. A reply
to the dot that is neither 2xx, 4xx nor 5xx says nothing, so it is INFO as well. A mail that needs SMTPUTF8 where it is not announced is
not sent at all: FAIL with the enhanced code 5.6.7 and no reply's code, for good (RFC 6531 sections 3.2 and 3.6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from harness.mail.wire import Reply
from harness.model.outcome import Deferral, Outcome, Stage

_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


class RecipientResult(NamedTuple):
    """How an attempt ended for one recipient.

    :param stage: where it ended. :param code: the reply's, 0 when there was none. :param enhanced: ``"4.7.1"`` or "" (RFC 3463).
    :param text: the reply's text without the enhanced code, or how the connection ended.
    """

    outcome: Outcome
    stage: Stage
    code: int
    enhanced: str
    deferral: Deferral
    text: str

    @property
    def permanent(self) -> bool:
        """Another attempt would end the same: a 5xx reply, or a mail that this side cannot send to this server."""
        return self.code >= 500 or (not self.code and self.enhanced.startswith("5"))

    @property
    def send_rest(self) -> bool:
        """The server takes fewer recipients at a time: send this one in another transaction (RFC 5321 section 4.5.3.1.10)."""
        return self.stage is Stage.RCPT and self.code == 452 and _recipient_limit(self.enhanced, self.text)


#: Of a mail that needs SMTPUTF8 and a server that does not announce it.
NO_SMTPUTF8 = RecipientResult(
    Outcome.FAIL, Stage.MAIL, 0, "5.6.7", Deferral.NONE, "the server does not announce SMTPUTF8, so this mail was not sent (RFC 6531)"
)


@dataclass(frozen=True)
class Rule:
    """One pattern by which a 4xx is classed; every condition given must hold.

    :param text: regular expression searched in the reply's text, case ignored.
    :param codes: the codes it applies to; () = all. :param stages: the stages; () = all.
    :param enhanced: what the enhanced code must begin with ("" = anything).
    """

    deferral: Deferral
    text: str
    codes: tuple[int, ...] = ()
    stages: tuple[Stage, ...] = ()
    enhanced: str = ""

    def fits(self, stage: Stage, code: int, enhanced: str, text: str) -> bool:
        """True when the reply meets every condition."""
        return (
            (not self.codes or code in self.codes)
            and (not self.stages or stage in self.stages)
            and enhanced.startswith(self.enhanced)
            and re.search(self.text, text, re.IGNORECASE) is not None
        )


#: The first rule that fits decides; none: SYSTEM. Failures that borrow the words of a policy stand first: Postfix answers "Service
#: unavailable - try again later" when its milter is gone (milter_default_action), rspamd's greylisting says the last four words.
RULES: tuple[Rule, ...] = (
    Rule(Deferral.SYSTEM, r"service (currently )?unavailable|server configuration|internal|queue file|lookup failure|temporary failure"),
    Rule(Deferral.SYSTEM, r"too many (errors|hops|open files|(syntax|unrecognized|bad|invalid|unknown)\b)|concurrent deliver"),
    Rule(Deferral.GREYLIST, r"gr[ea]y.?list|postgrey|deferred for policy reasons.*first time"),
    Rule(Deferral.GREYLIST, r"^(4\.7\.1 )?try again later\.?$", enhanced="4.7.1"),
    Rule(Deferral.PLANNED_LIMIT, r"rate.?limit|\brate (is )?exceed|throttl|too much mail|too many (\S+ )*(from|connections|messages)"),
    Rule(Deferral.PLANNED_LIMIT, r"too many|(sending|message|connection) (rate|limit)|limit exceeded", enhanced="4.7."),
)


def classify(stage: Stage, code: int, enhanced: str, text: str, rules: tuple[Rule, ...] = RULES) -> Deferral:
    """The class of a 4xx reply; NONE for anything else, and for 452 4.5.3, which only splits a transaction."""
    return _classify(stage, code, enhanced, text, rules) if 400 <= code < 500 else Deferral.NONE


@lru_cache(maxsize=4096)
def _classify(stage: Stage, code: int, enhanced: str, text: str, rules: tuple[Rule, ...]) -> Deferral:
    if stage is Stage.RCPT and code == 452 and _recipient_limit(enhanced, text):
        return Deferral.NONE
    return next((r.deferral for r in rules if r.fits(stage, code, enhanced, text)), Deferral.SYSTEM)


def _recipient_limit(enhanced: str, text: str) -> bool:
    return enhanced == "4.5.3" or (not enhanced and "too many recipients" in text.lower())


def of_reply(stage: Stage, reply: Reply, outcome: Outcome = Outcome.FAIL, rules: tuple[Rule, ...] = RULES) -> RecipientResult:
    """The result that ``reply`` gives at ``stage``."""
    first = reply.lines[0]
    match = _ENHANCED.match(first)
    enhanced = match[0].decode() if match else ""
    text = reply.text
    text = text[len(enhanced) :].lstrip() if enhanced else text
    deferral = Deferral.NONE if reply.code < 400 else classify(stage, reply.code, enhanced, text, rules)
    return RecipientResult(outcome, stage, reply.code, enhanced, deferral, text)


def taken(reply: Reply) -> tuple[RecipientResult]:
    """The result of the one recipient of a mail that ``reply`` acknowledged; made once for each reply."""
    made: tuple[RecipientResult] | None = reply.taken
    if made is None:
        made = reply.taken = (of_reply(Stage.DOT, reply, Outcome.OK),)
    return made


@lru_cache(maxsize=256)
def of_loss(stage: Stage, why: str) -> RecipientResult:
    """The result of an attempt that ended at ``stage`` without a reply: INFO after the dot, FAIL before it."""
    outcome = Outcome.INFO if stage is Stage.DOT else Outcome.FAIL
    return RecipientResult(outcome, stage, 0, "", Deferral.NONE, why[:500])


class Timings:
    """Moments of a transaction in ns on the run's clock; 0 = not reached.

    ``started_ns`` the first byte went out; ``envelope_ns`` DATA was answered; ``handed_ns`` the last octet was handed over;
    ``ended_ns`` the outcome is known.
    """

    __slots__ = ("ended_ns", "envelope_ns", "handed_ns", "started_ns")

    def __init__(self) -> None:
        self.started_ns = self.envelope_ns = self.handed_ns = self.ended_ns = 0


class Dialogue(Timings):
    """What the server has answered in one transaction so far, and when.

    ``handed``: the last octet of the message was handed to the transport. ``dots``: replies to it; one for SMTP, for LMTP one per
    accepted recipient. ``unsent``: why nothing of it was sent.
    """

    __slots__ = ("data", "dots", "early", "handed", "mail", "rcpts", "unsent")

    def __init__(self) -> None:
        self.started_ns = self.envelope_ns = self.handed_ns = self.ended_ns = 0
        self.mail: Reply | None = None
        self.data: Reply | None = None
        self.early: Reply | None = None  #: to the message, before it was whole
        self.rcpts: list[Reply] = []
        self.dots: list[Reply] = []
        self.handed = False
        self.unsent: RecipientResult | None = None

    @property
    def accepted(self) -> int:
        """Recipients that the server took at RCPT."""
        return sum([r.code < 300 for r in self.rcpts])

    @property
    def stage(self) -> Stage:
        """What the next reply answers, if all of it comes in order; of a loss now, where it happened."""
        if self.mail is None:
            return Stage.MAIL
        if self.data is None:
            return Stage.RCPT if not self.rcpts else Stage.DATA
        return Stage.DOT if self.handed else Stage.BODY


def settle(
    said: Dialogue, recipients: int, *, lmtp: bool = False, why: str = "", last: Reply | None = None, rules: tuple[Rule, ...] = RULES
) -> Sequence[RecipientResult]:
    """One result for each of ``recipients``, in their order.

    :param why: how the connection ended, for those without a reply.
    :param last: a 421 with which the server took its leave; it refuses every command it left unanswered before the dot.
    """
    if recipients == 1 and said.dots and said.dots[0].code < 300 and said.rcpts[0].code < 300:
        return taken(said.dots[0])  # the ordinary case, kept short; no dot is sent after a refused MAIL
    if said.unsent is not None:
        return [said.unsent] * recipients
    if said.mail is not None and said.mail.code >= 300:
        return [of_reply(Stage.MAIL, said.mail, rules=rules)] * recipients
    if said.mail is None:
        return [_unanswered(Stage.MAIL, why, last, rules)] * recipients
    ends = iter(_ends(said, lmtp, why, last, rules))
    rest = _unanswered(Stage.RCPT, why, last, rules)
    results = [next(ends) if r.code < 300 else of_reply(Stage.RCPT, r, rules=rules) for r in said.rcpts]
    return results + [rest] * (recipients - len(results))


def _unanswered(stage: Stage, why: str, last: Reply | None, rules: tuple[Rule, ...]) -> RecipientResult:
    return of_reply(stage, last, rules=rules) if last is not None and stage is not Stage.DOT else of_loss(stage, why)


def _ends(said: Dialogue, lmtp: bool, why: str, last: Reply | None, rules: tuple[Rule, ...]) -> Sequence[RecipientResult]:
    """How it ended for each recipient accepted at RCPT, in order."""
    count = said.accepted
    if said.data is None:
        return [_unanswered(Stage.DATA, why, last, rules)] * count
    if said.data.code != 354:
        return [of_reply(Stage.DATA, said.data, rules=rules)] * count
    if not said.handed:
        early = said.early if said.early is not None and said.early.code >= 400 else last
        return [_unanswered(Stage.BODY, why, early, rules)] * count
    dots = [_of_dot(reply, rules) for reply in said.dots]
    if not lmtp:
        return (dots or [of_loss(Stage.DOT, why)])[:1] * count
    return dots[:count] + [of_loss(Stage.DOT, why)] * (count - len(dots))


def _of_dot(reply: Reply, rules: tuple[Rule, ...]) -> RecipientResult:
    if reply.code < 300:
        return of_reply(Stage.DOT, reply, Outcome.OK, rules)
    return of_reply(Stage.DOT, reply, Outcome.FAIL if reply.code >= 400 else Outcome.INFO, rules)

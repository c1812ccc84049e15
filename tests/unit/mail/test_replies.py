"""Every ending of a transaction, as a table, against architecture's rules."""

from __future__ import annotations

import pytest

from harness.mail.replies import Dialogue, RecipientResult, Rule, classify, of_reply, settle
from harness.mail.wire import Reply
from harness.model.outcome import Deferral, Outcome, Stage

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


def reply(text: str) -> Reply:
    return Reply(int(text[:3]), [text[4:].encode()])


def said(*, mail: str = "", rcpts: tuple[str, ...] = (), data: str = "", early: str = "", dots: tuple[str, ...] = (), handed: bool = False) -> Dialogue:
    made = Dialogue()
    made.mail = reply(mail) if mail else None
    made.rcpts, made.dots = [reply(r) for r in rcpts], [reply(d) for d in dots]
    made.data, made.early, made.handed = reply(data) if data else None, reply(early) if early else None, handed
    return made


M, R, D = "250 ok", "250 ok", "354 go"
ENDINGS = {
    # name: (dialogue, recipients, keywords, [(outcome, stage, code)])
    "lost before MAIL's reply": (said(), 1, {}, [(FAIL, Stage.MAIL, 0)]),
    "MAIL 4xx": (said(mail="451 4.3.0 no"), 2, {}, [(FAIL, Stage.MAIL, 451)] * 2),
    "MAIL 5xx, pipelined RCPT 503": (said(mail="550 5.7.1 no", rcpts=("503 no MAIL",), data="503 no"), 1, {}, [(FAIL, Stage.MAIL, 550)]),
    "MAIL 3xx is no acceptance": (said(mail="354 what"), 1, {}, [(FAIL, Stage.MAIL, 354)]),
    "lost before RCPT's reply": (said(mail=M), 2, {}, [(FAIL, Stage.RCPT, 0)] * 2),
    "lost between RCPTs": (said(mail=M, rcpts=("550 5.1.1 who",)), 2, {}, [(FAIL, Stage.RCPT, 550), (FAIL, Stage.RCPT, 0)]),
    "lost before DATA's reply": (said(mail=M, rcpts=(R,)), 1, {}, [(FAIL, Stage.DATA, 0)]),
    "554 to DATA leaves a 450 alone": (said(mail=M, rcpts=("450 4.7.1 later", "550 5.1.1 who"), data="554 5.5.1 none"), 2, {}, [(FAIL, Stage.RCPT, 450), (FAIL, Stage.RCPT, 550)]),
    "DATA 451": (said(mail=M, rcpts=(R, "550 x"), data="451 4.3.0 no"), 2, {}, [(FAIL, Stage.DATA, 451), (FAIL, Stage.RCPT, 550)]),
    "lost in the message": (said(mail=M, rcpts=(R,), data=D), 1, {}, [(FAIL, Stage.BODY, 0)]),
    "552 in the message": (said(mail=M, rcpts=(R,), data=D, early="552 5.3.4 big"), 1, {}, [(FAIL, Stage.BODY, 552)]),
    "250 in the message is no acceptance": (said(mail=M, rcpts=(R,), data=D, early="250 ok"), 1, {}, [(FAIL, Stage.BODY, 0)]),
    "lost after the dot": (said(mail=M, rcpts=(R, "450 4.2.0 x"), data=D, handed=True), 2, {}, [(INFO, Stage.DOT, 0), (FAIL, Stage.RCPT, 450)]),
    "250 to the dot": (said(mail=M, rcpts=(R, R), data=D, handed=True, dots=("250 2.0.0 q",)), 2, {}, [(OK, Stage.DOT, 250)] * 2),
    "451 to the dot": (said(mail=M, rcpts=(R,), data=D, handed=True, dots=("451 4.7.1 x",)), 1, {}, [(FAIL, Stage.DOT, 451)]),
    "421 to the dot": (said(mail=M, rcpts=(R,), data=D, handed=True, dots=("421 4.3.2 x",)), 1, {}, [(FAIL, Stage.DOT, 421)]),
    "550 to the dot": (said(mail=M, rcpts=(R,), data=D, handed=True, dots=("550 5.7.1 x",)), 1, {}, [(FAIL, Stage.DOT, 550)]),
    "354 to the dot says nothing": (said(mail=M, rcpts=(R,), data=D, handed=True, dots=("354 what",)), 1, {}, [(INFO, Stage.DOT, 354)]),
    "421 instead of MAIL's reply": (said(), 1, {"last": reply("421 4.3.2 down")}, [(FAIL, Stage.MAIL, 421)]),
    "421 instead of RCPT's reply": (said(mail=M, rcpts=(R,)), 2, {"last": reply("421 4.3.2 down")}, [(FAIL, Stage.DATA, 421), (FAIL, Stage.RCPT, 421)]),
    "421 in the message": (said(mail=M, rcpts=(R,), data=D), 1, {"last": reply("421 4.4.2 slow")}, [(FAIL, Stage.BODY, 421)]),
    "LMTP, one reply each": (said(mail=M, rcpts=(R, "550 x", R, R), data=D, handed=True, dots=("250 a", "452 4.2.2 full", "550 5.2.1 no")), 4, {"lmtp": True},
                             [(OK, Stage.DOT, 250), (FAIL, Stage.RCPT, 550), (FAIL, Stage.DOT, 452), (FAIL, Stage.DOT, 550)]),
    "LMTP, cut after one": (said(mail=M, rcpts=(R, R, R), data=D, handed=True, dots=("250 a",)), 3, {"lmtp": True},
                            [(OK, Stage.DOT, 250), (INFO, Stage.DOT, 0), (INFO, Stage.DOT, 0)]),
    "251 is acceptance": (said(mail=M, rcpts=("251 forwards",), data=D, handed=True, dots=("250 a",)), 1, {}, [(OK, Stage.DOT, 250)]),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_ending(name: str) -> None:
    dialogue, recipients, keywords, wanted = ENDINGS[name]
    results = settle(dialogue, recipients, why="closed by the peer", **keywords)
    assert [(r.outcome, r.stage, r.code) for r in results] == wanted
    assert all("closed" in r.text for r in results if r.code == 0)


DEFERRALS = [
    (Stage.DOT, "451 4.7.1 Rate limit exceeded", Deferral.PLANNED_LIMIT),
    (Stage.DOT, '451 4.7.1 Ratelimit "per_ip" exceeded', Deferral.PLANNED_LIMIT),
    (Stage.MAIL, "450 4.7.1 Error: too much mail from 198.51.100.7", Deferral.PLANNED_LIMIT),
    (Stage.BANNER, "421 4.7.0 mx Error: too many connections from 198.51.100.7", Deferral.PLANNED_LIMIT),
    (Stage.RCPT, "450 4.7.1 Error: too many recipients from 198.51.100.7", Deferral.PLANNED_LIMIT),
    (Stage.TLS, "421 4.7.0 mx Error: too many new TLS sessions from 198.51.100.7", Deferral.PLANNED_LIMIT),
    (Stage.RCPT, "450 4.2.0 <b@example.org>: Recipient address rejected: Greylisted, see http://postgrey", Deferral.GREYLIST),
    (Stage.DOT, "451 4.7.1 Try again later", Deferral.GREYLIST),
    (Stage.DOT, "451 4.7.1 Service unavailable - try again later", Deferral.SYSTEM),
    (Stage.RCPT, "421 4.7.0 mx Error: too many errors", Deferral.SYSTEM),
    (Stage.RCPT, "451 4.3.0 <b@example.org>: Temporary lookup failure", Deferral.SYSTEM),
    (Stage.DOT, "452 4.3.1 Insufficient system storage", Deferral.SYSTEM),
    (Stage.DOT, "451 4.3.0 <b> Too many concurrent deliveries for user", Deferral.SYSTEM),
    (Stage.RCPT, "452 4.5.3 Error: too many recipients", Deferral.NONE),
    (Stage.RCPT, "452 too many recipients", Deferral.NONE),
    (Stage.RCPT, "550 5.7.1 rate limit", Deferral.NONE),
]


@pytest.mark.parametrize(("stage", "text", "wanted"), DEFERRALS)
def test_deferral(stage: Stage, text: str, wanted: Deferral) -> None:
    assert of_reply(stage, reply(text)).deferral is wanted


def test_rules_can_be_replaced() -> None:
    rules = (Rule(Deferral.PLANNED_LIMIT, "slow down", codes=(450,), stages=(Stage.RCPT,), enhanced="4.7."),)
    assert classify(Stage.RCPT, 450, "4.7.1", "Slow down, please", rules) is Deferral.PLANNED_LIMIT
    for stage, code, enhanced in [(Stage.MAIL, 450, "4.7.1"), (Stage.RCPT, 451, "4.7.1"), (Stage.RCPT, 450, "4.2.1")]:
        assert classify(stage, code, enhanced, "Slow down", rules) is Deferral.SYSTEM


def test_recipient_limit_says_send_the_rest() -> None:
    assert of_reply(Stage.RCPT, reply("452 4.5.3 too many recipients")).send_rest
    assert not of_reply(Stage.RCPT, reply("452 4.2.2 mailbox full")).send_rest


def test_text_and_enhanced_code_are_parted() -> None:
    result = of_reply(Stage.MAIL, Reply(450, [b"4.7.1 first", b"4.7.1 second \xff"]))
    assert (result.enhanced, result.text) == ("4.7.1", "first 4.7.1 second \\xff")
    assert of_reply(Stage.MAIL, reply("450 4.7.1")).enhanced == "4.7.1"
    assert isinstance(result, RecipientResult)

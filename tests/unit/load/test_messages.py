"""Seeded mails: the same again, valid MIME, and a canonical hash that an independent reader finds too."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from email import message_from_bytes, policy
from email.message import Message

import pytest

from harness.load.messages import Messages, outside_addresses
from harness.load.params import Params
from harness.load.templates import COUNT, templates
from harness.mail.commands import stuffed
from harness.model.outcome import MailFlag, Population

USERS = [f"user{i}@example.org" for i in range(1, 41)]


def factory(seed: int = 7, prefix: str = "run.1-a.", **params) -> Messages:
    made = Messages(seed, Params.of(params), USERS, outside_addresses(("example.net",)), prefix)
    made.senders = ["sender@example.com"]
    return made


def canonical(octets: bytes) -> bytes:
    """The design page's canonical form by the standard library's parser, sharing nothing with the generator."""
    digest = hashlib.sha256()
    parsed: Message = message_from_bytes(octets, policy=policy.compat32)
    for part in parsed.walk():
        if part.is_multipart():
            continue
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_content_maintype() == "text":
            text = content.decode(part.get_content_charset() or "us-ascii")
            content = text.replace("\r\n", "\n").rstrip().encode()
        digest.update(part.get_content_type().encode() + b"\n" + content + b"\0")
    return digest.digest()[:16]


def test_every_template_reads_back_as_hashed():
    messages = factory(gtube_share=0.05, eicar_share=0.05)
    kinds = set()
    for i in range(1500):
        mail = messages.make(Population.ELASTIC, i, 0, 0)
        kinds.add(mail.template.kind)
        octets = messages.render(mail)
        assert messages.wire(mail) == stuffed(octets)
        assert messages.ready
        assert canonical(octets) == messages.sha(mail), mail
        assert b"\n" not in octets.replace(b"\r\n", b"")
        assert b"\r" not in octets.replace(b"\r\n", b"")
        assert max(map(len, octets.split(b"\r\n"))) <= 998
        assert octets.isascii()
    assert kinds == {"us-ascii", "utf-8 quoted-printable", "utf-8 base64", "iso-2022-jp", "alternative", "attachment",
                     "long header", "gtube", "eicar"}


@pytest.mark.parametrize("population", list(Population)[:3])
@pytest.mark.parametrize("params", [{}, {"recipients_max": 1}, {"gtube_share": 0.2, "eicar_share": 0.3, "recipients_max": 7}, {"smtputf8_share": 0.4, "dsn_share": 0.4}])
def test_many_at_once_are_the_same_as_one_by_one(population: Population, params):
    one, many = factory(**params), factory(**params)
    one.senders = many.senders = ["sender@example.com"] * 4
    one._now = many._now = lambda: b"Wed, 25 Nov 2026 12:00:00 +0000"  # type: ignore[method-assign]  # a second may end between them
    for first, count in ((0, 300), (300, 1), ((1 << 40) + 5, 50)):
        made, wanted = many.make_many(population, first, count, 3, 9), [one.make(population, first + k, 3, 9) for k in range(count)]
        assert [(m.number, m.index, m.sender, m.rcpts, m.due_ns, m.flags, many.render(m)) for m in made] == [
            (m.number, m.index, m.sender, m.rcpts, m.due_ns, m.flags, one.render(m)) for m in wanted]


@pytest.mark.parametrize("spoil", [lambda b: b[:-40], lambda b: b.replace(b" queue ", b" quaue ", 1), lambda b: b + b"more\r\n"])
def test_a_spoilt_mail_hashes_differently(spoil):
    messages = factory()
    mails = [messages.make(Population.ELASTIC, i, 0, 0) for i in range(60)]
    mail = next(m for m in mails if m.template.kind == "us-ascii" and b" queue " in m.template.body)
    assert canonical(spoil(messages.render(mail))) != messages.sha(mail)


def test_the_same_seed_gives_the_same_mails_in_another_run_and_order():
    one, two = factory(prefix="run.1-a."), factory(prefix="other.2-b.")
    first = [one.make(Population.ELASTIC, i, 0, 0) for i in range(200)]
    other = [two.make(Population.ELASTIC, i, 0, 0) for i in reversed(range(200))][::-1]
    assert [(one.sha(m), m.rcpts, m.flags) for m in first] == [(two.sha(m), m.rcpts, m.flags) for m in other]
    assert len({one.sha(m) for m in first}) == 200


def test_another_seed_gives_other_mails():
    one, two = factory(seed=1), factory(seed=2)
    assert one.sha(one.make(Population.STEADY, 0, 0, 0)) != two.sha(two.make(Population.STEADY, 0, 0, 0))


def test_sizes_have_the_median_a_tail_and_the_bound():
    sizes = [len(t.body) + len(t.after) for t in templates(3, Params(size_median_bytes=4000, size_max_bytes=100_000))[:COUNT]]
    assert 3000 < statistics.median(sizes) < 5600
    assert max(sizes) > 40_000
    assert max(sizes) < 115_000
    assert sum(s > 16_000 for s in sizes) > 6


def test_trace_header_and_message_id_name_run_arm_and_number():
    messages = factory()
    mail = messages.make(Population.STEADY, 0, 0, 0)
    parsed = message_from_bytes(messages.render(mail))
    assert parsed["X-Mailgale-Trace"] == "run.1-a.1"
    assert parsed["Message-ID"] == "<run.1-a.1@mailgale.example.net>"
    assert messages.number_of(b" run.1-a.1\r\n") == 1
    assert messages.number_of(b"run.1-b.1") is None
    assert messages.number_of(b"run.1-a.x") is None


def test_recipients_by_population():
    messages = factory()
    steady = [messages.make(Population.STEADY, i, 0, 0) for i in range(100)]
    assert {r for m in steady for r in m.rcpts} == set(range(8))
    elastic = [messages.make(Population.ELASTIC, i, 0, 0) for i in range(600)]
    assert {r for m in elastic for r in m.rcpts} == set(range(8, 40))
    assert all(len(set(m.rcpts)) == len(m.rcpts) for m in elastic)
    many = Counter(len(m.rcpts) for m in elastic)
    assert many[1] > many[2] > many[3] > 0
    submitted = [messages.make(Population.SUBMITTER, i, 0, 0) for i in range(200)]
    outside = [m for m in submitted if m.flags & MailFlag.TO_INTERNET]
    assert 60 < len(outside) < 140
    assert all(r >= 40 for m in outside for r in m.rcpts)


def test_shares_of_planted_spam_and_virus():
    messages = factory(gtube_share=0.1, eicar_share=0.2)
    flags = Counter(messages.make(Population.ELASTIC, i, 0, 0).flags for i in range(2000))
    assert 150 < flags[MailFlag.GTUBE] < 260
    assert 320 < flags[MailFlag.EICAR] < 480
    mail = next(m for i in range(100) if (m := messages.make(Population.ELASTIC, 5000 + i, 0, 0)).flags == MailFlag.GTUBE)
    assert b"GTUBE-STANDARD-ANTI-UBE" in messages.render(mail)
    assert not any(messages.make(Population.STEADY, i, 0, 0).flags for i in range(500))


def test_extensions_by_share_and_nothing_else_changes():
    plain, asking = factory(), factory(smtputf8_share=0.3, dsn_share=0.2)
    before = [plain.make(Population.ELASTIC, i, 0, 0) for i in range(2000)]
    after = [asking.make(Population.ELASTIC, i, 0, 0) for i in range(2000)]
    both = MailFlag.SMTPUTF8 | MailFlag.DSN
    assert [(plain.sha(m), m.rcpts, m.flags) for m in before] == [(asking.sha(m), m.rcpts, m.flags & ~both) for m in after]
    flags = Counter(f for m in after for f in (MailFlag.SMTPUTF8, MailFlag.DSN) if m.flags & f)
    assert 520 < flags[MailFlag.SMTPUTF8] < 680
    assert 330 < flags[MailFlag.DSN] < 470
    assert any(m.flags & both == both for m in after)


def test_an_internationalised_mail_has_utf8_in_sender_and_header_only():
    messages = factory(smtputf8_share=1.0)
    mail = messages.make(Population.ELASTIC, 0, 0, 0)
    sender, recipients = messages.addresses(mail)
    assert sender.decode() == "sender.grüße@example.com"
    assert all(r.isascii() for r in recipients)
    octets = messages.render(mail)
    assert octets.startswith("From: Jörg Großmann 東京 <sender.grüße@example.com>\r\n".encode())
    assert messages.wire(mail) == stuffed(octets)
    assert octets.split(b"\r\n", 1)[1].isascii()
    assert canonical(octets) == messages.sha(mail)
    submitted = messages.make(Population.SUBMITTER, 0, 0, 0)
    assert messages.addresses(submitted)[0] == b"sender@example.com", "who logs in sends by his own address"
    assert "Jörg" in messages.render(submitted).decode()


def test_a_mail_of_a_users_own_is_his_and_reads_back_as_hashed():
    messages = factory(gtube_share=0.9)
    mails = [messages.own((3 << 32) + n, 0, 3, 5) for n in range(50)]
    assert [m.rcpts for m in mails] == [[3]] * 50
    assert not any(m.flags for m in mails)
    assert len({messages.sha(m) for m in mails}) == len({m.number for m in mails}) == 50
    assert all(canonical(messages.render(m)) == messages.sha(m) for m in mails)

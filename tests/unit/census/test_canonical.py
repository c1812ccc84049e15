"""The canonical form: legal re-encoding leaves it alone, every change of content shows."""

from __future__ import annotations

import quopri

import pytest

from harness.census.canonical import examine
from tests.unit.census.mails import B64, PREFIX, WORDS, dsn, mail, sha, text

EXPECTED = sha(("text/plain", WORDS.encode()))


@pytest.mark.parametrize(
    ("mime", "body"),
    [
        (text("utf-8", "8bit"), WORDS.encode() + b"\r\n"),
        (text("UTF-8", "quoted-printable"), quopri.encodestring(WORDS.encode()) + b"=\r\n\r\n"),
        (text("utf-8", "base64"), B64),
        (text("utf-8", "BASE64"), b"\r\n".join(bytes([c]) for c in B64 if c not in b"\r\n")),
        (text("iso-8859-15", "8bit"), WORDS.encode("iso-8859-15") + b"\r\n"),
        (text("utf-16", "base64"), __import__("base64").encodebytes(WORDS.encode("utf-16"))),
        ("content-type: TEXT/Plain; CharSet=\"utf-8\"; format=flowed\r\ncontent-transfer-encoding: 8bit\r\n", WORDS.encode() + b"  \r\n\r\n"),
    ],
)
def test_every_encoding_of_one_text_has_one_hash(mime, body):
    seen = examine(mail(7, mime, body), PREFIX)
    assert (seen.mail, seen.sha) == (7, EXPECTED)


def test_line_ends_do_not_matter():
    raw = mail(1, text("utf-8", "8bit"), "one\r\ntwo ä\r\n".encode())
    assert examine(raw, PREFIX) == examine(raw.replace(b"\r\n", b"\n"), PREFIX)


def test_parts_in_their_order_and_nested():
    inner = b'--I\r\nContent-Type: text/html\r\n\r\n<b>x</b>\r\n--I--\r\n'
    body = (
        b"preamble\r\n--O\r\nContent-Type: text/plain\r\n\r\nfirst\r\n\r\n--O\r\nContent-Type: multipart/alternative; boundary=I\r\n\r\n" + inner
        + b"--O\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--O--\r\nepilogue\r\n"
    )
    seen = examine(mail(3, "Content-Type: multipart/mixed; boundary=O\r\n", body), PREFIX)
    assert seen.sha == sha(("text/plain", b"first"), ("text/html", b"<b>x</b>"), ("application/octet-stream", b"\0\1\2"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.replace(b"Hello", b"Hell"),
        lambda raw: raw[:-4],
        lambda raw: raw.replace(b"us-ascii", b"utf-16"),
        lambda raw: raw.replace(b"text/plain", b"text/html"),
        lambda raw: raw.replace(b"Hello", b"Hell\xf6"),
    ],
)
def test_planted_damage_has_another_hash(damage):
    raw = mail(1)
    assert examine(damage(raw), PREFIX).sha != examine(raw, PREFIX).sha


@pytest.mark.parametrize("raw", [b"", b"\0" * 100, b"Content-Type: multipart/mixed; boundary=x\n\nno parts", b"\xff\xfe: x\n\n"])
def test_garbage_is_not_ours_and_raises_nothing(raw):
    assert examine(raw, PREFIX).mail is None


@pytest.mark.parametrize("value", ["other.1-2x.7", f"{PREFIX}7x", f"{PREFIX}", f"{PREFIX}²", f"x{PREFIX}7"])
def test_a_foreign_trace_is_not_ours(value):
    assert examine(f"X-Mailgale-Trace: {value}\r\n\r\nx".encode(), PREFIX).mail is None


def test_without_the_trace_header_the_message_id_names_the_mail():
    raw = mail(12).replace(f"X-Mailgale-Trace: {PREFIX}12\r\n".encode(), b"")
    assert examine(raw, PREFIX).mail == 12


@pytest.mark.parametrize("headers_only", [True, False])
def test_a_dsn_names_what_bounced(headers_only):
    seen = examine(dsn(44, headers_only=headers_only), PREFIX)
    assert (seen.mail, seen.bounce_of, seen.failed) == (None, 44, ("user9@example.org",))


def test_a_delay_notice_is_no_bounce():
    assert examine(dsn(44, "delayed"), PREFIX).bounce_of is None


def test_views_and_folders_are_no_mailboxes():
    from harness.census.imap_reader import names

    lines = [b'(\\HasNoChildren) "." INBOX', b'(\\HasNoChildren \\Junk) "." "Junk"', b'(\\NoSelect) "." "Folder"', b'(\\HasNoChildren \\All) "." "All mail"',
             b'(\\Flagged) "." Starred', b"LIST completed"]
    assert names(lines) == ["INBOX", "Junk"]

"""MIME bodies made once per size class: the costly half of a mail. What is mail's own is a last line and the header.

Every template ends in a text leaf that stays open for one more line (the *tail*), so that each mail hashes differently while a
mail costs the same whatever its size: the hash state of everything before the tail is kept and copied.

Limits: binary attachments hold no CR and end in no white space, so that no reading of the canonical form can differ.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from harness.load.params import Params
from harness.model.outcome import MailFlag

COUNT = 128  #: templates, one per 1/128 quantile of the sizes
_WORDS = (
    "queue", "mail", "server", "pod", "node", "cluster", "delivery", "friday", "burst", "evening", "backlog", "relay", "mailbox",
    "proxy", "limit", "rate", "answer", "letter", "volume", "drain", "restart", "address", "domain", "filter", "header", "invoice",
    "meeting", "minutes", "offer", "order", "payment", "project", "report", "summary", "team",
)
_UMLAUTS = (
    "Grüße", "für", "Zürich", "Änderung", "Straße", "größer", "café", "naïve", "señor", "Ελλάδα", "Москва", "✓", "€", "東京",
)
_JAPANESE = ("金曜日の夜", "メールサーバー", "配送が遅れ", "会議の資料", "お世話に", "なっております", "ご確認ください", "受信箱")
#: The generic test for unsolicited bulk mail; in two halves, so that no filter stops this file.
_GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
#: The EICAR test file, likewise.
_EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_BOUNDARY = "=_mailgale_9f1c_"


@dataclass(frozen=True)
class Template:
    """A body up to its tail.

    :param head: header lines of its own (subject, MIME), ending in CRLF, without the empty line.
    :param body: octets on the wire before the tail; ``after``: those behind it.
    :param tail_base64: the tail's transfer encoding is base64, not the identity.
    :param octets: of ``body``; ``size``: of the whole on the wire, about; ``front``: from the end of the mail's own header
        lines to the tail as it goes over the wire, dots stuffed (RFC 5321 section 4.5.2).
    :param state: SHA-256 of the canonical form up to the tail; copy it, never update it.
    """

    kind: str
    head: bytes
    body: bytes
    after: bytes
    tail_base64: bool
    state: Any
    flags: int = 0
    octets: int = field(init=False)
    size: int = field(init=False)
    front: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "octets", len(self.body))
        object.__setattr__(self, "size", len(self.body) + len(self.after) + 48)
        object.__setattr__(self, "front", b"\r\n%b\r\n%b" % (self.head, _stuffed(self.body)))

    def finish(self, tail: bytes) -> bytes:
        """The whole body with ``tail``, one line of ASCII without its end."""
        return b"%b%b\r\n%b" % (self.body, self.tail(tail), self.after)

    def tail(self, tail: bytes) -> bytes:
        """The last line as it goes over the wire; it begins with no dot."""
        return base64.b64encode(tail + b"\r\n") if self.tail_base64 else tail

    def sha(self, tail: bytes) -> bytes:
        """First 16 bytes of the canonical form's SHA-256 with ``tail``."""
        state = self.state.copy()
        state.update(tail + b"\0")
        return state.digest()[:16]  # type: ignore[no-any-return]


def _stuffed(body: bytes) -> bytes:
    body = body.replace(b"\r\n.", b"\r\n..")
    return b"." + body if body.startswith(b".") else body


@dataclass(frozen=True)
class _Leaf:
    """One MIME part: its header lines, its octets on the wire and its canonical content."""

    mime: str
    head: str
    wire: bytes
    content: bytes


def templates(seed: int, params: Params) -> list[Template]:
    """The templates of a seed: sizes at evenly spaced quantiles, kinds by share, in seeded order; then GTUBE and EICAR."""
    rng = random.Random(f"templates/{seed}")
    makers = _deal(rng)
    made = [maker(rng, size) for maker, size in zip(makers, _sizes(params), strict=True)]
    rng.shuffle(made)
    return [*made, _gtube(rng), _eicar(rng)]


def _sizes(params: Params) -> list[int]:
    """Log-normal body, Pareto tail from its (1 − share) quantile on, cut at the maximum."""
    body_share = 1 - params.size_tail_share
    return [_size((i + 0.5) / COUNT, body_share, params) for i in range(COUNT)]


def _size(q: float, body_share: float, params: Params) -> int:
    log_median = math.log(max(params.size_median_bytes, 1))
    if q < body_share or params.size_tail_share == 0:
        size = math.exp(log_median + params.size_sigma * _normal_quantile(q))
    else:
        start = math.exp(log_median + params.size_sigma * _normal_quantile(body_share)) if body_share else params.size_median_bytes
        left = (1 - q) / params.size_tail_share
        size = start * left ** (-1 / max(params.size_tail_alpha, 0.1))
    return int(min(max(size, 200), max(params.size_max_bytes, 200)))


def _normal_quantile(q: float) -> float:
    return NormalDist().inv_cdf(min(max(q, 1e-9), 1 - 1e-9))


def _deal(rng: random.Random) -> list[Callable[[random.Random, int], Template]]:
    makers = [m for m, share in _KINDS for _ in range(share)]
    makers = (makers * (COUNT // len(makers) + 1))[:COUNT]
    rng.shuffle(makers)
    return makers


def _prose(rng: random.Random, size: int, extra: Sequence[str] = ()) -> str:
    """Lines of words, about ``size`` octets, each ending in CRLF, none beginning with a dot or ending in a blank."""
    words = [*_WORDS, *extra]
    lines, length = [], 0
    while length < size:
        line = " ".join(rng.choices(words, k=9)).capitalize() + "."
        lines.append(line)
        length += len(line.encode()) + 2
    return "\r\n".join([*lines, ""])


def _text_leaf(text: str, charset: str, encoding: str, mime: str = "text/plain") -> _Leaf:
    raw = text.encode(charset)
    if encoding == "base64":
        # Whole lines of 57 octets, so that the tail can follow as lines of its own; blanks fill up the last line.
        raw = raw[:-2] + b" " * (-len(raw) % 57) + b"\r\n"
        text, wire = raw.decode(charset), base64.encodebytes(raw).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        wire = binascii.b2a_qp(raw, istext=True)
    else:
        wire = raw
    head = f"Content-Type: {mime}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return _Leaf(mime, head, wire, text.replace("\r\n", "\n").encode())


def _binary_leaf(data: bytes, mime: str, name: str) -> _Leaf:
    head = (
        f"Content-Type: {mime}; name={name}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment; filename={name}\r\n"
    )
    return _Leaf(mime, head, base64.encodebytes(data).replace(b"\n", b"\r\n"), data)


def _single(kind: str, head: str, leaf: _Leaf, flags: int = 0) -> Template:
    state = hashlib.sha256(leaf.mime.encode() + b"\n" + leaf.content)
    return Template(kind, (head + "MIME-Version: 1.0\r\n" + leaf.head).encode(), leaf.wire, b"", "base64" in leaf.head, state, flags)


def _multi(kind: str, head: str, groups: Sequence[tuple[str, Sequence[_Leaf]]], flags: int = 0) -> Template:
    """multipart/mixed of ``groups`` (a multipart subtype, or "" for plain leaves) and a footer that takes the tail."""
    state, body = hashlib.sha256(), b""
    for n, (subtype, leaves) in enumerate(groups):
        inner = f"=_inner_{n}_{_BOUNDARY}"
        if subtype:
            body += f"--{_BOUNDARY}\r\nContent-Type: multipart/{subtype}; boundary=\"{inner}\"\r\n\r\n".encode()
        for leaf in leaves:
            body += f"--{inner if subtype else _BOUNDARY}\r\n{leaf.head}\r\n".encode() + leaf.wire + b"\r\n"
            state.update(_canonical(leaf))
        if subtype:
            body += f"--{inner}--\r\n".encode()
    footer = _text_leaf("--\r\n", "us-ascii", "7bit")
    body += f"--{_BOUNDARY}\r\n{footer.head}\r\n".encode() + footer.wire
    state.update(footer.mime.encode() + b"\n" + footer.content)
    head += f"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{_BOUNDARY}\"\r\n"
    return Template(kind, head.encode(), body, f"--{_BOUNDARY}--\r\n".encode(), False, state, flags)


def _canonical(leaf: _Leaf) -> bytes:
    content = leaf.content.decode().rstrip().encode() if leaf.mime.startswith("text/") else leaf.content
    return leaf.mime.encode() + b"\n" + content + b"\0"


def _subject(rng: random.Random) -> str:
    return f"Subject: {' '.join(rng.choices(_WORDS, k=4))}\r\n"


def _word(text: str, charset: str) -> str:
    """An encoded word (RFC 2047)."""
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset)).decode()}?="


def _ascii(rng: random.Random, size: int) -> Template:
    return _single("us-ascii", _subject(rng), _text_leaf(_prose(rng, size), "us-ascii", "7bit"))


def _quoted(rng: random.Random, size: int) -> Template:
    subject = f"Subject: {_word('Grüße aus Zürich', 'utf-8')}\r\n"
    return _single("utf-8 quoted-printable", subject, _text_leaf(_prose(rng, int(size * 0.85), _UMLAUTS), "utf-8", "quoted-printable"))


def _base64(rng: random.Random, size: int) -> Template:
    subject = f"Subject: {_word('Änderung ✓', 'utf-8')}\r\n"
    return _single("utf-8 base64", subject, _text_leaf(_prose(rng, int(size * 0.73), _UMLAUTS), "utf-8", "base64"))


def _japanese(rng: random.Random, size: int) -> Template:
    lines = ["".join(rng.choices(_JAPANESE, k=4)) + "。" for _ in range(max(size // 60, 1))]
    subject = f"Subject: {_word(rng.choice(_JAPANESE), 'iso-2022-jp')}\r\n"
    return _single("iso-2022-jp", subject, _text_leaf("\r\n".join([*lines, ""]), "iso-2022-jp", "7bit"))


def _alternative(rng: random.Random, size: int) -> Template:
    text = _prose(rng, size // 3, _UMLAUTS)
    html = "<html><body>\r\n" + "".join(f"<p>{line}</p>\r\n" for line in text.splitlines()) + "</body></html>\r\n"
    leaves = [_text_leaf(text, "utf-8", "quoted-printable"), _text_leaf(html, "utf-8", "quoted-printable", "text/html")]
    return _multi("alternative", _subject(rng), [("alternative", leaves)])


def _attachment(rng: random.Random, size: int) -> Template:
    text = _text_leaf(_prose(rng, min(size // 4, 2000), _UMLAUTS), "utf-8", "quoted-printable")
    data = rng.randbytes(max(int(size * 0.7) - 400, 30)).replace(b"\r", b"\x0e") + b"\xff"
    return _multi("attachment", _subject(rng), [("", [text, _binary_leaf(data, "application/octet-stream", "data.bin")])])


def _long_header(rng: random.Random, size: int) -> Template:
    references = "".join(f"\r\n <{rng.getrandbits(128):032x}@list.example.net>" for _ in range(30))
    subject = "Subject: " + "\r\n ".join(" ".join(rng.choices(_WORDS, k=8)) for _ in range(5)) + "\r\n"
    return _single("long header", f"{subject}References:{references}\r\n", _text_leaf(_prose(rng, size), "us-ascii", "7bit"))


def _gtube(rng: random.Random) -> Template:
    text = _prose(rng, 400) + _GTUBE + "\r\n"
    return _single("gtube", _subject(rng), _text_leaf(text, "us-ascii", "7bit"), MailFlag.GTUBE)


def _eicar(rng: random.Random) -> Template:
    leaf = _binary_leaf(_EICAR.encode(), "application/octet-stream", "eicar.com")
    return _multi("eicar", _subject(rng), [("", [_text_leaf(_prose(rng, 300), "us-ascii", "7bit"), leaf])], MailFlag.EICAR)


#: Kinds of bodies and how many of 20 mails are such.
_KINDS: tuple[tuple[Callable[[random.Random, int], Template], int], ...] = (
    (_ascii, 5), (_quoted, 4), (_base64, 2), (_japanese, 2), (_alternative, 3), (_attachment, 3), (_long_header, 1),
)

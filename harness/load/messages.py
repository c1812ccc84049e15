"""Which mail is the n-th of a population, and its octets. A function of seed, population and index alone: no state, any order.

Two arms with the same seed so offer the same mails; the trace header and the Message-ID alone name the run and the arm.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.load.params import Params
from harness.load.templates import Template, templates
from harness.model.outcome import MailFlag, Population
from harness.model.zipf import Zipf, domain

_MASK = (1 << 64) - 1
#: Keeps the draws of extensions apart from the others of a mail.
_EXTENSIONS = 7
INTERNET_PER_DOMAIN = 25
_CLEAN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]+")
#: What an internationalised sender's local part ends in, and the name in its header.
UTF8_LOCAL, UTF8_NAME = ".grüße", "Jörg Großmann 東京"
Draws = NDArray[np.uint64]


@dataclass(slots=True)
class Mail:
    """One mail on its way: what is left of it to hand over.

    :param rcpts: indices of the recipients that have not been accepted or rejected.
    :param due_ns: when it was due, on the run's clock.
    :param attempt: attempts begun so far. :param begun_ns: when the last of them began.
    """

    number: int
    population: Population
    index: int
    sender: int
    rcpts: list[int]
    due_ns: int
    template: Template = field(repr=False)
    flags: int = 0
    attempt: int = 0
    begun_ns: int = 0


def scramble(seed: int, *parts: int) -> int:
    """64 well-mixed bits of the arguments (SplitMix64's finaliser): the randomness of a mail without a generator's state."""
    x = seed & _MASK
    for part in parts:
        x = (x + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return x


def scrambled(seeds: Draws, *parts: int) -> Draws:
    """:func:`scramble` of many seeds at once."""
    x = seeds
    for part in parts:
        x = _mixed(x + np.uint64(0x9E3779B97F4A7C15 * (part + 1) & _MASK))
    return x


def _mixed(x: Draws) -> Draws:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Messages:
    """Makes mails.

    :param users: addresses of the platform's users, probe users first.
    :param outside: addresses of the made-up internet; they follow the users in :attr:`recipients`.
    :param prefix: ``<run id>.<arm>.`` of the trace header.
    :param numbers_from: number before the first mail (several engines share the numbers of an arm).
    """

    def __init__(
        self, seed: int, params: Params, users: list[str], outside: list[str], prefix: str, *, numbers_from: int = 0
    ) -> None:
        self.recipients = [*users, *outside]
        self.users, self.outside = len(users), len(outside)
        self._zipf = Zipf(params.zipf_domains, params.zipf_exponent) if params.zipf_domains else None
        self._ready = False
        self._senders: list[str] = []
        self._senders_bytes: list[bytes] = []
        self._senders_utf8: list[bytes] = []
        self._senders_angled: list[bytes] = []
        self._bytes = [a.encode() for a in self.recipients]
        self._angled = [b"<%b>" % a for a in self._bytes]
        self._seed, self._params, self._prefix = seed, params, prefix.encode()
        self._templates = templates(seed, params)
        self._weights = [1 / k**2 for k in range(1, max(params.recipients_max, 1) + 1)]
        self._weights_sum = sum(self._weights)
        self._of_seed = b" of seed %d" % seed
        self._filtered = params.gtube_share + params.eicar_share
        self._asking = params.smtputf8_share + params.dsn_share
        self._last = numbers_from
        self._date, self._date_at = b"", -1
        self._stamp = b""  #: header lines from the date to the number
        self._between = b"@mailgale.example.net>\r\nX-Mailgale-Trace: " + self._prefix

    @property
    def senders(self) -> list[str]:
        """Addresses of the senders; a mail's ``sender`` is an index into it."""
        return self._senders

    @senders.setter
    def senders(self, addresses: list[str]) -> None:
        self._senders, self._senders_bytes = addresses, [a.encode() for a in addresses]
        self._senders_utf8 = [internationalised(a).encode() for a in addresses]
        self._senders_angled = [b"<%b>" % a for a in self._senders_bytes]
        self._ready = all(_CLEAN.fullmatch(a) for a in (*self._bytes, *self._senders_bytes))

    def make(self, population: Population, index: int, sender: int, due_ns: int) -> Mail:
        """The ``index``-th mail of ``population`` with the next free number."""
        draw = scramble(self._seed, population, index)
        template = self._template(population, draw & 0xFFFFFFFF)
        rcpts, flags = self._rcpts(population, draw >> 32, scramble(draw, 1))
        self._last += 1
        flags |= template.flags | (self._extensions(population, index) if self._asking else 0)
        return Mail(self._last, population, index, sender, rcpts, due_ns, template, flags)

    def make_many(self, population: Population, first: int, count: int, sender: int, due_ns: int) -> list[Mail]:
        """``count`` times :meth:`make`, from the ``first``-th on, several times as fast."""
        parts = np.arange(first + 1, first + 1 + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        draws = _mixed(np.uint64(scramble(self._seed, population)) + parts)
        lows, picks = draws & np.uint64(0xFFFFFFFF), scrambled(draws, 1)
        ordinary = (scrambled(lows, 2) % np.uint64(len(self._templates) - 2)).tolist()
        known, low, high = self._templates, lows.tolist(), (draws >> np.uint64(32)).tolist()
        chosen = [self._special(population, w) or known[t] for t, w in zip(ordinary, low, strict=True)] if self._filtered else [known[t] for t in ordinary]
        to = self._rcpts_many(population, high, picks)
        number = self._last + 1
        self._last += count
        more = [self._extensions(population, first + k) for k in range(count)] if self._asking else [0] * count
        return [
            Mail(number + k, population, first + k, sender, rcpts, due_ns, template, template.flags | flags | more[k])
            for k, (template, (rcpts, flags)) in enumerate(zip(chosen, to, strict=True))
        ]

    def own(self, index: int, sender: int, rcpt: int, due_ns: int) -> Mail:
        """A mail that a user puts into a mailbox of his own; nothing for a filter in it."""
        draw = scramble(self._seed, Population.APPENDER, index)
        template = self._templates[scramble(draw, 2) % (len(self._templates) - 2)]
        self._last += 1
        return Mail(self._last, Population.APPENDER, index, sender, [rcpt], due_ns, template)

    def _extensions(self, population: Population, index: int) -> int:
        """Which extensions of SMTP a mail asks for; draws of their own, so that a mail is otherwise the same with and without."""
        draw, params = scramble(self._seed, population, index, _EXTENSIONS), self._params
        utf8 = MailFlag.SMTPUTF8 if (draw & 0xFFFFFFFF) < params.smtputf8_share * (1 << 32) else 0
        return utf8 | (MailFlag.DSN if draw >> 32 < params.dsn_share * (1 << 32) else 0)

    def _rcpts_many(self, population: Population, draws: list[int], picks: Draws) -> list[tuple[list[int], int]]:
        if len(self._weights) == 1 and population is not Population.SUBMITTER:
            first, count = self._range(population)
            return [([rcpt], 0) for rcpt in (first + (picks % np.uint64(count)).astype(np.int64)).tolist()]
        return [self._rcpts(population, draw, pick) for draw, pick in zip(draws, picks.tolist(), strict=True)]

    def sha(self, mail: Mail) -> bytes:
        """First 16 bytes of the SHA-256 of the mail's canonical form."""
        return mail.template.sha(self._tail(mail))

    def render(self, mail: Mail) -> bytes:
        """The mail's octets, CRLF line ends, dots not stuffed."""
        trace = b"%b%d" % (self._prefix, mail.number)
        return b"From: %b\r\nTo: %b\r\nDate: %b\r\nMessage-ID: <%b@mailgale.example.net>\r\nX-Mailgale-Trace: %b\r\n%b\r\n%b" % (
            self._from(mail), self._to(mail.rcpts), self._now(), trace, trace, mail.template.head, mail.template.finish(self._tail(mail)),
        )

    @property
    def ready(self) -> bool:
        """Addresses are ASCII without CR, LF and NUL; :meth:`wire` may then go out as it is."""
        return self._ready

    def wire(self, mail: Mail) -> bytes:
        """The mail's octets with dots stuffed; bodies were when the templates were made, and no header line begins with a dot.

        Only where :attr:`ready`; else whoever sends it stuffs it himself, see :meth:`render`.
        """
        number, template, rcpts, tail = mail.number, mail.template, mail.rcpts, self._tail(mail)
        if int(time.time()) != self._date_at:
            self._now()
        return b"From: %b\r\nTo: %b%b%d%b%d%b%b\r\n%b" % (
            self._from(mail) if self._asking else self._senders_angled[mail.sender],
            self._angled[rcpts[0]] if len(rcpts) == 1 else self._to(rcpts),
            self._stamp, number, self._between, number, template.front, template.tail(tail) if template.tail_base64 else tail, template.after,
        )

    def addresses(self, mail: Mail) -> tuple[bytes, list[bytes]]:
        """Envelope sender, and the recipients that are left."""
        known, rcpts = self._bytes, mail.rcpts
        sender = self._sender(mail) if self._asking else self._senders_bytes[mail.sender]
        return sender, [known[rcpts[0]]] if len(rcpts) == 1 else [known[r] for r in rcpts]

    def trace(self, mail: Mail) -> str:
        """The value of the mail's trace header."""
        return f"{self._prefix.decode()}{mail.number}"

    def _sender(self, mail: Mail) -> bytes:
        """Envelope sender. A submitting user has no other address than the one he logs in with."""
        utf8 = mail.flags & MailFlag.SMTPUTF8 and mail.population is not Population.SUBMITTER
        return (self._senders_utf8 if utf8 else self._senders_bytes)[mail.sender]

    def _from(self, mail: Mail) -> bytes:
        name = UTF8_NAME.encode() + b" " if mail.flags & MailFlag.SMTPUTF8 else b""
        return b"%b<%b>" % (name, self._sender(mail))

    def _to(self, rcpts: list[int]) -> bytes:
        return b",\r\n ".join([self._angled[r] for r in rcpts])

    def size(self, mail: Mail) -> int:
        """Octets of the body on the wire (the header comes to some 400 more)."""
        return mail.template.size

    def number_of(self, trace: bytes) -> int | None:
        """The mail number in a trace header's value, None when it is not one of this run and arm."""
        value = trace.strip()
        digits = value[len(self._prefix):]
        return int(digits) if value.startswith(self._prefix) and digits.isdigit() else None

    def _tail(self, mail: Mail) -> bytes:
        return b"mail %d.%d%b" % (mail.population, mail.index, self._of_seed)

    def _template(self, population: Population, draw: int) -> Template:
        return self._special(population, draw) or self._templates[scramble(draw, 2) % (len(self._templates) - 2)]

    def _special(self, population: Population, draw: int) -> Template | None:
        """GTUBE or EICAR, where this draw says so."""
        if self._filtered and population is not Population.STEADY:
            share = draw / (1 << 32)
            if share < self._params.gtube_share:
                return self._templates[-2]
            if share < self._filtered:
                return self._templates[-1]
        return None

    def _rcpts(self, population: Population, draw: int, pick: int) -> tuple[list[int], int]:
        if population is Population.SUBMITTER and draw < self._params.submit_internet_share * (1 << 32) and self.outside:
            return [self.users + self._outside(pick)], MailFlag.TO_INTERNET
        first, count = self._range(population)
        wanted = 1 if population is Population.STEADY or len(self._weights) == 1 else min(self._how_many(draw), count)
        if wanted == 1:
            return [first + pick % count], 0
        step = 1 + (pick >> 32) % max(count - 1, 1)
        picked = {first + (pick + k * step) % count: None for k in range(wanted)}
        return list(picked), 0

    def _outside(self, pick: int) -> int:
        """Which of the outside addresses: one of each domain where they are drawn by Zipf's law."""
        return self._zipf.rank(pick / (_MASK + 1)) - 1 if self._zipf else pick % self.outside

    def _range(self, population: Population) -> tuple[int, int]:
        """Probe users get ordinary mail only; the others get the rest, unless there are no others."""
        if population is Population.STEADY:
            return 0, min(self._params.probe_users or self.users, self.users)
        probes = self._params.probe_users
        return (probes, self.users - probes) if self.users > probes else (0, self.users)

    def _how_many(self, draw: int) -> int:
        left = draw / (1 << 32) * self._weights_sum
        for k, weight in enumerate(self._weights, 1):
            left -= weight
            if left < 0:
                return k
        return len(self._weights)

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._date_at:
            self._date_at = second
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(second)).encode()
            self._stamp = b"\r\nDate: %b\r\nMessage-ID: <%b" % (self._date, self._prefix)
        return self._date


def internationalised(address: str) -> str:
    """``address`` with a local part in UTF-8 (RFC 6531)."""
    local, _, host = address.rpartition("@")
    return f"{local}{UTF8_LOCAL}@{host}"


def outside_addresses(domains: tuple[str, ...], zipf_domains: int = 0) -> list[str]:
    """Recipients on the made-up internet: some of each domain, or one of each of the domains that Zipf's law draws from."""
    if zipf_domains:
        return [f"person@{domain(rank)}" for rank in range(1, zipf_domains + 1)]
    return [f"person{i}@{d}" for d in domains for i in range(1, INTERNET_PER_DOMAIN + 1)]

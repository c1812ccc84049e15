"""Which mail is the n-th of a population, and its octets. A function of seed, population and index alone: no state, any order.

Two arms with the same seed so offer the same mails; the trace header and the Message-ID alone name the run and the arm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from harness.load.params import Params
from harness.load.templates import Template, templates
from harness.model.outcome import MailFlag, Population

_MASK = (1 << 64) - 1
INTERNET_PER_DOMAIN = 25


@dataclass(slots=True)
class Mail:
    """One mail on its way: what is left of it to hand over.

    :param rcpts: indices of the recipients that have not been accepted or rejected.
    :param due_ns: when it was due, on the run's clock.
    :param attempt: attempts begun so far.
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

    @property
    def tail(self) -> bytes:
        return b"mail %d.%d" % (self.population, self.index)


def scramble(seed: int, *parts: int) -> int:
    """64 well-mixed bits of the arguments (SplitMix64's finaliser): the randomness of a mail without a generator's state."""
    x = seed & _MASK
    for part in parts:
        x = (x + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return x


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
        self.senders: list[str] = []
        self._encoded: dict[int, bytes] = {}
        self._bytes = [a.encode() for a in self.recipients]
        self._bracketed = [b"<%b>" % a for a in self._bytes]
        self._seed, self._params, self._prefix = seed, params, prefix.encode()
        self._templates = templates(seed, params)
        self._weights = [1 / k**2 for k in range(1, max(params.recipients_max, 1) + 1)]
        self._last = numbers_from
        self._date, self._date_at = b"", -1

    def make(self, population: Population, index: int, sender: int, due_ns: int) -> Mail:
        """The ``index``-th mail of ``population`` with the next free number."""
        draw = scramble(self._seed, population, index)
        template = self._template(population, draw & 0xFFFFFFFF)
        rcpts, flags = self._rcpts(population, draw >> 32, scramble(draw, 1))
        self._last += 1
        return Mail(self._last, population, index, sender, rcpts, due_ns, template, template.flags | flags)

    def sha(self, mail: Mail) -> bytes:
        """First 16 bytes of the SHA-256 of the mail's canonical form."""
        return mail.template.sha(self._tail(mail))

    def render(self, mail: Mail) -> bytes:
        """The mail's octets, CRLF line ends, dots not stuffed."""
        trace = b"%b%d" % (self._prefix, mail.number)
        return b"From: <%b>\r\nTo: %b\r\nDate: %b\r\nMessage-ID: <%b@mailgale.example.net>\r\nX-Mailgale-Trace: %b\r\n%b\r\n%b" % (
            self.sender_bytes(mail), b",\r\n ".join([self._bracketed[r] for r in mail.rcpts]), self._now(),
            trace, trace, mail.template.head, mail.template.finish(self._tail(mail)),
        )

    def sender_bytes(self, mail: Mail) -> bytes:
        """Envelope sender."""
        encoded = self._encoded.get(mail.sender)
        if encoded is None:
            encoded = self._encoded[mail.sender] = self.senders[mail.sender].encode()
        return encoded

    def rcpt_bytes(self, mail: Mail) -> list[bytes]:
        """Envelope recipients that are left."""
        return [self._bytes[r] for r in mail.rcpts]

    def size(self, mail: Mail) -> int:
        """Octets of the body on the wire (the header comes to some 400 more)."""
        return len(mail.template.body) + len(mail.template.after) + 48

    def number_of(self, trace: bytes) -> int | None:
        """The mail number in a trace header's value, None when it is not one of this run and arm."""
        value = trace.strip()
        digits = value[len(self._prefix):]
        return int(digits) if value.startswith(self._prefix) and digits.isdigit() else None

    def _tail(self, mail: Mail) -> bytes:
        return b"%b of seed %d" % (mail.tail, self._seed)

    def _template(self, population: Population, draw: int) -> Template:
        share = draw / (1 << 32)
        if population is Population.ELASTIC or population is Population.SUBMITTER:
            if share < self._params.gtube_share:
                return self._templates[-2]
            if share < self._params.gtube_share + self._params.eicar_share:
                return self._templates[-1]
        return self._templates[scramble(draw, 2) % (len(self._templates) - 2)]

    def _rcpts(self, population: Population, draw: int, pick: int) -> tuple[list[int], int]:
        if population is Population.SUBMITTER and draw < self._params.submit_internet_share * (1 << 32) and self.outside:
            return [self.users + pick % self.outside], MailFlag.TO_INTERNET
        first, count = self._range(population)
        wanted = 1 if population is Population.STEADY else min(self._how_many(draw), count)
        step = 1 + (pick >> 32) % max(count - 1, 1)
        picked = {first + (pick + k * step) % count: None for k in range(wanted)}
        return list(picked), 0

    def _range(self, population: Population) -> tuple[int, int]:
        """Probe users get ordinary mail only; the others get the rest, unless there are no others."""
        if population is Population.STEADY:
            return 0, min(self._params.probe_users or self.users, self.users)
        probes = self._params.probe_users
        return (probes, self.users - probes) if self.users > probes else (0, self.users)

    def _how_many(self, draw: int) -> int:
        left = draw / (1 << 32) * sum(self._weights)
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
        return self._date


def outside_addresses(domains: tuple[str, ...]) -> list[str]:
    """Recipients on the made-up internet."""
    return [f"person{i}@{d}" for d in domains for i in range(1, INTERNET_PER_DOMAIN + 1)]

"""When ordinary mail was first seen in a probe mailbox: the delivery latency, from the due time and from the acknowledgement."""

from __future__ import annotations

from harness.load.ledger import Ledger
from harness.load.messages import Mail, Messages
from harness.load.stats import Stats
from harness.model.outcome import Population
from harness.support.clock import now_ns

REMEMBERED_MAX = 2_000_000


class Sightings:
    """Joins what the senders know (due, accepted) with what the watchers see.

    A mail may be seen before its acknowledgement has been read; ``latency_from_ok_ns`` is then 0.

    :param watched: false: nobody watches, so nothing is remembered.
    """

    def __init__(self, ledger: Ledger, stats: Stats, messages: Messages, *, watched: bool = True) -> None:
        self._ledger, self._stats, self._messages, self._watched = ledger, stats, messages, watched
        self._due: dict[int, int] = {}
        self._ok: dict[int, int] = {}
        self._seen: set[tuple[int, str]] = set()
        self._awaited: set[tuple[int, str]] = set()
        #: Addresses whose mailboxes somebody watches.
        self.mailboxes: frozenset[str] = frozenset()

    @property
    def seen(self) -> int:
        """Mails seen so far, once per mailbox."""
        return len(self._seen)

    @property
    def awaited(self) -> int:
        """Acknowledged mails that have not been seen yet, once per watched mailbox."""
        return len(self._awaited)

    def overdue(self, after_s: float) -> tuple[int, float]:
        """How many acknowledged mails have not been seen ``after_s`` seconds later, once per watched mailbox; and how long the oldest waits."""
        now = now_ns()
        waits = [(now - self._ok[number]) / 1e9 for number, _ in self._awaited]
        return sum(w > after_s for w in waits), round(max(waits, default=0.0), 1)

    def offered(self, mail: Mail) -> None:
        """A mail of ours is due."""
        if self._watched and mail.population is Population.STEADY and len(self._due) < REMEMBERED_MAX:
            self._due[mail.number] = mail.due_ns

    def accepted(self, mail: Mail) -> None:
        """A mail of ours was acknowledged."""
        if mail.number in self._due:
            self._ok.setdefault(mail.number, now_ns())
            pairs = {(mail.number, self._messages.recipients[r]) for r in mail.rcpts}
            self._awaited |= {pair for pair in pairs - self._seen if pair[1] in self.mailboxes}

    def number_of(self, value: bytes) -> int | None:
        """The number of the mail whose trace header has ``value``; None when it is none of this arm's."""
        return self._messages.number_of(value)

    def trace(self, value: bytes, mailbox: str) -> None:
        """A watcher has read a trace header; the first time for this mail and mailbox is the sighting."""
        number = self._messages.number_of(value)
        if number is None or number not in self._due or (number, mailbox) in self._seen:
            return
        now = now_ns()
        from_due = now - self._due[number]
        self._seen.add((number, mailbox))
        self._awaited.discard((number, mailbox))
        self._ledger.event(
            "first_sight", t=now, mail=number, mailbox=mailbox, latency_from_due_ns=from_due,
            latency_from_ok_ns=now - self._ok.get(number, now),
        )
        self._stats.time("mail", "delivery from due", from_due)

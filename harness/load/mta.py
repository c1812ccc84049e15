"""One simulated MTA (or a submitting user's client): a queue, a limit of connections, back-off, and the attempts of each mail.

The life of a mail here: offered → ready → in flight on a link → ended (accepted or rejected for every recipient), or, for the
recipients that were deferred or left in doubt, waiting → ready again as its next attempt. As in Postfix a mail is bound before
its connection is opened, so a refused connection is an attempt that failed; and a destination that refuses while no other
connection of this MTA works is left alone for a back-off of its own.

Limits: one destination per MTA; no per-recipient concurrency; a mail never expires (the load ends first).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.load.backoff import Backoff
from harness.load.ledger import Ledger, pack_offer
from harness.load.messages import Mail, Messages
from harness.load.stats import Stats
from harness.mail.replies import RecipientResult
from harness.model.outcome import Deferral, Outcome, Population, Proto, Stage
from harness.support.clock import now_ns


class Watcher(Protocol):
    """Wants to know of mails that are due and of those that were accepted."""

    def offered(self, mail: Mail) -> None: ...

    def accepted(self, mail: Mail) -> None: ...


class Session(Protocol):
    """What a link needs of an open SMTP session."""

    @property
    def usable(self) -> bool:
        """It takes another mail: neither over nor ending."""

    def send(self, mail: Mail) -> None: ...

    def quit(self) -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True)
class Host:
    """What the engine lends to every population."""

    loop: asyncio.AbstractEventLoop
    ledger: Ledger
    stats: Stats
    messages: Messages
    watcher: Watcher


@dataclass(frozen=True)
class Policy:
    """How one kind of MTA behaves.

    :param connections: most at a time.
    :param mails_per_connection: 1 = a connection for each mail.
    :param retry: deferred and doubtful recipients are tried again (user agents do not).
    :param ahead: the next envelope goes out behind the dot of the mail before.
    """

    proto: Proto
    connections: int
    mails_per_connection: int
    backoff: Backoff
    retry: bool = True
    ahead: bool = False


class Mta:
    """See the module. Drive it by :meth:`offer`; ask :attr:`idle`, :attr:`backlog`.

    :param dial: opens a session for a link and calls its ``on_ready`` or ``on_failed``.
    """

    def __init__(self, host: Host, sender: int, client: str, policy: Policy, dial: Callable[[Link], None], seed: int) -> None:
        self.host, self.sender, self.client, self.policy = host, sender, client, policy
        self._dial, self._rng = dial, random.Random(f"mta/{seed}/{sender}")
        self.ready: deque[Mail] = deque()
        self.waiting: dict[int, asyncio.TimerHandle] = {}
        self.links: set[Link] = set()
        self._failures = 0
        self._dead: asyncio.TimerHandle | None = None
        self.stopped = False

    @property
    def backlog(self) -> int:
        """Mails that are ready or wait for their next attempt."""
        return len(self.ready) + len(self.waiting)

    @property
    def idle(self) -> bool:
        """Nothing left to do, nothing in flight."""
        return not self.ready and not self.waiting and not self.links

    def offer(self, mail: Mail) -> None:
        """Take a mail and send it as soon as the limits allow."""
        self.ready.append(mail)
        self.pump()

    def stop(self) -> None:
        """Begin nothing more; what is in flight goes on to its end."""
        self.stopped = True
        for timer in (*self.waiting.values(), *([self._dead] if self._dead else [])):
            timer.cancel()

    def abort(self) -> None:
        """Cut every connection; its mails stay in doubt."""
        self.stop()
        for link in list(self.links):
            link.abort()

    def pump(self) -> None:
        """Open links for ready mails, as far as limit and back-off allow."""
        while self.ready and self._place():
            link = Link(self, self.ready.popleft())
            self.links.add(link)
            link.begin()
            self._dial(link)

    def next_mail(self) -> Mail | None:
        """The next mail for a link that could take one."""
        return self.ready.popleft() if self.ready and not self.stopped else None

    def attempt_failed(self, mail: Mail, rcpts: list[int]) -> None:
        """These recipients of ``mail`` need another attempt."""
        mail.rcpts = rcpts
        if self.policy.retry and not self.stopped:
            wait = self.policy.backoff.wait_s(mail.attempt, self._rng)
            self.waiting[mail.number] = self.host.loop.call_later(wait, self._wake, mail)

    def link_worked(self) -> None:
        """A session was opened: the destination lives."""
        self._failures = 0

    def link_failed(self) -> None:
        """A session could not be opened. When no other one works, leave the destination alone for a while."""
        if self._dead is None and not self.stopped and not any(link.open for link in self.links):
            self._failures += 1
            self._dead = self.host.loop.call_later(self.policy.backoff.wait_s(self._failures, self._rng), self._revive)

    def link_closed(self, link: Link) -> None:
        """A link is gone; its place is free."""
        self.links.discard(link)
        self.pump()

    def _place(self) -> bool:
        """Whether one more link may be opened."""
        return not self.stopped and self._dead is None and len(self.links) < self.policy.connections

    def _wake(self, mail: Mail) -> None:
        del self.waiting[mail.number]
        self.ready.append(mail)
        self.pump()

    def _revive(self) -> None:
        self._dead = None
        self.pump()


class Link:
    """One connection of an MTA and the mails on it: one whose replies come next, and perhaps one behind its dot."""

    __slots__ = ("behind", "closed", "mail", "mta", "open", "sent", "session")

    def __init__(self, mta: Mta, mail: Mail) -> None:
        self.mta, self.session = mta, None  # type: Mta, Session | None
        self.mail: Mail | None = mail
        self.behind: Mail | None = None
        self.open = self.closed = False
        self.sent = 0

    def begin(self) -> None:
        """Record that the bound mail's attempt begins."""
        assert self.mail is not None
        self._begin(self.mail)

    def on_ready(self, session: Session) -> None:
        """The session may take a mail: the bound one."""
        self.session, self.open = session, True
        self.mta.link_worked()
        self._send()

    def following(self) -> Mail | None:
        """The bound mail is about to be handed over: the mail that goes out behind its dot, None = none now."""
        mta, most = self.mta, self.mta.policy.mails_per_connection
        if self.closed or self.session is None or not mta.ready or mta.stopped or self.sent >= most:
            return None
        mail = self.behind = mta.ready.popleft()
        self._begin(mail)
        self.sent += 1
        if self.sent >= most:
            self.session.quit()
        return mail

    def on_results(self, results: Sequence[RecipientResult], t: int) -> None:
        """The bound mail's attempt has ended at ``t``, one result per recipient in order; go on with the next mail, or end."""
        mail, self.mail, self.behind = self.mail, self.behind, None
        if mail is not None and len(results) == 1 == len(mail.rcpts) and results[0].outcome is Outcome.OK:
            self._accepted(mail, results[0], t)
        else:
            self._settle(mail, results, t)
        session = self.session
        if self.mail is not None or session is None or self.closed or not session.usable:
            return
        self.mail = self.mta.next_mail()
        if self.mail is not None:
            self._begin(self.mail)
            self._send()
        else:
            session.quit()

    def on_failed(self, result: RecipientResult) -> None:
        """The session never became ready."""
        mail, self.mail = self.mail, None
        self._settle(mail, [result] * len(mail.rcpts) if mail is not None else [], now_ns())
        self.mta.link_failed()
        self.on_closed(result)

    def on_closed(self, result: RecipientResult) -> None:
        """The connection is gone; ``result`` is that of mails without any."""
        if self.closed:
            return
        self.closed, self.open, self.session = True, False, None
        left, self.mail, self.behind = (self.mail, self.behind), None, None
        for mail in left:
            if mail is not None:
                self._settle(mail, [result] * len(mail.rcpts), now_ns())
        self.mta.link_closed(self)

    def abort(self) -> None:
        """Cut the connection. The attempt stays without an end in the ledger: in doubt."""
        self.closed = True
        self.mta.links.discard(self)
        if self.session is not None:
            self.session.abort()

    def _begin(self, mail: Mail) -> None:
        mta, rcpts = self.mta, mail.rcpts
        mail.attempt += 1
        host = mta.host
        counts = host.stats.counts
        counts.in_flight += 1
        counts.attempted += len(rcpts)
        mail.begun_ns = host.ledger.invoke(mail.number, rcpts, mail.attempt, mta.policy.proto)

    def _send(self) -> None:
        """Hand the bound mail to the session, which holds its bytes back until the ledger is written."""
        assert self.mail is not None
        assert self.session is not None
        self.session.send(self.mail)
        self._count(self.session)

    def _count(self, session: Session) -> None:
        """One more mail on this connection; QUIT goes out behind the dot of the last."""
        self.sent += 1
        if self.sent >= self.mta.policy.mails_per_connection:
            session.quit()

    def _accepted(self, mail: Mail, result: RecipientResult, t: int) -> None:
        """The ordinary end, kept short: what :meth:`_settle` comes to for a mail to one recipient that was taken."""
        policy, host = self.mta.policy, self.mta.host
        counts = host.stats.counts
        counts.in_flight -= 1
        counts.accepted += 1
        host.ledger.done(mail.number, mail.rcpts[0], mail.attempt, policy.proto, result, t)
        host.watcher.accepted(mail)
        mail.rcpts = []
        if mail.population is not Population.ELASTIC:
            host.stats.time(policy.proto.name.lower(), "mail from due", t - mail.due_ns)

    def _settle(self, mail: Mail | None, results: Sequence[RecipientResult], t: int) -> None:
        if mail is None:
            return
        host = self.mta.host
        host.stats.counts.in_flight -= 1
        again = [r for r, result in zip(mail.rcpts, results, strict=True) if self._ended(host, mail, r, result, t)]
        if again:
            self._again(mail, dict(zip(mail.rcpts, results, strict=True)), again)
            return
        mail.rcpts = []
        if mail.population is not Population.ELASTIC:
            host.stats.time(self.mta.policy.proto.name.lower(), "mail from due", t - mail.due_ns)

    def _again(self, mail: Mail, results: Mapping[int, RecipientResult], again: list[int]) -> None:
        if len(again) < len(results) and all(results[r].send_rest for r in again):
            mail.rcpts = again  # the server takes fewer at a time: the rest at once, in a transaction of its own
            self.mta.ready.appendleft(mail)
        else:
            self.mta.attempt_failed(mail, again)

    def _ended(self, host: Host, mail: Mail, rcpt: int, result: RecipientResult, t: int) -> bool:
        """Record one recipient's end; true when it needs another attempt."""
        counts = host.stats.counts
        host.ledger.done(mail.number, rcpt, mail.attempt, self.mta.policy.proto, result, t)
        if result.outcome is Outcome.OK:
            counts.accepted += 1
            host.watcher.accepted(mail)
            return False
        if result.outcome is Outcome.INFO:
            counts.undetermined += 1
            return True
        if result.permanent and result.stage > Stage.BANNER:  # a 5xx greeting defers: postconf(5) smtp_skip_5xx_greeting
            counts.rejected += 1
            return False
        if result.code >= 400:
            counts.deferred += 1
            name = (result.deferral or Deferral.SYSTEM).name.lower()
            counts.deferred_by[name] = counts.deferred_by.get(name, 0) + 1
        else:
            counts.failed += 1
        return True


@dataclass(frozen=True)
class Offering:
    """Makes, records and hands out the mails of one population."""

    host: Host
    population: Population

    def make(self, index: int, sender: int, due_ns: int) -> Mail:
        """The ``index``-th mail, due at ``due_ns``, in the ledger."""
        mail = self.host.messages.make(self.population, index, sender, due_ns)
        self._offer(mail)
        return mail

    def make_many(self, first: int, count: int, sender: int, due_ns: int) -> list[Mail]:
        """``count`` mails from the ``first``-th on."""
        host, messages, population = self.host, self.host.messages, self.population
        mails = messages.make_many(population, first, count, sender, due_ns)
        rows = [
            pack_offer(mail.number, due_ns, rcpt, sender, mail.template.size, population, mail.flags, 0, sha)
            for mail in mails for sha in (messages.sha(mail),) for rcpt in mail.rcpts
        ]  # fmt: skip
        if population is Population.STEADY:  # watchers look for ordinary mail only
            for mail in mails:
                host.watcher.offered(mail)
        host.stats.counts.due += count
        host.stats.counts.offered += len(rows)
        host.ledger.offers(b"".join(rows))
        return mails

    def _offer(self, mail: Mail) -> None:
        messages, counts = self.host.messages, self.host.stats.counts
        counts.due += 1
        counts.offered += len(mail.rcpts)
        self.host.watcher.offered(mail)
        self.host.ledger.offer(
            mail.number, mail.due_ns, mail.rcpts, mail.sender, messages.size(mail), self.population, mail.flags, messages.sha(mail)
        )

"""The census itself: two rounds of queues, then mailboxes, then sinks, then the queues again."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.census import pop_reader, survey
from harness.census.canonical import Seen
from harness.census.found import Scope
from harness.census.mailboxes import Mailboxes, inbox_of
from harness.census.queue_reader import belongs, places, read_place
from harness.census.settle import settle
from harness.census.sink_reader import read_pod, read_sinks
from harness.census.spec import POP_LEAST_S, ROUNDS, CensusSpec, target_of
from harness.errors import MailgaleError
from harness.kube.client import Cluster
from harness.store.log import LogWriter


def take(spec: CensusSpec) -> None:
    """Take the census and write ``census.log`` into the arm's directory.

    Each round reads queues, mailboxes and quarantine, sinks, and the queues once more, so that a mail which moves from a
    queue to a mailbox in between is met at least once; what a later look at a queue shows a second time is left out.
    A place that cannot be read is a ``scope`` with ``complete`` false, never an exception. Where the spec says ``settle_s``, the
    wait for acknowledged mail comes first; the phases ``settle`` and ``census`` are then written here.

    :raises OSError: the log cannot be written.
    :raises StoreDamaged: the survey that the spec speaks of does not read.
    """
    mailboxes = Mailboxes(spec, survey.read(Path(spec.arm_dir)) if spec.survey else None)
    log = LogWriter(Path(spec.arm_dir) / "census.log", "census")
    try:
        _take(spec, log, mailboxes)
    except BaseException:
        log.abandon()  # an end mark would say that this census is whole
        raise
    log.close()


def _take(spec: CensusSpec, log: LogWriter, mailboxes: Mailboxes) -> None:
    if not spec.settle_s:
        _rounds(spec, log, mailboxes)
        return
    with _phase(log, "settle"):
        settle(spec, mailboxes, log)
    with _phase(log, "census"):
        _rounds(spec, log, mailboxes)


def _rounds(spec: CensusSpec, log: LogWriter, mailboxes: Mailboxes) -> None:
    for number in ROUNDS:
        _Round(spec, number, log, mailboxes).read()


@contextmanager
def _phase(log: LogWriter, name: str) -> Iterator[None]:
    log.event("phase", name=name, edge="begin")
    log.flush()
    yield
    log.event("phase", name=name, edge="end")
    log.flush()


class _Round:
    def __init__(self, spec: CensusSpec, number: int, log: LogWriter, mailboxes: Mailboxes) -> None:
        self.spec, self.number, self.log, self.mailboxes = spec, number, log, mailboxes
        self.inboxes: dict[str, list[Seen]] = {}
        self.arrived: set[tuple[int | None, str]] = set()

    def read(self) -> None:
        first, end = self._queues(), time.monotonic() + self.spec.deadline_s
        self.mailboxes.read(self._mailbox)
        if self.spec.imap is not None and self.spec.pop3 is not None:
            rest = replace(self.spec, deadline_s=max(end - time.monotonic(), POP_LEAST_S))
            pop_reader.read_sample(rest, self.inboxes, self._write, self.mailboxes.pop)
        self._sinks()
        for scope in merged(first, self._queues(), self.arrived):
            self._write(scope)
        self.log.flush()

    def _write(self, scope: Scope) -> None:
        for copy in scope:
            self.arrived.add((copy.seen.mail, copy.recipient))
            self.log.event("copy", round=self.number, **copy.fields())
        self.log.event("scope", round=self.number, **scope.fields())
        self.log.flush()

    def _mailbox(self, scope: Scope) -> None:
        address = inbox_of(scope)
        if address and scope.complete:
            self.inboxes[address] = [c.seen for c in scope]
        self._write(scope)

    def _sinks(self) -> None:
        try:
            for scope in self._sink_scopes():
                self._write(scope)
        except (OSError, MailgaleError) as error:
            self._write(Scope("sink", "*").fail(str(error)))

    def _sink_scopes(self) -> Iterator[Scope]:
        """Sinks on volumes of this host, else inside their pods."""
        root = Path(self.spec.volumes_dir) / self.spec.namespace
        if self.spec.volumes_dir and root.is_dir():
            for claim in sorted(p for p in root.iterdir() if p.is_dir() and belongs(p.name, self.spec.sink_components)):
                yield from read_sinks(claim, self.spec.prefix)
        elif self.spec.target is not None:
            cluster = Cluster(target_of(self.spec.target))
            for pod in cluster.pods(self.spec.namespace):
                if pod.component in self.spec.sink_components:
                    yield read_pod(cluster, pod, self.spec.sink_path, self.spec.prefix)

    def _queues(self) -> list[Scope]:
        try:
            found = places(self.spec)
        except (OSError, MailgaleError) as error:
            return [Scope("queue", "*").fail(str(error))]
        return [scope for place in found for scope in read_place(place, self.spec.prefix)]


def merged(first: Sequence[Scope], second: Sequence[Scope], arrived: Collection[tuple[int | None, str]]) -> list[Scope]:
    """Both looks at the queues of one round, each queue file and recipient once; incomplete if either look was.

    :param arrived: (mail, recipient) found elsewhere between the looks: what only the first look saw and has arrived since
        has moved; counted in both places it would look like a duplicate.
    """
    by_where: dict[str, Scope] = {}
    taken: set[tuple[str, str, str]] = set()
    for scope, is_last in [*((s, True) for s in second), *((s, False) for s in first)]:
        kept = by_where.setdefault(scope.where, Scope(scope.source, scope.where, detail=scope.detail))
        if not scope.complete and scope.why not in kept.why:
            kept.fail(scope.why)
        for copy in scope:
            key = (copy.where.rpartition(":")[0], copy.uid, copy.recipient)
            if key not in taken and (is_last or copy.seen.mail is None or (copy.seen.mail, copy.recipient) not in arrived):
                taken.add(key)
                kept.copies.append(copy)
    return list(by_where.values())



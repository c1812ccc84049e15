"""Waiting for acknowledged mail where queues cannot be listed: until all of it has arrived, or the time is over.

What was acknowledged is read from the load's own logs, and what its readers have deleted, or may have, is not waited for; the mailboxes are read as in a round, so that each message is fetched once.
Ends early only when every acknowledged mail is there and nothing more has come for STABLE_S: absence is called loss only after the
whole wait. Limits: an unexplained copy that arrives after an early end goes unseen, as any that arrives after a census.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from harness.census.found import Scope
from harness.census.mailboxes import Mailboxes
from harness.census.spec import CensusSpec
from harness.errors import NotReady
from harness.model.outcome import Outcome
from harness.store.log import LogWriter
from harness.store.ops import BLOCK_TYPES, DONE
from harness.store.reader import Directory, Rows, read_log
from harness.support.clock import now_ns, wait_for

STABLE_S = 3.0
LOOK_EVERY_S = 1.0
_DONE_TYPE = next(n for n, dtype in BLOCK_TYPES.items() if dtype == DONE)
Pair = tuple[int, str]


def settle(spec: CensusSpec, mailboxes: Mailboxes, log: LogWriter) -> None:
    """Look until everything is there and stable, ``spec.settle_s`` at most, and write ``settled`` with what was waited for."""
    waiting = _Waiting(spec, mailboxes)
    try:
        wait_for(waiting.over, deadline_s=spec.settle_s, what="acknowledged mail to arrive", every_s=LOOK_EVERY_S)
    except NotReady:
        waiting.look()
    left = waiting.wanted - waiting.found
    log.event(
        "settled", quiet=waiting.quiet, acknowledged=len(waiting.wanted), missing=len(left), looks=waiting.looks,
        waited_s=round((now_ns() - waiting.begun) / 1e9, 3), errors=sorted(waiting.errors)[:20],
    )


class _Waiting:
    def __init__(self, spec: CensusSpec, mailboxes: Mailboxes) -> None:
        self.wanted = acknowledged(Path(spec.arm_dir))
        self.mailboxes, self.looks = mailboxes, 0
        self.found: set[Pair] = set()
        self.errors: set[str] = set()
        self.begun = self.changed = now_ns()
        self.due, self.copies, self.quiet = self.begun, -1, False

    def over(self) -> bool:
        """Whether the wait may end; looks at the mailboxes when a look is due."""
        if now_ns() >= self.due:
            self.look()
        return self.quiet

    def look(self) -> None:
        """Read once. The next look is due after as long again as this one took, so that the wait is no load of its own."""
        begin, before = now_ns(), self.copies
        self.copies, self.errors = 0, set()
        self.mailboxes.read(self._scope)
        self.looks += 1
        now = now_ns()
        if self.copies != before:
            self.changed = now
        self.due = now + max(now - begin, int(LOOK_EVERY_S * 1e9))
        self.quiet = not self.errors and self.wanted <= self.found and now - self.changed >= STABLE_S * 1e9

    def _scope(self, scope: Scope) -> None:
        self.copies += len(scope.copies)
        self.found |= {(c.seen.mail, c.recipient.lower()) for c in scope if c.seen.mail is not None}
        if not scope.complete:
            self.errors.add(f"{scope.where}: {scope.why}")


def acknowledged(arm_dir: Path) -> set[Pair]:
    """(mail, recipient's address) of every acknowledgement in the load's logs, but for what its own reader has deleted."""
    found: set[Pair] = set()
    gone: set[Pair] = set()
    for path in sorted(arm_dir.glob("load-*.log")):
        directory, accepted = Directory(), _Accepted()
        content = read_log(path, directory, accepted.add, io.BytesIO())
        gone |= {(int(e["mail"]), str(e["mailbox"]).partition("/")[0].lower()) for e in content.events if e["kind"] in ("deleting", "expunged")}
        names = list(directory.recipients)
        for rows in accepted.rows:
            found |= {(mail, names[rcpt]) for mail, rcpt in zip(rows["mail"].tolist(), rows["rcpt"].tolist(), strict=True)}
    return found - gone


class _Accepted:
    """Keeps the rows of acknowledgements and drops all others."""

    def __init__(self) -> None:
        self.rows: list[Rows] = []

    def add(self, kind: int, rows: Rows) -> None:
        if kind == _DONE_TYPE:
            self.rows.append(np.ascontiguousarray(rows[rows["outcome"] == int(Outcome.OK)]))

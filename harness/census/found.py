"""What readers hand on: copies and scopes, as DESIGN.md's events name their fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.census.canonical import Seen

#: Octets of reasons after which a scope takes no more of them.
WHY_MAX = 500


@dataclass(frozen=True)
class Copy:
    """One copy of one mail for one recipient, found in one place.

    :param uid: IMAP UID, or what else names the copy in its place.
    :param queue: incoming, active, deferred, hold or corrupt; "" when it is in no queue.
    :param orphan: a queue file of no running pod.
    :param flags: those of ``CensusSpec.flags`` that the message has; None = nobody looked.
    :param detail: more, for the reader of the log (a sink's client address, what a DSN says).
    """

    source: str
    where: str
    recipient: str
    seen: Seen
    uid: str = ""
    queue: str = ""
    orphan: bool = False
    flags: tuple[str, ...] | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields of the event ``copy``."""
        return {
            "source": self.source, "where": self.where, "recipient": self.recipient, "mail": self.seen.mail, "sha": self.seen.sha,
            "uid": self.uid, "queue": self.queue or None, "bounce_of": self.seen.bounce_of, "failed": list(self.seen.failed),
            "orphan": self.orphan, **({} if self.flags is None else {"flags": list(self.flags)}), **self.detail,
        }


@dataclass
class Scope:
    """How far one place was read.

    :param where: mailbox ``<address>/<name>`` (``<address>/*`` when its mailboxes could not even be listed), ``<pod>:<queue>``,
        or a sink's claim.
    :param complete: everything there was read. :param why: what was not.
    """

    source: str
    where: str
    complete: bool = True
    why: str = ""
    copies: list[Copy] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    def fail(self, why: str) -> Scope:
        """Mark it as not wholly read; of many reasons the first ones are kept."""
        self.complete = False
        if len(self.why) < WHY_MAX:
            self.why = f"{self.why}; {why}" if self.why else why
        elif not self.why.endswith("…"):
            self.why += "; …"
        return self

    def fields(self) -> dict[str, Any]:
        """The fields of the event ``scope``."""
        return {k: v for k, v in asdict(self).items() if k not in ("copies", "detail")} | {"found": len(self.copies)} | self.detail

    def __iter__(self) -> Iterator[Copy]:
        return iter(self.copies)

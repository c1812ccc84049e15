"""What was in the mailboxes before the load: taken once, so that a census of mailboxes in use reads only what came since.

``python -m harness.census SPEC.json --survey`` writes ``survey.log`` with one event ``before`` a mailbox: ``proto``, ``where``, and for IMAP
``uidvalidity`` and ``uidnext``, for POP3 ``uidls``. It is also the proof, before anything is sent, that every mailbox can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.census import imap_reader, pop_reader
from harness.census.found import Scope
from harness.census.imap_reader import Memory
from harness.census.pop_reader import PopMemory
from harness.census.spec import CensusSpec
from harness.errors import NotReady, StoreDamaged
from harness.store.log import Damage, LogWriter, read_events

LOG = "survey.log"
_NAMED_MAX = 3


@dataclass(frozen=True)
class Survey:
    """Mailbox → (UIDVALIDITY, UIDNEXT) by IMAP; address → unique IDs by POP3."""

    imap: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    pop3: Mapping[str, frozenset[str]] = field(default_factory=dict)


def take_survey(spec: CensusSpec) -> None:
    """Write ``survey.log`` into the arm's directory.

    :raises NotReady: a mailbox cannot be read; the message names it and why.
    :raises OSError: the log cannot be written.
    """
    unread: list[Scope] = []
    with LogWriter(Path(spec.arm_dir) / LOG, "survey") as log:

        def keep(proto: str, scope: Scope) -> None:
            if not scope.complete:
                unread.append(scope)
            log.event("before", proto=proto, where=scope.where, complete=scope.complete, **scope.detail)
            log.flush()

        if spec.imap is not None:
            asyncio.run(imap_reader.read_all(spec, Memory(survey=True), lambda scope: keep("imap", scope)))
        if spec.pop3 is not None:
            addresses = pop_reader.sample(spec) if spec.imap is not None else ()
            pop_reader.read_all(spec, PopMemory(survey=True), lambda scope: keep("pop3", scope), addresses)
    if unread:
        named = "; ".join(f"{s.where}: {s.why}" for s in unread[:_NAMED_MAX])
        raise NotReady(f"{len(unread)} mailboxes cannot be read: {named}", todo="see addresses, passwords, port and TLS mode")


def read(arm_dir: Path) -> Survey:
    """The survey in ``arm_dir``.

    :raises StoreDamaged: it does not read, or is not whole: then nobody knows what is new.
    """
    imap: dict[str, tuple[int, int]] = {}
    pop3: dict[str, frozenset[str]] = {}
    kind = ""
    for event in read_events(arm_dir / LOG):
        if isinstance(event, Damage):
            raise StoreDamaged(event.what, where=str(arm_dir / LOG))
        kind = str(event["kind"])
        if kind == "before" and event["proto"] == "imap":
            imap[str(event["where"])] = int(event.get("uidvalidity", 0)), int(event.get("uidnext", 0))
        elif kind == "before":
            pop3[str(event["where"]).partition("/")[0]] = frozenset(map(str, event.get("uidls", ())))
    if kind != "log_closed":
        raise StoreDamaged("is not whole", where=str(arm_dir / LOG))
    return Survey(imap, pop3)

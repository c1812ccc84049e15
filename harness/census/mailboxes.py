"""All mailboxes of all users by the readers that there are: IMAP where there is a server, else POP3. Remembers between rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.census import imap_reader, pop_reader
from harness.census.found import Scope
from harness.census.imap_reader import Memory
from harness.census.pop_reader import PopMemory
from harness.census.spec import CensusSpec
from harness.census.survey import Survey


class Mailboxes:
    """The mailboxes that a spec names.

    :param before: what was there before the load; None when nobody looked.
    """

    def __init__(self, spec: CensusSpec, before: Survey | None = None) -> None:
        self.spec = spec
        self.imap = Memory(before=before.imap if before else {})
        self.pop = PopMemory(before=before.pop3 if before else {})

    def read(self, on_scope: Callable[[Scope], None]) -> None:
        """Read what is new since the last time, confirm the rest; ``on_scope`` is called with each mailbox."""
        if self.spec.imap is not None:
            asyncio.run(imap_reader.read_all(self.spec, self.imap, on_scope))
        elif self.spec.pop3 is not None:
            pop_reader.read_all(self.spec, self.pop, on_scope)


def inbox_of(scope: Scope) -> str:
    """The address whose INBOX ``scope`` is; "" when it is another mailbox."""
    address, _, name = scope.where.partition("/")
    return address if name == "INBOX" else ""

"""The rows of ``load-<n>.log``: one write(2) per turn of the loop, before that turn's bytes go out.

Bytes of a turn wait in :meth:`Ledger.after_write` until the turn's rows have reached the kernel. So a SIGKILL at any moment
leaves no mail on the wire that the log does not know. Rows are those of harness.store.ops.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.mail.replies import RecipientResult
from harness.model.outcome import Outcome, Proto, UserOp
from harness.store.log import LogWriter
from harness.store.ops import pack_enhanced
from harness.support.clock import now_ns

OFFER, INVOKE, DONE, USEROP = 2, 3, 4, 5
pack_offer = struct.Struct("<QQIIIBBH16s").pack
pack_invoke = struct.Struct("<QQIHBB").pack
pack_end = struct.Struct("<QQIH").pack  #: the front of a DONE row, what its mail has of its own
pack_how = struct.Struct("<BBBBHI").pack  #: its rest, what equal replies share
pack_userop = struct.Struct("<QQIIBBBBI").pack
REPLY_KINDS_MAX = 1000
OFFER_BYTES_MAX = 4 << 20  #: a large backlog is written in blocks of this size


class Ledger:
    """Buffers rows and writes them once a turn.

    :param path: must not exist yet.
    :raises OSError: from :meth:`flush` when the disk is full; the engine ends then, since unrecorded load is worth nothing.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._log, self._loop = LogWriter(path, "load"), loop
        self._offers, self._invokes, self._dones, self._userops = bytearray(), bytearray(), bytearray(), bytearray()
        self._later: list[Callable[[], None]] = []
        self._scheduled = False
        self._replies: set[tuple[int, str, int, str]] = set()
        self._lacking: set[tuple[str, str]] = set()
        self._last: RecipientResult | None = None
        self._how: dict[Proto, bytes] = {}  #: rows' rests of the last result
        self.failed: OSError | None = None
        self.on_failure: Callable[[], None] = lambda: None

    def offer(
        self, mail: int, due_ns: int, rcpts: Iterable[int], sender: int, size: int, population: int, flags: int, sha: bytes
    ) -> None:
        """A mail the load means to hand over: one row per recipient."""
        for rcpt in rcpts:
            self._offers += pack_offer(mail, due_ns, rcpt, sender, size, population, flags, 0, sha)
        if len(self._offers) > OFFER_BYTES_MAX:
            self.flush()
        if not self._scheduled:
            self._schedule()

    def offers(self, rows: bytes) -> None:
        """Many mails at once, as rows of ``pack_offer``."""
        self._offers += rows
        if len(self._offers) > OFFER_BYTES_MAX:
            self.flush()
        self._schedule()

    def invoke(self, mail: int, rcpts: Iterable[int], attempt: int, proto: Proto) -> int:
        """An attempt begins now; put its first byte into :meth:`after_write`. Returns the time written."""
        t = now_ns()
        for rcpt in rcpts:
            self._invokes += pack_invoke(mail, t, rcpt, attempt, proto, 0)
        if not self._scheduled:
            self._schedule()
        return t

    def done(self, mail: int, rcpt: int, attempt: int, proto: Proto, result: RecipientResult, t: int) -> None:
        """An attempt has ended for one recipient at ``t``; the text of the first reply of each kind is kept."""
        if result is not self._last:  # equal replies share one result
            self._last, self._how = result, {}
            if result.code or result.enhanced:
                self._reply(result)
        self._dones += pack_end(mail, t, rcpt, attempt) + (self._how.get(proto) or self._told(proto, result))
        if not self._scheduled:
            self._schedule()

    def _told(self, proto: Proto, result: RecipientResult) -> bytes:
        """A DONE row's rest, kept for the next row."""
        outcome, stage, code, enhanced, deferral, _ = result
        how = self._how[proto] = pack_how(proto, outcome, stage, deferral, code, pack_enhanced(enhanced))
        return how

    def user_op(self, start_ns: int, user: int, octets: int, proto: Proto, op: UserOp, outcome: Outcome, code: int = 0) -> None:
        """One operation of a reading user has ended now."""
        self._userops += pack_userop(start_ns, now_ns(), user, min(octets, 0xFFFFFFFF), proto, op, outcome, 0, code)
        self._schedule()

    def _reply(self, result: RecipientResult) -> None:
        """Keep the text of the first reply of each kind; an acknowledgement's text holds a queue ID and makes no kind of its own."""
        _, stage, code, enhanced, deferral, text = result
        kind = (code, enhanced, int(stage), text[:24] if code >= 300 or not code else "")
        if kind not in self._replies and len(self._replies) < REPLY_KINDS_MAX:
            self._replies.add(kind)
            self.event(
                "reply", code=code, enhanced=enhanced, stage=stage.name.lower(), text=text[:500], deferral=deferral.name.lower()
            )

    def not_offered(self, proto: str, extension: str) -> None:
        """Say once that a server does not offer what the scenario would use."""
        if (proto, extension) not in self._lacking:
            self._lacking.add((proto, extension))
            self.event("not_offered", proto=proto, extension=extension)

    def event(self, kind: str, **fields: Any) -> None:
        """A JSON event."""
        self._log.event(kind, **fields)
        self._schedule()

    def after_write(self, act: Callable[[], None]) -> None:
        """Call ``act`` once this turn's rows have been written, at once when they are: the place where bytes are sent."""
        if self._scheduled:
            self._later.append(act)
        elif self.failed is None:
            act()

    def flush(self) -> None:
        """Write what is buffered, then let the waiting bytes go. After a failed write nothing goes out any more."""
        self._scheduled = False
        if self.failed is not None:
            return
        blocks = [(OFFER, self._offers), (INVOKE, self._invokes), (DONE, self._dones), (USEROP, self._userops)]
        self._offers, self._invokes, self._dones, self._userops = bytearray(), bytearray(), bytearray(), bytearray()
        try:
            self._log.batch(blocks)
        except OSError as error:
            self.failed = error
            self.on_failure()
            return
        later, self._later = self._later, []
        for act in later:
            act()

    def close(self) -> None:
        """Write the rest and ``log_closed``.

        :raises OSError: it could not be written; the log then counts as cut off.
        """
        self.flush()
        if self.failed is not None:
            raise self.failed
        self._log.close()

    def _schedule(self) -> None:
        """Rows wait: they are written when this turn of the loop ends."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

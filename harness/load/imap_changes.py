"""What an IMAP user changes: it deletes and moves some of the mails it has read, and puts mails of its own into a mailbox.

Each change is on record before its first byte (``deleting``, ``moving``; of an APPEND the rows of an attempt) and when the server has
acknowledged it (``expunged``, ``moved``; DONE). Without an end on record it may have taken effect or not. An APPEND that the server said NO to is
a refusal, one without an answer is in doubt. Sources: RFC 9051 sections 6.3.12 and 6.4.3, RFC 4315 (UID EXPUNGE), RFC 6851 (MOVE).

Limits: a mail that was deleted is not hashed, since the census does not meet it; nothing is moved where the server does not offer MOVE.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count

from harness.load.params import ARCHIVE, SENT
from harness.load.reader import Reader
from harness.mail.asking import Refused
from harness.mail.imap import ImapClient
from harness.mail.replies import RecipientResult
from harness.model.outcome import Deferral, Outcome, Population, Proto, Stage, UserOp
from harness.support.clock import now_ns

_DELETED = ("\\Deleted",)


class Changes:
    """Of one user, as its scenario says."""

    def __init__(self, reader: Reader) -> None:
        params = reader.params
        self._reader = reader
        self._delete, self._move, self._append = params.delete_share, params.move_share, params.append_share
        self._made: set[str] = set()
        self._numbers = count(1)

    @property
    def wanted(self) -> bool:
        """The mailbox that is read will be changed."""
        return bool(self._delete or self._move)

    async def read(self, client: ImapClient, uid: int, mail: int) -> None:
        """A mail of this load was read: delete it, move it, or leave it.

        :raises OSError: the connection is gone, or the log takes no more. :raises Refused: the server said no.
        """
        if not self.wanted:
            return
        draw = self._reader.draw()
        if draw < self._delete:
            await self._expunge(client, uid, mail)
        elif draw < self._delete + self._move:
            await self._archive(client, uid, mail)

    async def _expunge(self, client: ImapClient, uid: int, mail: int) -> None:
        reader = self._reader
        reader.changes("deleting", mail, str(uid))
        await reader.op(UserOp.STORE, client.store(str(uid), "+FLAGS.SILENT", _DELETED, uid=True))
        await reader.op(UserOp.EXPUNGE, client.expunge(str(uid)))
        reader.changes("expunged", mail, str(uid))

    async def _archive(self, client: ImapClient, uid: int, mail: int) -> None:
        reader = self._reader
        if "MOVE" not in client.capabilities:
            return reader.host.ledger.not_offered("imap", "MOVE")
        await self._make(client, ARCHIVE)
        reader.changes("moving", mail, str(uid), to=ARCHIVE)
        await reader.op(UserOp.MOVE, client.move(str(uid), ARCHIVE, uid=True))
        reader.changes("moved", mail, str(uid), to=ARCHIVE)
        return None

    async def append(self, client: ImapClient) -> None:
        """Perhaps put a mail of its own into the mailbox for such. Raises as :meth:`read`."""
        if self._append and self._reader.chance(self._append):
            await self._make(client, SENT)
            await self._put(client)

    async def _make(self, client: ImapClient, name: str) -> None:
        """See that the mailbox is there; it may have been before."""
        if name not in self._made:
            with suppress(Refused):
                await client.create(name)
            self._made.add(name)

    async def _put(self, client: ImapClient) -> None:
        reader = self._reader
        host, counts = reader.host, reader.host.stats.counts
        mail = host.messages.own((reader.number << 32) + next(self._numbers), reader.sender, reader.number, now_ns())
        host.ledger.offer(
            mail.number, mail.due_ns, mail.rcpts, mail.sender, host.messages.size(mail), Population.APPENDER, mail.flags, host.messages.sha(mail)
        )
        host.ledger.invoke(mail.number, mail.rcpts, 1, Proto.IMAP)
        host.ledger.flush()
        if host.ledger.failed is not None:
            raise host.ledger.failed
        counts.due += 1
        counts.offered += 1
        counts.attempted += 1
        octets = host.messages.render(mail)
        try:
            await reader.op(UserOp.APPEND, client.append(SENT, octets), lambda _: len(octets))
        except Refused as refused:
            counts.rejected += 1
            self._ended(mail.number, RecipientResult(Outcome.FAIL, Stage.DATA, 0, "5.0.0", Deferral.NONE, str(refused)[:500]))
            raise
        except OSError as lost:
            counts.undetermined += 1
            self._ended(mail.number, RecipientResult(Outcome.INFO, Stage.DOT, 0, "", Deferral.NONE, str(lost)[:500]))
            raise
        counts.accepted += 1
        self._ended(mail.number, RecipientResult(Outcome.OK, Stage.DOT, 0, "", Deferral.NONE, ""))

    def _ended(self, mail: int, result: RecipientResult) -> None:
        self._reader.host.ledger.done(mail, self._reader.number, 1, Proto.IMAP, result, now_ns())

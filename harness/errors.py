"""The error tree. Each class carries the exit code that ``mailgale`` ends with.

    MailgaleError                3   fault of the harness (base; also raised as it is for broken invariants)
    ├── UsageError               4   a command line that cannot be carried out
    │   └── PlanError            4   a plan that cannot be run: file, line, what is wrong, the nearest valid name
    ├── GuardRefused             7   a guard said no, or could not be evaluated
    ├── NotReady                 8   preflight or set-up failed
    │   ├── ClusterFailed        8   engine, node image or cluster
    │   └── StackFailed          8   images, manifests, readiness
    ├── BudgetExceeded           9   a budget ended the run
    │   └── StopCondition        9   a stop condition of the plan did, whatever the verdict
    ├── CleanupIncomplete       10   something is left behind; overrides every other code
    ├── StoreDamaged             3   a run directory that does not read back as it was written
    ├── RecordLost               3   the disk took no more: what was to be recorded is not
    ├── CommandFailed            3   an external command ended non-zero or ran out of time
    └── Interrupted              2   Ctrl-C or SIGTERM; everything was undone

``NotSupported`` stands beside the tree: it is no failure. It says what this kernel or target lacks; the caller
reports "not supported here" and goes on.
"""

from __future__ import annotations

import errno


class MailgaleError(Exception):
    """A sentence with what went wrong, where, and what to do about it.

    :param what: one clear sentence.
    :param where: file, line, pod or command concerned ("" when there is none).
    :param todo: what the reader can do now ("" when there is nothing).
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} ({self.todo})" if self.todo else head


class UsageError(MailgaleError):
    """A command line that cannot be carried out."""

    exit_code = 4


class PlanError(UsageError):
    """A plan that cannot be run; ``where`` is ``file:line``."""


class GuardRefused(MailgaleError):
    """A guard said no, or could not be evaluated."""

    exit_code = 7


class NotReady(MailgaleError):
    """Preflight or set-up failed before anything was judged."""

    exit_code = 8


class ClusterFailed(NotReady):
    """Engine, node image or cluster could not be brought up."""


class StackFailed(NotReady):
    """Images, manifests or readiness of the stack under test."""


class BudgetExceeded(MailgaleError):
    """A budget ended the run."""

    exit_code = 9


class StopCondition(BudgetExceeded):
    """A stop condition of the plan ended the run. The verdict on what was seen until then does not change the exit code."""


class CleanupIncomplete(MailgaleError):
    """Something is left behind; the message lists it. Overrides every other exit code."""

    exit_code = 10


class StoreDamaged(MailgaleError):
    """A run directory that does not read back as it was written."""


class RecordLost(MailgaleError):
    """The record could not be written (disk full, quota, I/O error). What was written before stays readable."""

    @classmethod
    def of(cls, error: OSError, where: str = "") -> RecordLost:
        """From what the kernel said. ``where``: the file or run, when the error does not name one."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = "make room, then give the same command again" if full else ""
        return cls(f"the record cannot go on: {error.strerror or error}", where=str(error.filename or where), todo=todo)


class CommandFailed(MailgaleError):
    """An external command ended non-zero or ran out of time."""


class Interrupted(MailgaleError):
    """Ctrl-C or SIGTERM; everything that was started has been undone."""

    exit_code = 2


class NotSupported(Exception):
    """What this kernel, machine or target lacks. Reported as "not supported here"; never a failure, never faked."""

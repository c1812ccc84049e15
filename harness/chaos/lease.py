"""The run's lease: without it no action acts.

The conductor writes a file with a random token, keeps it while the run lives and removes it at its end. Actions learn path and token from
``MAILGALE_RUN_LEASE`` (``<token>@<path>``). A lease whose conductor is dead is no lease; so a forgotten process cannot hurt.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import GuardRefused
from harness.support.process import birth

VARIABLE = "MAILGALE_RUN_LEASE"


@dataclass(frozen=True)
class Lease:
    """A lease as its holder or an action knows it."""

    path: Path
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to act under this lease."""
        return {VARIABLE: f"{self.token}@{self.path}"}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Lease:
        """The lease this process was given.

        :raises GuardRefused: none was.
        """
        token, mark, path = (os.environ if environment is None else environment).get(VARIABLE, "").partition("@")
        if not (token and mark and path):
            raise GuardRefused("this process has no lease of a run, so it may not act", todo="faults are started by 'mailgale run'")
        return cls(Path(path), token)

    def check(self, *, run_id: str, namespace: str) -> None:
        """Refuse unless the lease holds now, for this run and namespace.

        :raises GuardRefused: it was removed, belongs to another run, cannot be read, or its holder is dead.
        """
        try:
            held = json.loads(self.path.read_text())
            same = secrets.compare_digest(str(held["token"]), self.token)
            ours = (held["run_id"], held["namespace"]) == (run_id, namespace)
            alive = birth(int(held["pid"])) == held["birth"]
        except FileNotFoundError:
            raise GuardRefused("the run is over: its lease was removed", where=str(self.path)) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GuardRefused(f"the lease cannot be read: {error!r}", where=str(self.path)) from None
        if not same or not ours:
            raise GuardRefused("the lease is another run's", where=str(self.path))
        if not alive:
            raise GuardRefused(f"the holder of the lease, process {held['pid']}, is dead", where=str(self.path), todo="mailgale recover")


@contextmanager
def held(path: Path, *, run_id: str, namespace: str) -> Iterator[Lease]:
    """Hold a lease for ``namespace`` in the name of this process; the file is removed on every way out.

    :raises GuardRefused: the file is there already.
    """
    lease = Lease(path, secrets.token_hex(16))
    body = {"token": lease.token, "run_id": run_id, "namespace": namespace, "pid": os.getpid(), "birth": birth(os.getpid())}
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise GuardRefused("a lease is there already", where=str(path), todo="mailgale recover") from None
    with os.fdopen(handle, "w") as file:
        json.dump(body, file)
    try:
        yield lease
    finally:
        path.unlink(missing_ok=True)

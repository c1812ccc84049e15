"""The checkout that mailgale runs from, and the names that keep two checkouts on one machine apart."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import GuardRefused, UsageError


@dataclass(frozen=True)
class Checkout:
    """Paths and identity of one checkout. ``id`` is eight hex digits of its path's hash."""

    root: Path

    @classmethod
    def find(cls) -> Checkout:
        """The checkout this package was imported from (an editable install).

        :raises UsageError: when the package does not lie in a checkout.
        """
        root = Path(__file__).resolve().parents[2]
        if not (root / "deploy").is_dir() or not (root / "pyproject.toml").is_file():
            raise UsageError("mailgale runs from a checkout", where=str(root), todo="run 'make setup' in one")
        return cls(root)

    @property
    def id(self) -> str:
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def cluster_name(self) -> str:
        return f"mailgale-{self.id}"

    def namespace(self, suffix: str) -> str:
        """The namespace of this checkout's stack called ``suffix``."""
        return f"mailgale-{self.id}-{suffix}"

    @property
    def state(self) -> Path:
        """Per-checkout state that git ignores: kubeconfig, locks, tools."""
        return self.root / ".mailgale"

    @property
    def cache(self) -> Path:
        """Shared between checkouts, by recipe hash; safe to delete."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "mailgale"

    @property
    def runs(self) -> Path:
        return self.root / "reports" / "runs"

    def refuse_if_held(self, name: str) -> None:
        """Before something that would hurt whoever holds ``name``, and long before :meth:`lock` is taken.

        :raises GuardRefused: another process holds it.
        """
        with self.lock(name):
            return

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold ``name`` for this checkout; released by the kernel if the process dies.

        :raises GuardRefused: when another process holds it.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / f"{name}.lock"
        with path.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GuardRefused(
                    f"another mailgale process holds '{name}'", where=str(path), todo="wait for it or stop it"
                ) from None
            yield

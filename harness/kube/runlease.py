"""One run at a time on a cluster: a Lease (coordination.k8s.io/v1) that the conductor holds and renews.

    with held(gateway, checkout_id, on_takeover=log) as lease:
        lease.name_run(run_id)
        lease.check()          # before anything new begins

The holder is a process (host, boot, number, birth), so that on the same host a dead holder is known at once. From another host it
counts as dead once its lease has not changed for as long as it says it lasts; only then is it taken over, and that is recorded. The
janitor in the cluster (deploy/components/janitor) watches the same lease. Source: KEP-589 and client-go's leaderelection, whose rule
"count from when the change was seen, by the own clock" is kept, so clocks of two hosts need not agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.errors import GuardRefused, NotReady
from harness.kube.api import ApiFailed, Conflict
from harness.kube.gateway import Gateway
from harness.kube.guards import LEASE_NAMESPACE
from harness.support.clock import wait_for
from harness.support.process import Identity

NAME = "mailgale-run"
#: A lease lasts so long; it is renewed three times in that time.
DURATION_S, RENEW_S = 15, 5.0
RUN, CHECKOUT = "mailgale.dev/run", "mailgale.dev/checkout"


@dataclass(frozen=True)
class Holder:
    """Who holds the lease, as the cluster says it. ``identity`` "" = nobody."""

    identity: str
    run: str
    checkout: str
    renewed: str
    duration_s: float
    version: str
    acquired: str = ""

    @classmethod
    def of(cls, lease: Mapping[str, Any]) -> Holder:
        """From the Lease's JSON."""
        spec, meta = lease.get("spec") or {}, lease["metadata"]
        notes = meta.get("annotations") or {}
        return cls(
            str(spec.get("holderIdentity") or ""), str(notes.get(RUN, "")), str(notes.get(CHECKOUT, "")), str(spec.get("renewTime") or ""),
            float(spec.get("leaseDurationSeconds") or DURATION_S), str(meta.get("resourceVersion", "")), str(spec.get("acquireTime") or ""),
        )

    def __str__(self) -> str:
        process = Identity.read(self.identity)
        who = f"process {process.pid} on {process.host}" if process else self.identity
        return f"{self.run or 'a run that has no name yet'} (checkout {self.checkout}, {who}, renewed {self.renewed})"

    @property
    def age_s(self) -> float:
        """Seconds since it was renewed, by this host's wall clock; infinite where that does not read."""
        try:
            return (datetime.now(UTC) - datetime.fromisoformat(self.renewed)).total_seconds()
        except (ValueError, TypeError):
            return float("inf")


class RunLease:
    """The lease while this process holds it. ``identity`` is what the cluster knows the holder by."""

    def __init__(self, gateway: Gateway, checkout_id: str) -> None:
        self._gateway, self._notes = gateway, {CHECKOUT: checkout_id}
        self.identity, self._version, self._acquired = str(Identity.own()), "", _now()
        self._lock, self._over = threading.Lock(), threading.Event()
        self.lost = ""  #: why it is not ours any more
        self.renewed = time.monotonic()  #: when it was renewed last
        self._thread = threading.Thread(target=self._renewing, name="run lease", daemon=True)

    def acquire(self) -> Holder | None:
        """Take the lease and begin to renew it; the dead holder from whom it was taken over, None when there was none.

        :raises GuardRefused: a run holds it, or it cannot be read or written.
        """
        try:
            found = holder(self._gateway)
            if found is not None and found.identity and not _dead(self._gateway, found):
                raise _refusal(found)
            self._version = found.version if found else ""
            self._write()
        except Conflict as error:
            raise _refusal(holder(self._gateway)) from error
        except ApiFailed as error:
            raise GuardRefused(f"the cluster's lease cannot be had, so nothing begins: {error}", where=_WHERE) from error
        self._thread.start()
        return found if found and found.identity else None

    def name_run(self, run_id: str) -> None:
        """Say in the lease which run it is for. A write that fails is made up for by the next renewal."""
        self._notes[RUN] = run_id
        with suppress(ApiFailed, GuardRefused):
            self._write()

    def check(self) -> None:
        """:raises GuardRefused: somebody else has taken the lease over."""
        if self.lost:
            raise GuardRefused(f"the cluster's lease is lost: {self.lost}", where=_WHERE, todo="mailgale recover")

    def release(self) -> None:
        """End renewing and delete the lease; one that is another's by now stays."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2 * RENEW_S)
        with self._lock:
            if self.lost:
                return
            try:
                self._gateway.delete_lease(NAME, version=self._version)
            except (ApiFailed, GuardRefused):  # it runs out by itself
                _LEFT.add(self._acquired)

    def _write(self) -> None:
        with self._lock:
            spec = {"holderIdentity": self.identity, "leaseDurationSeconds": DURATION_S, "acquireTime": self._acquired, "renewTime": _now()}
            made = self._gateway.put_lease(NAME, spec, self._notes, version=self._version)
            self._version, self.renewed = Holder.of(made).version, time.monotonic()

    def _renewing(self) -> None:
        while not self._over.wait(RENEW_S) and not self.lost:
            with suppress(ApiFailed, GuardRefused):  # an API server that is away: the next turn tries again
                self._renew()

    def _renew(self) -> None:
        try:
            self._write()
        except Conflict:
            found = holder(self._gateway)
            if found is not None and found.identity == self.identity:
                self._version = found.version
            else:
                self.lost = f"held by {found}" if found else "deleted"


@contextmanager
def held(gateway: Gateway, checkout_id: str, *, on_takeover: Callable[[Holder], None] = lambda holder: None) -> Iterator[RunLease]:
    """Hold the cluster's lease; released on every way out.

    :param on_takeover: told of the dead holder from whom it was taken over.
    :raises GuardRefused: as of :meth:`RunLease.acquire`.
    """
    lease = RunLease(gateway, checkout_id)
    before = lease.acquire()
    try:
        if before is not None:
            on_takeover(before)
        yield lease
    finally:
        lease.release()


def holder(gateway: Gateway) -> Holder | None:
    """Who holds the lease of the gateway's cluster; None where there is none. Raises ApiFailed when it cannot be read."""
    found = gateway.cluster.find("coordination.k8s.io/v1", "Lease", NAME, LEASE_NAMESPACE)
    return Holder.of(found) if found is not None else None


_WHERE = f"Lease {LEASE_NAMESPACE}/{NAME}"
#: When leases were acquired that this process has released and could not delete: it lives, and holds them no more.
_LEFT: set[str] = set()


def _dead(gateway: Gateway, found: Holder) -> bool:
    """Whether the holder is dead: known at once on this host, else watched for as long as the lease lasts."""
    process = Identity.read(found.identity)
    if process is not None and process.here:
        return not process.alive or found.acquired in _LEFT
    if found.age_s < found.duration_s:
        return False
    try:
        wait_for(lambda: holder(gateway) != found, deadline_s=found.duration_s, what="a sign of life", every_s=1.0)
    except NotReady:
        return True
    return False


def _refusal(found: Holder | None) -> GuardRefused:
    what = f"another run is under way on this cluster: {found}" if found else "another run took the cluster's lease a moment ago"
    return GuardRefused(what, where=_WHERE, todo="wait for its end, or 'mailgale abort' it")


def _now() -> str:
    """MicroTime of the API: RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

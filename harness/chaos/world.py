"""What an action acts on: the cluster through its gateway, the nodes of a kind cluster, the lease, the fault log, the undo log."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.chaos import images, netrules, restore
from harness.chaos import spec as spec_module
from harness.chaos.dnsproxies import DnsProxies
from harness.chaos.lease import Lease
from harness.chaos.mirror import Mirror
from harness.chaos.nodes import FaultFailed as FaultFailed
from harness.chaos.nodes import Nodes
from harness.chaos.spec import ChaosSpec
from harness.chaos.undo import Entry, UndoLog
from harness.cluster import egress
from harness.errors import GuardRefused
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Mutation
from harness.kube.objects import Pod
from harness.store.log import LogWriter

T = TypeVar("T")
LOOK_S = 0.2
_UNDO_S = 120.0


class FaultLog:
    """``faults.log``. Threads may share it; each event is flushed, since a later one may never come."""

    def __init__(self, path: Path) -> None:
        self._log, self._lock = LogWriter(path, "chaos"), threading.Lock()
        self.edges: dict[str, set[str]] = {}

    def event(self, name: str, kind: str, edge: str, targets: list[str], **detail: Any) -> None:
        """One ``fault`` event (DESIGN.md)."""
        with self._lock:
            self.edges.setdefault(name, set()).add(edge)
            self._log.event("fault", name=name, fault=kind, edge=edge, targets=targets, detail=detail)
            self._log.flush()

    def mutation(self, mutation: Mutation) -> None:
        """One change of the cluster, as the gateway reports it."""
        with self._lock:
            self._log.event("mutation", verb=mutation.verb, what=mutation.what, outcome=mutation.outcome, detail=dict(mutation.detail))
            self._log.flush()

    def close(self) -> None:
        with self._lock:
            self._log.close()


@dataclass
class Hands:
    """What can be changed back, also without a running fault: the cluster and its nodes."""

    spec: ChaosSpec
    cluster: Cluster
    gateway: Gateway
    nodes: Nodes

    @classmethod
    def of(cls, spec: ChaosSpec, record: Callable[[Mutation], None] | None = None) -> Hands:
        """Hands on the cluster of ``spec``."""
        target = spec.target_object()
        cluster = Cluster(target)
        return cls(spec, cluster, Gateway(cluster, spec.checkout_id, spec.run_id, record, may=spec.may), Nodes(target))

    def workload(self, workload: str) -> dict[str, Any]:
        """The object ``Kind/name``.

        :raises FaultFailed: there is none.
        """
        kind, _, name = workload.partition("/")
        found = self.cluster.find("apps/v1", kind, name, self.spec.namespace)
        if found is None:
            raise FaultFailed("there is no such workload", where=f"{self.spec.namespace}/{workload}")
        return found

    def whole(self, workload: str, replicas: int | None = None) -> str:
        """"" when the workload has all the ready pods it asks for (and asks for ``replicas``, if given), else what is missing."""
        found = self.workload(workload)
        wanted, ready, there = _pods_of(found)
        seen = int(found.get("status", {}).get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 0))
        meant = wanted if replicas is None else replicas
        if wanted == ready == meant == there and seen:
            return ""
        return f"{workload} asks for {wanted} and has {ready} ready of {meant} meant"

    def until_whole(self, workload: str, replicas: int | None, limit_s: float) -> str:
        """Wait for :meth:`whole`; what is missing after ``limit_s``."""
        return until(lambda: self.whole(workload, replicas), limit_s)

    def undo(self, entry: Entry) -> str:
        """Carry out and verify one entry of an undo log. Idempotent. "" or what is left.

        :raises MailgaleError: an API or an engine said no; the entry stays pending then.
        """
        op = str(entry["op"])
        if op in ("whole", "scale") and self.cluster.namespace(self.spec.namespace) is None:
            return ""  # the workload went with its namespace
        if op == "whole":
            # Whatever it asks for now: another fault may be scaling it meanwhile, and restores the number itself.
            return self.until_whole(str(entry["workload"]), None, _UNDO_S)
        if op == "scale":
            if self.whole(str(entry["workload"]), int(entry["replicas"])):
                self.gateway.scale(str(entry["workload"]), self.spec.namespace, int(entry["replicas"]))
            return self.until_whole(str(entry["workload"]), int(entry["replicas"]), _UNDO_S)
        if op == "uncordon":
            return self._uncordon(str(entry["node"]))
        if op == "node_start":
            self.nodes.start(str(entry["node"]))
            return until(lambda: self._node_back(str(entry["node"])), _UNDO_S)
        if op in netrules.UNDO:
            return netrules.UNDO[op](self.nodes, entry)
        if op == "image":
            return images.restore(self.cluster, self.gateway, self.spec.namespace, entry) or self.until_whole(str(entry["workload"]), None, _UNDO_S)
        if op == "dns_rules":
            return self._no_rules(str(entry["pod"]), str(entry["uid"]))
        if op == "thaw":
            return self.nodes.thaw(str(entry["node"]), entry["processes"])
        if op in restore.UNDO:
            return restore.UNDO[op](self, entry)
        return f"unknown undo '{op}'"

    @property
    def dns(self) -> DnsProxies:
        """The DNS proxies of the run's namespace."""
        return DnsProxies(self.gateway, self.spec.namespace)

    def _no_rules(self, pod: str, uid: str) -> str:
        found = self.cluster.pod(self.spec.namespace, pod)
        if found is None or found.uid != uid:
            return ""  # rules live and die with the process
        return "" if not self.dns.put(pod, [])["rules"] else f"{pod} still holds rules"

    def _uncordon(self, node: str) -> str:
        if not self._schedulable(node):
            self.gateway.cordon(node, on=False)
        return until(lambda: "" if self._schedulable(node) else f"node {node} is still cordoned", _UNDO_S)

    def _schedulable(self, node: str) -> bool:
        return next((n.schedulable for n in self.cluster.nodes() if n.name == node), False)

    def _node_back(self, node: str) -> str:
        """"" when the node is Ready and keeps mail in as before, else what is missing."""
        if not next((n.ready for n in self.cluster.nodes() if n.name == node), False):
            return f"node {node} is not ready"
        closed = self.nodes.inside(node, "nft", "list", "table", *egress.TABLE, check=False).code == 0
        return "" if closed else f"node {node} has no rules that keep mail in"


def _pods_of(workload: Mapping[str, Any]) -> tuple[int, int, int]:
    """Pods that a workload asks for, that are ready, and that are there. A DaemonSet asks for one on each node that it may use."""
    status = workload.get("status", {})
    if workload.get("kind") == "DaemonSet":
        return int(status.get("desiredNumberScheduled", 0)), int(status.get("numberReady", 0)), int(status.get("currentNumberScheduled", 0))
    return int(workload["spec"].get("replicas", 1)), int(status.get("readyReplicas", 0)), int(status.get("replicas", 0))


def until(left: Callable[[], str], limit_s: float) -> str:
    """Call ``left`` until it says "" (nothing is left); what it said last after ``limit_s``."""
    end = time.monotonic() + limit_s
    while (what := left()) and time.monotonic() < end:
        time.sleep(LOOK_S)
    return what


@dataclass
class World(Hands):
    """Hands with a lease and logs: what the actions of one process share."""

    lease: Lease = field(default_factory=Lease.from_environment)
    log: FaultLog = field(init=False)
    undo_log: UndoLog = field(init=False)
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Refuse to go on unless the lease holds and nobody asked to stop.

        :raises GuardRefused: otherwise.
        """
        if self.stop.is_set():
            raise GuardRefused("the faults were asked to stop")
        self.lease.check(run_id=self.spec.run_id, namespace=self.spec.namespace)

    def pod(self, name: str) -> Pod | None:
        """One pod of the run's namespace."""
        return self.cluster.pod(self.spec.namespace, name)

    def close(self) -> None:
        """Close both logs."""
        self.undo_log.close()
        self.log.close()


_lock = threading.Lock()
_current: World | None = None


def current() -> World:
    """The world of this process, opened by the first action; guarded by the lease before anything is opened.

    :raises GuardRefused: no lease, or no spec: somebody ran an experiment by hand.
    """
    global _current
    with _lock:
        if _current is None:
            _current = _open(Lease.from_environment())
        return _current


def opened() -> World | None:
    """The world of this process if an action opened it."""
    return _current


def _open(lease: Lease) -> World:
    path: Mapping[str, str] = os.environ
    if spec_module.VARIABLE not in path:
        raise GuardRefused("this process was not told which run it belongs to", todo="faults are started by 'mailgale run'")
    spec = ChaosSpec.load(Path(path[spec_module.VARIABLE]))
    lease.check(run_id=spec.run_id, namespace=spec.namespace)
    log = FaultLog(spec.directory / "faults.log")
    hands = Hands.of(spec, log.mutation)
    world = World(spec, hands.cluster, hands.gateway, hands.nodes, lease)
    world.log = log
    # Before the log: what cannot be mirrored may not be done, and the process ends before its first fault.
    mirror = Mirror(world.gateway, spec.namespace, spec.holder) if spec.holder else None
    world.undo_log = UndoLog(spec.directory / "undo.log", world.undo, mirror)
    return world

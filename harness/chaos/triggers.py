"""When a fault strikes. Data of the plan: ``when: {KIND: VALUE}``, and perhaps ``then_s``: so many seconds after that.

| kind | strikes |
|---|---|
| ``at_s`` | so many seconds into the burst |
| ``accepted`` | after so many accepted mails |
| ``burst_peak`` | at the burst's peak: for so many seconds no more mails have been in flight than at their highest before |
| ``queue_depth`` | more than so many mails in the sampled queue of every victim; of any pod, where the victims are no pods with a queue |
| ``queue_acked`` | at least so many *acknowledged* mails in every victim's queue, read from the queue files |
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.chaos.tail import LoadTail, QueueTail
from harness.chaos.world import LOOK_S, FaultFailed, World
from harness.errors import MailgaleError
from harness.kube.objects import Pod
from harness.support.clock import now_ns

THEN = "then_s"
QUEUES = ("incoming", "active", "deferred")
SPOOL = "/var/spool/postfix"
SIDECAR = "queue-status"
_HEADER = b"X-Mailgale-Trace: "

Look = Callable[[], dict[str, Any] | None]


def wait_for_trigger(world: World, when: Mapping[str, float], victims: list[str]) -> dict[str, Any]:
    """Wait until ``when`` holds; what was measured then.

    :raises FaultFailed: the load ended, or the deadline passed, before it did.
    :raises GuardRefused: the lease is gone, or somebody asked to stop.
    """
    load = LoadTail(world.spec.directory)
    look = _look(world, {k: v for k, v in when.items() if k != THEN}, victims, load)
    end = world.began + world.spec.trigger_deadline_s
    while True:
        world.check()
        load.look()
        measured = look()
        if measured is not None:
            return measured | _then(world, when.get(THEN, 0.0))
        if load.ended:
            raise FaultFailed(f"the load ended before the trigger {dict(when)} came")
        if time.monotonic() > end:
            raise FaultFailed(f"the trigger {dict(when)} did not come within {world.spec.trigger_deadline_s:.0f} s")
        time.sleep(LOOK_S)


def _look(world: World, when: Mapping[str, float], victims: list[str], load: LoadTail) -> Look:
    (kind, value), = when.items()
    if kind == "at_s":
        return lambda: _at(load, value)
    if kind == "accepted":
        return lambda: {"accepted": load.accepted} if load.accepted >= value else None
    if kind == "burst_peak":
        return lambda: _peak(load, value)
    if kind == "queue_depth":
        return _QueueDepth(world, value, victims).look
    if kind == "queue_acked":
        return _QueueAcked(world, int(value), victims, load).look
    raise FaultFailed(f"there is no trigger '{kind}'")


def _at(load: LoadTail, seconds: float) -> dict[str, Any] | None:
    since = (now_ns() - load.began_ns) / 1e9 if load.began_ns is not None else -1.0
    return {"since_burst_s": round(since, 2)} if since >= seconds and load.began_ns is not None else None


def _peak(load: LoadTail, seconds: float) -> dict[str, Any] | None:
    if load.peak_ns is None or load.seen_ns - load.peak_ns < seconds * 1e9:
        return None
    return {"in_flight_at_peak": load.peak, "since_peak_s": round((load.seen_ns - load.peak_ns) / 1e9, 2)}


def _then(world: World, seconds: float) -> dict[str, Any]:
    """Wait so long after the trigger came, lease and stop being watched."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        world.check()
        time.sleep(min(LOOK_S, left))
    return {"then_s": seconds} if seconds else {}


class _QueueDepth:
    """More than ``wanted`` mails in the sampled queue of every victim, or of any pod where no victim has a queue."""

    def __init__(self, world: World, wanted: float, victims: list[str]) -> None:
        self.wanted, self.victims = wanted, victims
        self.depths = QueueTail(world.spec.directory / "observe.log")

    def look(self) -> dict[str, Any] | None:
        self.depths.look()
        depth = self.depths.depth
        mine = {v: depth[v] for v in self.victims if v in depth}
        deep = mine if mine and len(mine) == len(self.victims) and min(mine.values()) > self.wanted else {}
        if not mine:
            deep = {pod: n for pod, n in depth.items() if n > self.wanted}
        return {"queue_depth": deep} if deep else None


class _QueueAcked:
    """At least ``wanted`` acknowledged mails in the queue of every victim: sampled depth first, then the queue files themselves."""

    def __init__(self, world: World, wanted: int, victims: list[str], load: LoadTail) -> None:
        self.world, self.wanted, self.victims, self.load = world, wanted, victims, load
        self.depths = QueueTail(world.spec.directory / "observe.log")

    def look(self) -> dict[str, Any] | None:
        self.depths.look()
        if any(self.depths.depth.get(v, 0) < self.wanted for v in self.victims):
            return None
        found = {v: self._acknowledged(v) for v in self.victims}
        return {"acknowledged_in_queue": found} if min(found.values()) >= self.wanted else None

    def _acknowledged(self, victim: str) -> int:
        pod = self.world.pod(victim)
        if pod is None:
            raise FaultFailed("the victim is gone before anything was done to it", where=victim)
        numbers = queued_numbers(self.world, pod)
        self.load.look()
        return len(numbers & self.load.acknowledged)


def queued_numbers(world: World, pod: Pod) -> set[int]:
    """Numbers of this arm's mails in the moving queues of ``pod``, read from its queue files.

    :raises MailgaleError: they cannot be read.
    """
    pattern = re.compile(re.escape(_HEADER + world.spec.prefix.encode()) + rb"(\d{1,18})")
    return {int(m) for chunk in _queue_octets(world, pod) for m in pattern.findall(chunk)}


def _queue_octets(world: World, pod: Pod) -> Iterator[bytes]:
    spool = host_spool(world, pod)
    if spool is not None:
        yield from _files(spool)
        return
    names = [c.name for c in pod.containers if not c.init]
    container = SIDECAR if SIDECAR in names else names[0]
    argv = ["grep", "-rhaos", f"{_HEADER.decode()}[0-9A-Za-z.-]*", *(f"{SPOOL}/{q}" for q in QUEUES)]
    done = world.cluster.exec(world.spec.namespace, pod.name, container, argv, timeout_s=20)
    if done.code not in (0, 1, 2):  # 1: nothing found; 2: a file moved away under grep
        raise MailgaleError(f"the queue cannot be read: {done.stderr[-200:].decode(errors='replace')}", where=pod.name)
    yield done.stdout


def host_spool(world: World, pod: Pod) -> Path | None:
    """The pod's spool in the volumes' directory of this host; None when its queue is not on such a volume."""
    root: str = world.spec.target_object().volumes_dir
    volumes: list[dict[str, Any]] = pod.raw.get("spec", {}).get("volumes") or []
    for claim in (v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v):
        base = Path(root) / world.spec.namespace / claim
        candidates: tuple[Path, ...] = (base, *base.glob("*")) if root and base.is_dir() else ()
        for path in candidates:
            if all((path / q).is_dir() for q in QUEUES):
                return path
    return None


def _files(spool: Path) -> Iterator[bytes]:
    for queue in QUEUES:
        for folder, _, names in os.walk(spool / queue):
            for name in names:
                try:
                    yield (Path(folder) / name).read_bytes()
                except FileNotFoundError:
                    continue  # it moved on while we looked

"""The load of one arm placed in the cluster, with the same handle as the local one (harness.load.runner).

    load = start(spec, arm.path, stack, placed, scenario=path, record=...)
    load.wait(deadline_s=300)
    load.stop()

What the engines write is in ``arm.path`` while the load runs, as with a local load, and outlives every pod: see harness.load.pods and
harness.load.collect. Locust's own output is in the pods' logs, ``logs/load-*.locust.log``.

Known limits: the master is reached by its first address; a keeper whose node is gone cannot hand out its volume, and the record then ends
where this side's copy does, which the judge sees. A load does not end at once when its conductor dies: each pod has a deadline of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import CommandFailed, NotReady
from harness.kube.api import ApiFailed
from harness.kube.gateway import Gateway, Record
from harness.kube.objects import Pod
from harness.load import pods
from harness.load.collect import Clock, Collector
from harness.load.pods import Placed
from harness.load.sources import bundle
from harness.load.spec import LoadSpec
from harness.stack import volumes
from harness.stack.deployed import Stack
from harness.stack.ready import Expected, describe, wait_ready
from harness.stack.render import NAMESPACE_LABEL
from harness.store.log import Damage, read_events
from harness.support.clock import wait_for
from harness.support.progress import Progress

_READY_S = 90.0
_COLLECT_S = 60.0

_EVERY_S = 0.5
_LOG_LINES = 400
_SHOWN = 25
_COMPLAINTS = ("/ERROR/", "/CRITICAL/")
_ENDED = ("Succeeded", "Failed")


@dataclass
class ClusterLoad:
    """A load that runs in pods. Made by :func:`start`; always :meth:`stop` it."""

    stack: Stack
    gateway: Gateway
    placed: Placed
    spec: LoadSpec
    arm_dir: Path
    collector: Collector
    clocks: dict[int, Clock] = field(default_factory=dict)  #: of each member, at the begin
    problems: list[str] = field(default_factory=list)  #: what of the record could not be had, known after :meth:`stop`
    _stopped: bool = False

    @property
    def alive(self) -> bool:
        """Its master has not ended."""
        return self._code() is None

    def wait(self, deadline_s: float) -> int:
        """As :meth:`harness.load.runner.LoadProcess.wait`; a worker that was killed makes it fail, since its share was not sent."""
        try:
            code = wait_for(lambda: (self._code(),) if self._code() is not None else None, deadline_s=deadline_s, what="the load", every_s=_EVERY_S)[0]
        except NotReady:
            raise NotReady(f"the load has not ended after {deadline_s:.0f} s", where=self.stack.namespace) from None
        if code:
            raise CommandFailed(f"the load ended with code {code}: {_complaint(self._told(pods.MASTER))}", where=f"{self.stack.namespace}/{pods.MASTER}")
        return int(code or 0)

    def stop(self) -> None:
        """End it cleanly, take over the rest of the record, and take everything down. Again: nothing."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._end(pods.name_of(0))
            self._all_ended()
            for number in self.placed.numbers:
                self._end(pods.name_of(number))
            self.problems += self.collector.finish(_COLLECT_S, self._revive)
        finally:  # also when interrupted: nothing may go on sending
            self._remove()

    def state(self) -> dict[str, Any]:
        """The counters of the last ``load_state`` or ``load_end`` of every engine, added up; empty before the first."""
        total: dict[str, Any] = {}
        for number in self.placed.numbers[1:]:
            for name, value in last_state(self.arm_dir / f"load-{number}.log").items():
                total[name] = total.get(name, 0) + value if isinstance(value, int | float) and not isinstance(value, bool) else value
        return total

    def _pod(self, name: str) -> Pod | None:
        return self.stack.cluster.pod(self.stack.namespace, name)

    def _code(self) -> int | None:
        """Exit code of the master; None while it runs, or while nobody can say."""
        try:
            pod = self._pod(pods.MASTER)
        except ApiFailed:
            return None
        if pod is None:
            return 3
        return _exit_code(pod) if pod.phase in _ENDED else None

    def _all_ended(self) -> None:
        """Wait for the workers: the master has told them to quit, and their engines close their logs."""

        def ended() -> bool:
            found = [self._pod(pods.name_of(n)) for n in self.placed.numbers]
            return all(p is None or p.phase in _ENDED for p in found)

        with suppress(NotReady, ApiFailed):
            wait_for(ended, deadline_s=pods.STOP_GRACE_S, what="the workers to end", every_s=_EVERY_S)

    def _end(self, name: str) -> None:
        with suppress(ApiFailed):  # without an API server the record is all that matters, and the namespace goes later
            self.gateway.delete_pod(name, self.stack.namespace)

    def _told(self, name: str) -> str:
        try:
            return self.stack.cluster.logs(self.stack.namespace, name, "locust", tail_lines=_LOG_LINES)
        except ApiFailed as error:
            return f"its log cannot be read: {error}"

    def _revive(self, keeper: str) -> None:
        """Make a keeper anew that is gone; one that is only not ready yet is left alone."""
        number = next(n for n in self.placed.numbers if pods.keeper_of(n) == keeper)
        with suppress(ApiFailed):
            if self._pod(keeper) is None:
                self.gateway.apply([pods.keeper(self.placed, number)], self.stack.namespace)

    def _remove(self) -> None:
        """Everything that :func:`start` made; what stays goes with the namespace."""
        with suppress(ApiFailed):
            for number in self.placed.numbers:
                for name in (pods.name_of(number), pods.keeper_of(number)):
                    self.gateway.delete_pod(name, self.stack.namespace, 0)
                self.gateway.delete("v1", "PersistentVolumeClaim", pods.claim_of(number), self.stack.namespace)
            for kind, name in (("Secret", pods.TASK), ("ConfigMap", pods.SOURCES)):
                self.gateway.delete("v1", kind, name, self.stack.namespace)
            self.gateway.delete("networking.k8s.io/v1", "NetworkPolicy", pods.POLICY, self.stack.namespace)


def start(
    spec: LoadSpec, arm_dir: Path, stack: Stack, placed: Placed, *, root: Path, progress: Progress, record: Record | None = None
) -> ClusterLoad:
    """Place the load and begin it. Writes ``spec.json`` into ``arm_dir``.

    :param root: the checkout, whose scenarios and sources are run.
    :param record: told of every change to the cluster.
    :raises StackFailed: the pods do not become ready; nothing is left of them then.
    :raises GuardRefused: an address that must not be loaded.
    """
    spec = spec.replace(engines=placed.workers).guarded()
    (arm_dir / "spec.json").write_text(spec.replace(out=str(arm_dir)).to_json())
    gateway = stack.gateway(record)
    load = ClusterLoad(stack, gateway, placed, spec, arm_dir, Collector([pods.keeper_of(n) for n in placed.numbers], _asking(stack), arm_dir))
    try:
        _belongings(load, root)
        _keepers(load, progress)
        _members(load, progress)
        load.collector.start()
    except BaseException:
        load._remove()
        raise
    return load


def _asking(stack: Stack) -> Callable[[str, str, float], bytes]:
    def ask(keeper: str, path: str, timeout_s: float) -> bytes:
        return stack.cluster.proxy_get(stack.namespace, keeper, pods.KEEPER_PORT, path, timeout_s=timeout_s)

    return ask


def _belongings(load: ClusterLoad, root: Path) -> None:
    """Task, sources, policy and volumes."""
    stack, spec = load.stack, load.spec
    ca_pem = Path(spec.ca_file).read_text() if spec.ca_file else ""
    scenario = (root / "scenarios" / f"{spec.scenario}.py").read_text()
    made = pods.belongings(load.placed, spec, ca_pem, bundle(root), scenario)
    shared = bool(stack.target.volumes_dir)
    made += volumes.volumes_for(made, stack.namespace, shared=shared, storage_class=stack.target.storage_class)
    for one in made:
        if one["kind"] == "PersistentVolume":
            one["metadata"]["labels"] = {NAMESPACE_LABEL: stack.namespace}
    for number in load.placed.numbers:
        _open_directory(stack, pods.claim_of(number))
    load.gateway.apply(made, stack.namespace)


def _open_directory(stack: Stack, claim: str) -> None:
    """Where volumes are directories of this host, the kubelet would make them root's; the members are no root."""
    path = volumes.directory(stack.target, stack.namespace, claim)
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)


def _keepers(load: ClusterLoad, progress: Progress) -> None:
    """Place the keepers, and compare their clocks with this host's."""
    names = [pods.keeper_of(n) for n in load.placed.numbers]
    load.gateway.apply([pods.keeper(load.placed, n) for n in load.placed.numbers], load.stack.namespace)
    wait_ready(load.stack.cluster, load.stack.namespace, [_one(n) for n in names], deadline_s=_READY_S, progress=progress)
    load.clocks = {n: load.collector.clock(pods.keeper_of(n)) for n in load.placed.numbers}


def _members(load: ClusterLoad, progress: Progress) -> None:
    """The master, and once it has an address the workers."""
    namespace, scenario = load.stack.namespace, load.spec.scenario
    nodes = {n: _node(load, pods.keeper_of(n)) for n in load.placed.numbers}
    load.gateway.apply([pods.master(load.placed, scenario, nodes[0])], namespace)
    wait_ready(load.stack.cluster, namespace, [_one(pods.MASTER)], deadline_s=_READY_S, progress=progress)
    found = load._pod(pods.MASTER)
    address = found.ips[0] if found and found.ips else ""
    workers = [pods.worker(load.placed, n, scenario, nodes[n], address, load.clocks[n].offset_ns) for n in load.placed.numbers[1:]]
    load.gateway.apply(workers, namespace)


def _one(name: str) -> Expected:
    return Expected(f"Pod/{name}", {pods.MEMBER: name}, 1)


def _node(load: ClusterLoad, keeper: str) -> str:
    found = load._pod(keeper)
    if found is None or not found.node:
        raise NotReady(f"{keeper} is gone: {describe(load.stack.cluster, load.stack.namespace)}", where=load.stack.namespace)
    return found.node


def _complaint(log: str) -> str:
    """What Locust complained of; its tables of statistics, which come last, only where it did not."""
    lines = log.splitlines()
    return "\n".join([line for line in lines if any(level in line for level in _COMPLAINTS)][:_SHOWN] or lines[-_SHOWN:])


def _exit_code(pod: Pod) -> int:
    """Of its only container; 3 where the node does not say."""
    code = next((c.exit_code for c in pod.containers), None)
    return 3 if code is None else code


def last_state(log: Path) -> dict[str, Any]:
    """The last ``load_state`` or ``load_end`` in a log; {} where there is none yet."""
    last: dict[str, Any] = {}
    if log.exists():
        for event in read_events(log):
            if not isinstance(event, Damage) and event["kind"] in ("load_state", "load_end"):
                last = event
    return last

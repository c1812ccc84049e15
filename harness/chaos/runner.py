"""Starting an arm's faults as a process of their own, and bringing everything back whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.chaos import mirror, render, undo
from harness.chaos import spec as spec_module
from harness.chaos.lease import Lease
from harness.chaos.spec import ChaosSpec
from harness.chaos.targets import Resolved
from harness.chaos.world import Hands
from harness.errors import UsageError
from harness.kube.client import Cluster
from harness.model.component import Component
from harness.model.plan import Plan
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.shell import kill_group

EXPERIMENT, SETTINGS, JOURNAL, OUTPUT = "experiment.json", "chaos-settings.yaml", "journal.json", "chaos.out"
_STOP_S = 30.0


@dataclass
class ChaosProcess:
    """The process that carries out one arm's faults."""

    spec: ChaosSpec
    process: subprocess.Popen[bytes]
    target: Target  #: for what is undone here: the process itself acts by its role's token, which may be over

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code: 0 = every fault happened, was proven and is undone; None while it still runs after ``timeout_s``."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> list[str]:
        """End it if it runs (asked first, killed after 30 s), and undo whatever is pending. Idempotent.

        :returns: what had to be undone here, [] when the process left nothing.
        :raises CleanupIncomplete: something cannot be brought back.
        """
        undone: list[str] = []
        try:
            if self.running:
                self.process.send_signal(signal.SIGHUP)  # chaoslib takes INT, TERM, USR1 and USR2 for itself
                self.wait(_STOP_S)
        finally:  # also when the wait is interrupted
            if self.running:
                kill_group(self.process)
            undone += recover(self.spec.directory, self.target)
        return undone

    def janitor_did(self) -> list[str]:
        """What the janitor in the cluster ended meanwhile: it took this host for gone."""
        entries = {a.id: a.entry for a in undo.armed_in(self.spec.directory)}
        did = mirror.ended(Cluster(self.target), self.spec.namespace) if self.spec.holder else {}
        return [f"{undo.describe(entries.get(number, {'op': f'entry {number}'}))}: {state}" for number, state in sorted(did.items())]

    def output(self) -> str:
        """What it wrote to its output."""
        path = self.spec.directory / OUTPUT
        return path.read_text(errors="replace") if path.exists() else ""


def start(
    plan: Plan,
    arm: str,
    resolved: Sequence[Resolved],
    *,
    target: Target,
    namespace: str,
    arm_dir: Path,
    arm_label: str,
    run_id: str,
    checkout: Checkout,
    components: Mapping[str, Component],
    lease: Lease,
    trigger_deadline_s: float = 900.0,
    holder: str = "",
    acts_as: Target | None = None,
) -> ChaosProcess:
    """Begin an arm's faults. They wait for their triggers by themselves.

    :param arm: the arm's name in the plan. :param arm_label: ``<block>-<arm>``, as in traces.
    :param resolved: from ``targets.resolve``; the previewed names are the ones that are hit.
    :param lease: held by the caller until the faults are over.
    :param holder: of the run's lease in the cluster, for the janitor.
    :param acts_as: the target by the token of the role ``chaos`` (default: ``target`` itself).
    :raises UsageError: no fault strikes in this arm.
    """
    if not resolved:
        raise UsageError(f"no fault strikes in arm '{arm}'", where=plan.source)
    spec = ChaosSpec(
        run_id=run_id, arm=arm_label, arm_dir=str(arm_dir), checkout_id=checkout.id, namespace=namespace, target=asdict(acts_as or target),
        workloads={name: tuple(c.workloads) for name, c in components.items()},
        faults=tuple(r.fault.name for r in resolved), trigger_deadline_s=trigger_deadline_s, holder=holder, may=plan.node_faults.may,
    )
    made = render.experiment(plan, arm_label, resolved, namespace=namespace, run_id=run_id)
    (arm_dir / EXPERIMENT).write_text(json.dumps(made, indent=1, default=str))
    (arm_dir / SETTINGS).write_text(render.settings())
    return ChaosProcess(spec, _spawn(spec, lease, checkout.root), target)


def _spawn(spec: ChaosSpec, lease: Lease, root: Path) -> subprocess.Popen[bytes]:
    target = spec.target_object()
    environment = {
        **os.environ, **lease.environment, spec_module.VARIABLE: str(spec.save()),
        # What chaosk8s goes by; without a context it would take the current one.
        "KUBECONFIG": target.kubeconfig, "KUBERNETES_CONTEXT": target.context, "PYTHONUNBUFFERED": "1",
    }
    with (spec.directory / OUTPUT).open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "harness.chaos"], cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )


def recover(arm_dir: Path, target: Target) -> list[str]:
    """Undo what an arm's faults left, from its ``chaos.json`` and undo logs alone. Nothing is pending: nothing is touched.

    :param target: by whose rights; those of the faults' process are over.
    :raises CleanupIncomplete: something is left.
    :raises UsageError: entries are pending and ``chaos.json`` is not readable.
    """
    if not undo.pending(arm_dir) and not undo.unreadable(arm_dir):
        return []
    spec = ChaosSpec.load(arm_dir / spec_module.FILE)
    hands = Hands.of(replace(spec, target=asdict(target)))
    return undo.recover(arm_dir, hands.undo, mirror.ended(hands.cluster, spec.namespace) if spec.holder else {})


def recover_run(arm_dirs: Iterable[Path], target: Target) -> list[str]:
    """:func:`recover` for several arms, the last one first."""
    return [line for path in reversed(list(arm_dirs)) for line in recover(path, target)]

"""``python -m harness.selftest.crash_child SPEC``: the conductor of the crash test, made of the conductor's own pieces.

It holds the lease, starts faults and load beside one another, waits for both and undoes what is left, as ``harness.rehearse.arm`` does;
only stack, settling and census are missing. The spec is JSON: ``run``, ``target``, ``namespace``, ``owner`` (the run id on its labels), ``secrets``, ``smtp`` (a port on loopback).
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness.census.spec import target_of
from harness.errors import CommandFailed, MailgaleError, NotReady
from harness.kube.client import Cluster
from harness.load import runner as load_runner
from harness.load.spec import Access, LoadSpec
from harness.rehearse.arm import ArmRun
from harness.rehearse.striking import faults_beside, heal
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress

#: The load outlasts the faults; who ends it is the conductor.
LOAD_S = 25


@dataclass(frozen=True)
class Place:
    """The small stack."""

    cluster: Cluster
    namespace: str


def main(argv: list[str]) -> int:
    """Conduct; 0 = ended by itself, 2 = interrupted and undone, else the error's exit code."""
    said = json.loads(Path(argv[0]).read_text())
    signal.signal(signal.SIGTERM, _terminate)
    run, target = RunDir.open(Path(said["run"])), target_of(said["target"])
    name = run.plan.arms[0].name
    try:
        arm = ArmRun(
            run.plan, run.plan.arms[0], 1, said["owner"], run.arm(1, name), target, Checkout.find(), Path(said["secrets"]), False, SilentProgress(), {}
        )
        _conduct(arm, Place(Cluster(target), said["namespace"]), int(said["smtp"]))
    except KeyboardInterrupt:
        return 2
    except (MailgaleError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, MailgaleError) else 3
    return 0


def _conduct(arm: ArmRun, place: Place, smtp: int) -> None:
    with faults_beside(arm, place) as faults:
        with arm.phase("load"):
            _load(arm, smtp)
        with arm.phase("heal"):
            heal(arm, faults)
    arm.log.close()


def _load(arm: ArmRun, smtp: int) -> None:
    spec = LoadSpec(
        arm.run_id, arm.directory.label, arm.plan.seed, arm.plan.load.scenario, {"mx": Access(("127.0.0.1",), smtp)},
        {"burst_max_s": LOAD_S, **arm.plan.load.params}, str(arm.directory.path), users=arm.plan.users, time_scale=arm.plan.time_scale,
    )
    process = load_runner.start(spec, arm.directory.path, secrets=arm.secrets)
    try:
        process.wait(deadline_s=3 * LOAD_S)
    except (NotReady, CommandFailed) as error:
        arm.incident(str(error), "load")
    finally:
        process.stop()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What an arm does whose load is DNS: account, sensors beside the load, account again. No mail, so no census of mailboxes.

The second account is the arm's ``census.log``: with it the arm is finished, and an interrupted run goes on behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cluster.engine import ensure_engine
from harness.dns.labspec import LabSpec
from harness.dns.pod import node_network, process_of
from harness.errors import BudgetExceeded, GuardRefused, Interrupted, MailgaleError, NotReady, NotSupported
from harness.model.plan import Plan
from harness.rehearse.children import Child
from harness.rehearse.loading import stopped, until_over
from harness.rehearse.states import KINDS as STATES
from harness.stack.deployed import Stack
from harness.store.log import Damage, read_events

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

BEFORE, SENSORS, AFTER = "account.log", "sensors.log", "census.log"
#: Logs of such an arm beside those of every arm.
WRITERS = (BEFORE, SENSORS)
_PART = "mailgale.dev/part={}"
_ACCOUNT_S = 60.0
#: The load has its own end; this much later it is taken for hung.
_GRACE_S = 30.0


def stack_params(plan: Plan) -> Mapping[str, str]:
    """The parameters of the stack that a plan sets: its own, and the zone of a DNS load."""
    if plan.load.kind != "dns" or "zone" not in plan.load.params:
        return plan.stack_params
    return {**plan.stack_params, "LAB_ZONE": str(plan.load.params["zone"])}


def measure(arm: ArmRun, stack: Stack) -> None:
    """Run the load of one arm with its sensors, and take the account before and after.

    :raises NotReady: the pods' network cannot be reached from here, or the arm has too few node caches.
    :raises MailgaleError: an account could not be taken; then nothing can be said of the arm.
    """
    spec = _spec(arm, stack)
    path = spec.write(arm.directory.spec)
    _account(arm, path, BEFORE)
    with Child("harness.dns.sensors", [path, SENSORS], arm.directory.path / "sensors.out") as sensors:
        with arm.phase("load"):
            _load(arm, path)
        if not sensors.stop():
            arm.incident("the sensors did not end well: their last samples may be missing", "sensors")
    with arm.phase("census"):
        _account(arm, path, AFTER)


def _account(arm: ArmRun, spec: Path, log: str) -> None:
    with Child("harness.dns.sensors", [spec, log, "once"], arm.directory.path / f"{log}.out") as child:
        child.wait(deadline_s=_ACCOUNT_S)


def _load(arm: ArmRun, spec: Path) -> None:
    with Child("harness.dns.labload", [spec], arm.directory.path / "load.out") as child:
        try:
            # Its log is not followed: what happens while queries are counted costs CPU.
            until_over(arm, lambda: child.alive, dict, deadline_s=arm.plan.load.intake_deadline_s + _GRACE_S)
            child.wait(deadline_s=1)
        except (BudgetExceeded, Interrupted) as error:
            stopped(arm, error)
        except GuardRefused:
            raise
        except MailgaleError as error:
            arm.incident(str(error), "load")
        finally:
            child.stop()
            arm.offered = _offered(arm.directory.load_log())


def _offered(log: Path) -> float:
    events = (e for e in read_events(log) if not isinstance(e, Damage)) if log.exists() else ()
    return max((float(e.get("offered", 0)) for e in events if e["kind"] in STATES), default=0.0)


def _spec(arm: ArmRun, stack: Stack) -> LabSpec:
    if stack.target.kind != "kind":
        raise NotReady(f"not supported here: the nodes of {stack.target.name} are not on this machine, so its pods' network cannot be entered",
                       where=arm.plan.name, todo="--target kind")
    engine = ensure_engine(arm.checkout, arm.progress)
    caches, resolvers = (stack.cluster.pods(stack.namespace, _PART.format(part)) for part in ("lab-cache", "lab-resolver"))
    try:
        network, resolver = node_network(engine, stack.target.edge.name), process_of(engine, resolvers[0])
    except (NotSupported, IndexError) as error:
        raise NotReady(f"the laboratory's unbound is not to be seen from here: {error}", where=stack.namespace) from error
    made = LabSpec(
        arm_dir=str(arm.directory.path), run_id=arm.run_id, arm=arm.arm.name, label=arm.directory.label, seed=f"{arm.plan.seed}/{arm.block}",
        params=arm.plan.load_params(arm.arm.name), network=str(network), resolver=str(resolver), caches={p.name: p.ips[0] for p in caches if p.ips},
    )
    wanted = max(c.caches for c in made.load.cells_of(arm.arm.name))
    if len(made.caches) < wanted:
        raise NotReady(f"a cell wants {wanted} node caches, the arm has {len(made.caches)}", where=arm.arm.name, todo="a variant node-caches-N")
    return made

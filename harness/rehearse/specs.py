"""What each process of an arm is told. Files that hold the run's password lie outside the run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.census.spec import CensusSpec, Server
from harness.kube.objects import Pod
from harness.load.params import MARKS, Params
from harness.load.spec import Access, LoadSpec
from harness.model.plan import Plan
from harness.observe.spec import ObserveSpec
from harness.stack.catalogue import components
from harness.stack.deployed import Stack

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

OBSERVE_EVERY_S = 2.0
#: The generator's own ports at the edge (DESIGN.md): a PROXY v2 header is required there.
MX, SUBMISSION, IMAPS, POP3S = 10025, 10587, 10993, 10995
#: HAProxy's statistics as CSV.
STATISTICS = 8404


def load(arm: ArmRun, stack: Stack) -> LoadSpec:
    """The task of the load engine in this arm: the same seed in every arm of a plan."""
    return LoadSpec(
        run_id=arm.run_id,
        arm=arm.directory.label,
        seed=arm.plan.seed,
        scenario=arm.plan.load.scenario,
        endpoints={
            "mx": Access(stack.edges, MX, proxy=True),
            "submission": Access(stack.edges, SUBMISSION, tls="starttls", proxy=True),
            "imap": Access(stack.edges, IMAPS, tls="implicit", proxy=True),
            "pop3": Access(stack.edges, POP3S, tls="implicit", proxy=True),
        },
        params={"burst_max_s": arm.plan.load.intake_deadline_s, **arm.plan.load_params(arm.arm.name)},
        out=str(arm.directory.path),
        users=stack.users,
        password=stack.password,
        mail_domain=stack.mail_domain,
        time_scale=arm.plan.time_scale,
        allow=stack.edges,
        ca_file=str(ca_file(arm, stack)),
    )


def ca_file(arm: ArmRun, stack: Stack) -> Path:
    """The run's CA as a file."""
    path = arm.secrets / "ca.pem"
    path.write_text(stack.ca_pem)
    return path


def observe(arm: ArmRun, namespace: str) -> ObserveSpec:
    """The task of the observer; it begins before the namespace is there, so that no pod's first lines are missed."""
    address, rights, inside = arm.target.edge.addresses[0], arm.target_as("observe"), arm.target_as("census")
    return ObserveSpec(
        kubeconfig=rights.kubeconfig,
        context=rights.context,
        namespace=namespace,
        arm_dir=str(arm.directory.path),
        run_id=arm.run_id,
        interval_s=OBSERVE_EVERY_S,
        queues={n: int(str(c.queue["port"])) for n, c in components(arm.checkout).items() if "port" in c.queue},
        edge=f"[{address}]:{STATISTICS}" if ":" in address else f"{address}:{STATISTICS}",
        dns=about_dns(arm.plan),
        inside=(inside.kubeconfig, inside.context),
    )


def about_dns(plan: Plan) -> bool:
    """Whether the plan asks about the DNS of the mail stack, as pods see it. Only then is it watched.

    Queries that are counted (``dns-account``) are not watched as well: the watching asks queries of its own.
    """
    return plan.watches_dns


def census(arm: ArmRun, stack: Stack, *, queue_components: tuple[str, ...]) -> CensusSpec:
    """The task of the census: ordinary ports, as any client would."""
    params = Params.of(arm.plan.load_params(arm.arm.name))
    return CensusSpec(
        run=arm.run_id,
        arm=arm.directory.label,
        arm_dir=str(arm.directory.path),
        namespace=stack.namespace,
        imap=Server(stack.edge4, 993, tls=True),
        pop3=Server(stack.edge4, 995, tls=True),
        users=stack.users,
        password=stack.password,
        mail_domain=stack.mail_domain,
        ca_pem=stack.ca_pem,
        volumes_dir=arm.target.volumes_dir,
        target=asdict(arm.target_as("census")),
        queue_components=queue_components,
        pop3_first=tuple(f"user{n + 1}@{stack.mail_domain}" for n in params.pop_accounts(stack.users)),
        flags=MARKS if params.flag_share else (),
    )


def pod(one: Pod) -> dict[str, Any]:
    """A pod for the arm's history."""
    return {
        "name": one.name, "uid": one.uid, "node": one.node, "component": one.component, "ready": one.ready,
        "daemonset": any(o.get("kind") == "DaemonSet" for o in one.raw.get("metadata", {}).get("ownerReferences") or ()),
        "containers": [{"name": c.name, "image": c.image, "image_id": c.image_id, "restarts": c.restarts} for c in one.containers],
    }

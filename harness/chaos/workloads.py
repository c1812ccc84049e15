"""Faults of workloads: scaled, restarted pod by pod, given an image that does not exist."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness.chaos import images
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed
from harness.kube.objects import Pod
from harness.support.clock import now_ns

#: What kubectl(1) writes for a rollout restart.
RESTARTED = "kubectl.kubernetes.io/restartedAt"

def scale(
    component: str, replicas: int, for_s: float = 0.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Set the replicas of the workloads ``victims`` (``Kind/name``) for ``for_s`` seconds, then restore what was.

    Evidence: the spec and the number of ready pods.
    """
    act = partial(_scale, replicas=replicas, for_s=for_s)
    return carry_out("scale", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _scale(f: Fault, replicas: int, for_s: float) -> None:
    before = {w: int(f.world.workload(w)["spec"].get("replicas", 1)) for w in f.victims}
    if all(n == replicas for n in before.values()):
        raise FaultFailed(f"has {replicas} replicas already, so nothing would happen", where=", ".join(before))
    for workload, count in before.items():
        f.arm("scale", workload=workload, replicas=count)
    f.say("begin", before=before, replicas=replicas)
    for workload in before:
        f.world.gateway.scale(workload, f.world.spec.namespace, replicas)
    for workload in before:
        f.until(partial(_has, f, workload, replicas), f"{workload} has {replicas} ready pods")
        f.say("evidence", workload=workload, ready=replicas)
    f.hold(for_s)
    f.say("end")


def _has(f: Fault, workload: str, replicas: int) -> bool:
    return not f.world.whole(workload, replicas)




def rolling_restart(
    component: str, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Restart the workloads ``victims`` pod by pod, as ``kubectl rollout restart`` does: by an annotation of the pod template.

    Evidence: every pod has another UID, and the workload says that its newest revision is the one that runs.
    """
    return carry_out("rolling_restart", _restart, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _restart(f: Fault) -> None:
    before = _pods(f)
    for workload in f.victims:
        f.arm("whole", workload=workload)
    f.say("begin", pods=[{"name": p.name, "uid": p.uid, "node": p.node} for p in before])
    stamp = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: str(now_ns())}}}}}
    for workload in f.victims:
        kind, _, name = workload.partition("/")
        f.world.gateway.patch("apps/v1", kind, name, f.world.spec.namespace, stamp)
    old = {p.uid for p in before}
    f.until(lambda: not old & {p.uid for p in _pods(f)}, "every pod was replaced")
    for workload in f.victims:
        f.until(partial(_rolled_out, f, workload), f"the new pods of {workload} are ready")
    f.say("evidence", left={p.name: p.uid for p in before}, now={p.name: p.uid for p in _pods(f)})
    f.say("end")


def bad_image(
    component: str, container: str = "", for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 300.0,
) -> dict[str, Any]:
    """Roll out an image that does not exist on the workloads ``victims``, keep it for ``for_s`` seconds, and roll back.

    Evidence: a pod waits for its image (``ErrImagePull``, ``ImagePullBackOff``, ``ErrImageNeverPull``). The rollback also deletes such pods:
    a StatefulSet waits for a broken pod for ever (Kubernetes documentation, "Forced rollback"). Undone when the old image runs everywhere.
    """
    act = partial(_bad_image, container=container, for_s=for_s)
    return carry_out("bad_image", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _bad_image(f: Fault, container: str, for_s: float) -> None:
    before = {w: images.of(f.world.workload(w), container) for w in f.victims}
    for workload, (name, image) in before.items():
        f.arm("image", workload=workload, container=name, image=image)
    f.say("begin", images={w: image for w, (_, image) in before.items()})
    for workload, (name, image) in before.items():
        images.put(f.world.gateway, f.world.spec.namespace, workload, name, image + images.MISSING)
    waiting = f.until(lambda: [p for p in _pods(f) if images.waits(p)], "a pod waits for an image that does not exist")
    f.say("evidence", waiting={p.name: [c.reason for c in p.containers if c.state == "waiting"] for p in waiting})
    f.hold(for_s)
    f.say("end")


def _pods(f: Fault) -> list[Pod]:
    """The pods of the workloads: those of the component that the victims own."""
    names = {w.partition("/")[2] for w in f.victims}
    found = f.world.cluster.pods(f.world.spec.namespace, component=f.component)
    return [p for p in found if any(p.name.startswith(f"{n}-") for n in names)]


def _rolled_out(f: Fault, workload: str) -> bool:
    status = f.world.workload(workload).get("status", {})
    newest = status.get("updateRevision") == status.get("currentRevision")  # both absent on a Deployment
    return newest and not f.world.whole(workload)

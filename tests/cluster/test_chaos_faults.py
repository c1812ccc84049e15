"""Faults on real pods of the real cluster, by the token of the role chaos: each is proven, undone, and one that did nothing is caught."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import NamedTuple

import pytest

from harness.chaos import runner
from harness.chaos.lease import held
from harness.chaos.spec import ChaosSpec
from harness.chaos.targets import resolve
from harness.chaos.undo import pending
from harness.chaos.world import Hands
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.model.component import Component
from harness.model.target import Target
from harness.stack import access
from harness.store.log import LogWriter, read_events
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.shell import run
from tests.unit.chaos.plans import ONE_NODE, fault, plan

pytestmark = pytest.mark.cluster
RUN = "chaos-test"
COMPONENTS = {"mx": Component("mx", "stands in", ("StatefulSet/mx",), abilities=("kill", "freeze", "drain", "scale"))}


def pause_image(target):
    """The one image that every kind node has: its sandbox."""
    node = target.nodes[0].name
    listed = run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q"], timeout_s=30).stdout.split()
    return next(i for i in listed if "/pause:" in i)


def manifests(image):
    labels = {"app.kubernetes.io/component": "mx"}
    pod = {
        "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": False,
        "containers": [{"name": "pause", "image": image, "imagePullPolicy": "Never"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "mailgale.dev/edge", "operator": "DoesNotExist"}]}]}}},
    }
    return [
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "mx"},
         "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "mx"},
         "spec": {"serviceName": "mx", "replicas": 2, "podManagementPolicy": "Parallel", "selector": {"matchLabels": labels},
                  "template": {"metadata": {"labels": labels}, "spec": pod}}},
    ]


class Place(NamedTuple):
    reader: Cluster
    gateway: Gateway
    namespace: str
    acts_as: Target  #: the role chaos


@pytest.fixture(scope="module")
def place(cluster, tmp_path_factory):
    """A namespace of ours with a StatefulSet of two pods called mx, and the roles of a run."""
    checkout = Checkout.find()
    reader = Cluster(cluster)
    gateway = Gateway(reader, checkout.id, RUN)
    namespace = f"mailgale-{checkout.id}-chaos"
    with access.granted(cluster, checkout, RUN, tmp_path_factory.mktemp("private")) as given:
        gateway.create_namespace(namespace)
        try:
            gateway.apply([*given.roles(), *manifests(pause_image(cluster))], namespace)
            given.until_in_force(namespace)
            yield Place(reader, gateway, namespace, given.target_as("chaos"))
        finally:
            gateway.delete_namespace(namespace)
            wait_for(lambda: reader.namespace(namespace) is None, deadline_s=90, what="the namespace to go")


class Arm:
    """One arm with faults: starts them, feeds them a load log, reads what came of it."""

    def __init__(self, place, path, *faults, killed=2, nodes=ONE_NODE):
        self.reader, self.gateway, self.namespace, self.acts_as = place
        self.path, self.plan = path, plan(*faults, killed=killed, nodes=nodes)
        wait_for(lambda: self.whole() == "", deadline_s=90, what="the pods to be ready")
        self.load = LogWriter(path / "load-1.log", "load")

    def whole(self, replicas=2):
        return Hands(_spec(self), self.reader, self.gateway, None).whole("StatefulSet/mx", replicas)

    def start(self, lease, *, trigger_deadline_s=60.0):
        resolved = resolve(self.plan, "a", self.reader, self.namespace, COMPONENTS)
        return runner.start(
            self.plan, "a", resolved, target=self.reader.target, namespace=self.namespace, arm_dir=self.path, arm_label="1-a", run_id=RUN,
            checkout=Checkout.find(), components=COMPONENTS, lease=lease, trigger_deadline_s=trigger_deadline_s,
            acts_as=self.acts_as,
        )

    def accept(self, count):
        self.load.event("load_state", phase="burst", accepted=count)
        self.load.flush()

    def events(self, name=None):
        path = self.path / "faults.log"
        found = [e for e in read_events(path) if isinstance(e, dict)] if path.exists() else []
        return [e for e in found if e["kind"] == "fault" and name in (None, e["name"])]

    def edges(self, name):
        return [e["edge"] for e in self.events(name)]

    def wait_edge(self, name, edge, process):
        def seen():
            assert process.running or edge in self.edges(name), process.output()
            return edge in self.edges(name)

        wait_for(seen, deadline_s=60, what=f"{edge} of {name}", every_s=0.1)


def _spec(arm):
    return ChaosSpec(RUN, "1-a", str(arm.path), "", arm.namespace, {}, {"mx": ("StatefulSet/mx",)})


@pytest.fixture
def lease(place, tmp_path):
    with held(tmp_path / "lease", run_id=RUN, namespace=place.namespace) as one:
        yield one


def test_kill_waits_for_its_trigger_and_is_proven(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault(name="kill", grace_s=0, when={"accepted": 100}))
    process = arm.start(lease)
    arm.wait_edge("kill", "armed", process)
    arm.accept(99)
    (victim,) = arm.events("kill")[0]["targets"]
    old = arm.reader.pod(arm.namespace, victim)
    time.sleep(1)
    assert arm.edges("kill") == ["armed"]
    arm.accept(100)
    assert process.wait(90) == 0, process.output()
    assert arm.edges("kill") == ["armed", "triggered", "begin", "evidence", "evidence", "end", "undone"]
    details = [e["detail"] for e in arm.events("kill") if e["edge"] == "evidence"]
    assert details[0]["old_uid_gone"] == old.uid
    assert details[1]["processes_gone"]
    assert arm.reader.pod(arm.namespace, victim).uid != old.uid
    assert list(read_events(tmp_path / "faults.log"))[-1]["kind"] == "log_closed"
    assert (tmp_path / "journal.json").exists()
    assert process.stop() == []


def test_container_kill_and_scale_side_by_side(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("container_kill", name="ckill"), fault("scale", name="out", replicas=3, for_s=1, when={"at_s": 0.1}))
    process = arm.start(lease)
    arm.wait_edge("out", "armed", process)
    arm.accept(1)
    code = process.wait(120)
    assert (code, arm.edges("ckill")[-1], arm.edges("out")[-1]) == (0, "undone", "undone"), process.output()
    assert arm.whole() == ""


def test_freeze_stops_every_process(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("freeze", name="ice", for_s=1.0, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    assert process.wait(90) == 0, process.output()
    (proof,) = [e["detail"]["states"] for e in arm.events("ice") if e["edge"] == "evidence"]
    assert set(proof.values()) == {"T"}


def test_drain_empties_the_node_and_gives_it_back(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("drain", name="drain", when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    assert process.wait(120) == 0, process.output()
    (node,) = arm.events("drain")[0]["targets"]
    left = next(e["detail"]["left"] for e in arm.events("drain") if "left" in e["detail"])
    assert left
    assert next(n.schedulable for n in arm.reader.nodes() if n.name == node)
    assert all(p.uid not in left.values() for p in arm.reader.pods(arm.namespace))


def test_a_graceful_kill_and_a_cordon(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault(name="kill", when={"at_s": 0}), fault("cordon", name="cordon", for_s=1.0, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    assert process.wait(120) == 0, process.output()
    assert arm.edges("kill") == ["armed", "triggered", "begin", "evidence", "end", "undone"]
    assert all(n.schedulable for n in arm.reader.nodes() if "control-plane" not in n.name)


def test_when_the_lease_goes_the_fault_ends(place, tmp_path):
    with held(tmp_path / "lease", run_id=RUN, namespace=place.namespace) as lease:
        arm = Arm(place, tmp_path, fault("scale", name="out", replicas=3, for_s=50, when={"at_s": 0}))
        process = arm.start(lease)
        arm.accept(1)
        arm.wait_edge("out", "evidence", process)
    assert process.wait(60) == 1
    assert "the run is over" in arm.events("out")[-1]["detail"]["why"]
    assert arm.whole() == ""
    assert pending(tmp_path) == []


def test_a_kill_that_did_nothing_is_a_failed_fault(place, tmp_path, lease):
    """Planted: a finalizer keeps the pod, so its UID stays although the API server said yes."""
    arm = Arm(place, tmp_path, replace(fault(name="kill", grace_s=0, when={"at_s": 0}), deadline_s=6.0))
    keep = {"metadata": {"finalizers": ["mailgale.dev/test"]}}
    names = [p.name for p in arm.reader.pods(arm.namespace)]
    for name in names:
        arm.gateway.patch("v1", "Pod", name, arm.namespace, keep)
    process = arm.start(lease)
    arm.accept(1)
    try:
        arm.wait_edge("kill", "begin", process)
        time.sleep(7)  # the deadline passes; only then may the pods go
    finally:
        for name in names:
            arm.gateway.patch("v1", "Pod", name, arm.namespace, {"metadata": {"finalizers": None}})
    assert process.wait(150) == 1
    failed = arm.events("kill")[-1]
    assert failed["edge"] == "failed"
    assert "UID" in failed["detail"]["why"]
    assert "end" not in arm.edges("kill")


def test_a_trigger_that_never_comes_is_a_failed_fault(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault(name="kill", when={"accepted": 100}))
    process = arm.start(lease)
    arm.wait_edge("kill", "armed", process)
    arm.accept(99)
    arm.load.event("load_end", reason="done")
    arm.load.close()
    assert process.wait(60) == 1
    assert arm.edges("kill") == ["armed", "failed"]
    assert "the load ended before" in arm.events("kill")[-1]["detail"]["why"]


def test_after_sigkill_recover_brings_it_back(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("scale", name="out", replicas=3, for_s=50, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    arm.wait_edge("out", "evidence", process)
    process.process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert arm.whole(3) == ""
    assert [a.entry["replicas"] for a in pending(tmp_path)] == [2]
    assert process.stop() == ["scale workload=StatefulSet/mx replicas=2"]
    assert arm.whole() == ""
    assert process.stop() == []


def test_asked_to_stop_it_undoes_and_says_so(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("scale", name="out", replicas=1, for_s=50, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    arm.wait_edge("out", "evidence", process)
    assert process.stop() == []
    assert arm.edges("out")[-1] == "failed"
    assert "asked to stop" in arm.events("out")[-1]["detail"]["why"]
    assert arm.whole() == ""
    assert pending(tmp_path) == []

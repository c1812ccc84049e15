"""Caps: pods, nodes and minutes, when victims are chosen and right before the act. What cannot be read is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.chaos import caps
from harness.chaos.targets import NODE_KINDS
from harness.errors import GuardRefused
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.model.plan import NodeFaults
from harness.model.target import Node
from tests.servers.fake_api import FakeApi, fake_api
from tests.unit.chaos.plans import fault, plan, target

DRAIN, KILL = fault("drain"), fault(pods=2)


def check(made, *hits):
    caps.check(made, hits, target(), node_kinds=NODE_KINDS)


def test_what_the_plan_allows_passes():
    check(plan(killed=2), (KILL, ("mx-0", "mx-1")), (DRAIN, ("w1",)))
    check(plan(nodes=NodeFaults(2, control_plane=True)), (DRAIN, ("w1", "cp")))
    check(plan(nodes=NodeFaults()), (KILL, ("mx-0",)))
    check(replace(plan(), budget={"fault_minutes": 1}), (DRAIN, ("w1",)))


@pytest.mark.parametrize(
    ("made", "hit", "why"),
    [
        (plan(killed=1), (KILL, ("mx-0", "mx-1")), "would kill 2 pods, the plan's budget allows 1"),
        (plan(nodes=NodeFaults()), (DRAIN, ("w1",)), r"would hit 1 nodes \(w1\), the plan allows 0 .*max: 1"),
        (plan(nodes=NodeFaults(1)), (DRAIN, ("w1", "w2")), "would hit 2 nodes"),
        (plan(nodes=NodeFaults(1)), (DRAIN, ("cp",)), "the control plane would be hit: cp"),
        (plan(), (fault("control_plane_loss"), ("StatefulSet/mx",)), "part of the control plane would be taken away .*control_plane: true"),
        (plan(nodes=NodeFaults(1)), (fault("rolling_drain"), ("w1", "w2")), "would hit 2 nodes"),
        (plan(killed=0), (fault("attach_refused"), ("mx-0",)), "would kill 1 pods"),
        (replace(plan(), budget={"fault_minutes": 0.5}), (DRAIN, ("w1",)), "may last 60 s, the plan's budget allows 0.5 minutes"),
        (replace(plan(), budget={}), (KILL, ("mx-0",)), "would kill 1 pods, the plan's budget allows 0"),
        (replace(plan(), budget={"fault_minutes": 0.99}), (DRAIN, ("w1",)), "may last 60 s"),
    ],
)
def test_what_it_does_not_allow_is_refused(made, hit, why):
    with pytest.raises(GuardRefused, match=why) as refused:
        check(made, hit)
    assert refused.value.exit_code == 7


def test_what_the_plan_says_of_the_control_plane_counts():
    check(plan(nodes=NodeFaults(1, control_plane=True)), (fault("control_plane_loss"), ("StatefulSet/mx",)))


def test_node_faults_are_the_kinds_that_hit_nodes():
    assert {"drain", "cordon", "rolling_drain", "node_crash", "node_stop", "node_restart", "node_pause"} == NODE_KINDS


@pytest.fixture
def api():
    with fake_api() as made:
        yield made


def cluster_of(api: FakeApi, folder: Path, *, cordoned: str = "") -> Cluster:
    nodes = (Node("cp", "control-plane", ("127.0.0.1",)), Node("w1", "worker", ("127.0.0.2",)), Node("w2", "worker", ("127.0.0.3",), edge=True))
    for node in nodes:
        taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}] if node.role == "control-plane" else []
        api.put(f"/api/v1/nodes/{node.name}", {
            "metadata": {"name": node.name}, "spec": {"taints": taints, "unschedulable": node.name == cordoned},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    return Cluster(api.target(folder, nodes=nodes))


def test_a_node_is_hit_while_another_takes_pods(api: FakeApi, tmp_path: Path):
    caps.check_now(cluster_of(api, tmp_path), ["w1"], ())


@pytest.mark.parametrize(
    ("victims", "cordoned", "word"), [(["w1"], "w2", "last-ready"), (["w1", "w2"], "", "last-ready"), (["cp"], "", "control-plane")],
)
def test_the_last_node_and_the_control_plane_are_refused_right_before_the_act(api: FakeApi, tmp_path: Path, victims, cordoned, word):
    cluster = cluster_of(api, tmp_path, cordoned=cordoned)
    with pytest.raises(GuardRefused, match=r"would be left|control plane"):
        caps.check_now(cluster, victims, ())
    caps.check_now(cluster, victims, (word,))


def test_the_gateway_itself_refuses_to_cordon_the_last_one(api: FakeApi, tmp_path: Path):
    cluster = cluster_of(api, tmp_path, cordoned="w2")
    with pytest.raises(GuardRefused, match="no node that takes pods"):
        Gateway(cluster, "aaaa1111").cordon("w1")
    assert api.mutations == []
    Gateway(cluster, "aaaa1111").cordon("w1", on=False)
    Gateway(cluster, "aaaa1111", may=["last-ready"]).cordon("w1")


def test_nodes_that_cannot_be_read_are_not_hit(api: FakeApi, tmp_path: Path):
    cluster = cluster_of(api, tmp_path)
    api.failures[("GET", "/api/v1/nodes")] = 403
    with pytest.raises(GuardRefused, match="cannot be read, so nothing is changed"):
        caps.check_now(cluster, ["w1"], ("last-ready",))

"""Faults of nodes, of a pod's network and of rollouts, on the real cluster: proven by what they say, undone, read back from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.chaos.undo import pending
from harness.model.plan import NodeFaults
from harness.support.shell import run
from tests.cluster.test_chaos_faults import Arm, lease, place
from tests.unit.chaos.plans import ONE_NODE, fault

__all__ = ["lease", "place"]  # fixtures of the neighbour: the same namespace is made again
pytestmark = pytest.mark.cluster


def carried_out(place, path, lease, *faults, meanwhile=lambda arm: None, deadline_s=120.0, nodes=ONE_NODE):
    """Run the faults; the arm, once everything is undone."""
    arm = Arm(place, path, *(replace(f, deadline_s=deadline_s) for f in faults), nodes=nodes)
    process = arm.start(lease)
    arm.accept(1)
    for f in faults:
        arm.wait_edge(f.name, "begin", process)
    meanwhile(arm)
    assert process.wait(deadline_s + 30) == 0, (process.output()[-2000:], [e["detail"] for e in arm.events()])
    assert pending(path) == []
    assert arm.whole() == ""
    return arm


def evidence(arm, name):
    return [e["detail"] for e in arm.events(name) if e["edge"] == "evidence"]


def knock(arm):
    """Somebody on another node wants to speak to every pod for a second."""
    pods = arm.reader.pods(arm.namespace)
    for pod in pods:
        other = next(n.name for n in arm.reader.target.nodes if n.name not in {p.node for p in pods})
        for address in pod.ips:
            host = f"[{address}]" if ":" in address else address
            run(["docker", "exec", other, "curl", "-s", "-m", "1", f"http://{host}:9/"], timeout_s=20, check=False)


def test_a_pod_is_cut_off_and_what_was_dropped_is_counted(place, tmp_path, lease):
    arm = carried_out(place, tmp_path, lease, fault("partition", name="cut", for_s=8.0, when={"at_s": 0}, pods=2), meanwhile=knock)
    assert [e["packets"]["in"] > 0 for e in evidence(arm, "cut")] == [True, True]
    for node in arm.reader.target.nodes:
        listed = run(["docker", "exec", node.name, "sh", "-c", "for n in /run/netns/*; do nsenter --net=$n nft list tables; done"], timeout_s=20, check=False).stdout
        assert "mailgale_" not in listed.replace("mailgale_egress", "")


def test_a_partition_that_nobody_met_is_a_failed_fault(place, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("partition", name="cut", for_s=1.0, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    assert process.wait(60) == 1
    assert "not one packet" in arm.events("cut")[-1]["detail"]["why"]
    assert pending(tmp_path) == []


def test_a_bad_image_is_rolled_back_and_a_rolling_restart_replaces_every_pod(place, tmp_path, lease):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    arm = carried_out(place, tmp_path / "1", lease, fault("bad_image", name="bad", for_s=1.0, when={"at_s": 0}))
    assert evidence(arm, "bad")[0]["waiting"]
    old = {p.uid for p in arm.reader.pods(arm.namespace)}
    arm = carried_out(place, tmp_path / "2", lease, fault("rolling_restart", name="roll", when={"at_s": 0}))
    assert not old & {p.uid for p in arm.reader.pods(arm.namespace)}


def test_nodes_are_drained_one_after_another(place, tmp_path, lease):
    arm = carried_out(place, tmp_path, lease, fault("rolling_drain", name="maintenance", when={"at_s": 0}), nodes=NodeFaults(max=2))
    emptied = [e["node"] for e in evidence(arm, "maintenance") if "left" in e]
    assert emptied == sorted(set(emptied))
    assert all(n.schedulable for n in arm.reader.nodes() if "control-plane" not in n.name)


@pytest.mark.parametrize(("kind", "state"), [("node_crash", "exited"), ("node_pause", "paused")])
def test_a_node_is_lost_and_comes_back(place, tmp_path, lease, kind, state):
    arm = carried_out(place, tmp_path, lease, fault(kind, name="lost", for_s=2.0, when={"at_s": 0}))
    (node,) = arm.events("lost")[0]["targets"]
    assert {"node": node, "state": state} in evidence(arm, "lost")
    assert next(n.ready for n in arm.reader.nodes() if n.name == node)
    assert run(["docker", "exec", node, "nft", "list", "table", "inet", "mailgale_egress"], timeout_s=20).code == 0

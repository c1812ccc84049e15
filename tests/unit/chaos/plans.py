"""A plan with faults, for the tests of targets and rendering."""

from __future__ import annotations

from harness.model.component import Component
from harness.model.plan import Arm, FaultSpec, LoadSpec, NodeFaults, Plan
from harness.model.target import Node, Target

COMPONENTS = {
    "mx": Component("mx", "role", ("StatefulSet/mx",), abilities=("kill", "freeze", "drain", "scale")),
    "redis": Component("redis", "role", ("Deployment/redis",)),
}


def fault(kind="kill_pod", name="f", arms=(), when=None, **more):
    target = {"component": more.pop("component", "mx"), **{k: more.pop(k) for k in ("pods", "nodes", "share", "one_node") if k in more}}
    return FaultSpec(name, kind, target, more, when or {"at_s": 1.0}, 60.0, tuple(arms))


ONE_NODE = NodeFaults(max=1)


def plan(*faults, killed=2, nodes=ONE_NODE):
    return Plan(
        name="mx-pod-kill", title="t", question="what then?", claims=(), profile="minimal", topology="single", seed=7, time_scale=10, users=8,
        load=LoadSpec("burst", {}, 60, 60), arms=(Arm("a", ("x",)), Arm("b", ("x",))), checks=(), faults=faults,
        budget={"pods_killed": killed}, node_faults=nodes, experiment={"title": "t", "description": "d", "method": [], "version": "1.0.0"}, source="experiments/x.yaml",
    )


def target(kind="kind"):
    nodes = (Node("cp", "control-plane", ("10.0.0.1",)), Node("w1", "worker", ("10.0.0.2",)), Node("w2", "worker", ("10.0.0.3",)),
             Node("w3", "worker", ("10.0.0.4",), edge=True))
    return Target(kind, "t", "/nowhere", "ctx", "uid", nodes, (), (), ())

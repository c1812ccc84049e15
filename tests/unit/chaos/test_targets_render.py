"""Victims come from the seed, the experiment names them and passes ``chaos validate``; data and code name the same faults."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from harness.chaos import actions, render
from harness.chaos.targets import Resolved, faults_of, victims
from harness.errors import GuardRefused, NotSupported
from harness.kube.objects import Pod
from harness.model.faults import CHOOSING, KINDS
from harness.stack.catalogue import components
from harness.support.checkout import Checkout
from tests.unit.chaos.plans import COMPONENTS, fault, plan, target


def pod(name, node="w1", component="mx", ready=True):
    return Pod(name, "ns", "u-" + name, node, component, "Running", ready, False, (), (), {})


PODS = [pod("mx-2", "w2"), pod("mx-0"), pod("mx-1", ready=False), pod("redis-x", component="redis"), pod("mx-3"), pod("mx-edge", "w3")]


def test_every_kind_is_an_action_with_these_arguments():
    assert set(KINDS) == set(actions.__all__)
    own = {"victims", "fault", "when", "deadline_s"}
    for name, kind in KINDS.items():
        parameters = inspect.signature(getattr(actions, name)).parameters
        assert set(parameters) - own == {*(set(kind.target) - CHOOSING), *kind.arguments}
        required = {n for n, p in parameters.items() if p.default is inspect.Parameter.empty}
        assert required == set(kind.required)
        if "pods" in parameters:  # who chooses the victims goes by the table, who reads the plan by the action
            assert parameters["pods"].default == kind.pods, name


def test_the_same_seed_picks_the_same_ready_pods():
    picked = {victims(fault(pods=2), 7, order, target(), COMPONENTS) for order in (PODS, PODS[::-1])}
    assert len(picked) == 1
    assert "mx-1" not in next(iter(picked))
    assert len({victims(fault(name=f"f{n}"), 7, PODS, target(), COMPONENTS) for n in range(40)}) > 2


def test_a_dns_fault_strikes_every_proxy_where_the_plan_says_no_number():
    """With one of two struck, cluster DNS asks the other one, and a fault "of every question" is one of every second."""
    proxies = [pod("dns-proxy-0", component="dns-proxy"), pod("dns-proxy-1", component="dns-proxy")]
    known = components(Checkout.find())
    spec = replace(fault("dns_fault"), target={"component": "dns-proxy"})
    assert victims(spec, 7, proxies, target(), known) == ("dns-proxy-0", "dns-proxy-1")
    assert victims(replace(spec, target={"component": "dns-proxy", "pods": 1}), 7, proxies, target(), known) in (("dns-proxy-0",), ("dns-proxy-1",))


def test_nodes_exclude_the_edge_and_the_control_plane():
    found = {victims(fault("drain", name=f"f{n}"), 7, PODS, target(), COMPONENTS) for n in range(20)}
    assert found == {("w1",), ("w2",)}


@pytest.mark.parametrize("kind", ["scale", "rolling_restart", "bad_image"])
def test_some_hit_workloads(kind):
    assert victims(fault(kind), 7, PODS, target(), COMPONENTS) == ("StatefulSet/mx",)


def test_rolling_maintenance_takes_every_worker_that_has_pods_but_the_edge():
    assert victims(fault("rolling_drain"), 7, PODS, target(), COMPONENTS) == ("w1", "w2")
    assert victims(fault("rolling_drain"), 7, [p for p in PODS if p.node != "w1"], target(), COMPONENTS) == ("w2",)


def test_a_share_of_the_ready_pods():
    ready = ["mx-0", "mx-2", "mx-3", "mx-edge"]
    assert [len(victims(fault(share=s), 7, PODS, target(), COMPONENTS)) for s in (0.01, 0.5, 1)] == [1, 2, 4]
    assert victims(fault(share=1), 7, PODS, target(), COMPONENTS) == tuple(ready)


def test_all_of_one_node():
    found = {victims(fault(name=f"f{n}", pods=1, one_node=True), 7, PODS, target(), COMPONENTS) for n in range(40)}
    assert found == {("mx-0",), ("mx-2",), ("mx-3",), ("mx-edge",)}
    assert victims(fault(pods=2, one_node=True), 7, PODS, target(), COMPONENTS) == ("mx-0", "mx-3")
    with pytest.raises(GuardRefused, match="no node carries"):
        victims(fault(pods=3, one_node=True), 7, PODS, target(), COMPONENTS)


@pytest.mark.parametrize(
    ("spec", "kind", "error"),
    [
        (fault(pods=5), "kind", GuardRefused),
        (fault(component="nix"), "kind", GuardRefused),
        (fault(component="redis"), "kind", NotSupported),
        *((fault(k), "context", NotSupported) for k in KINDS if "context" not in KINDS[k].targets),
        (fault(pods=0), "kind", GuardRefused),
        (fault(share=1.5), "kind", GuardRefused),
        (fault(share=0.5, pods=1), "kind", GuardRefused),
    ],
)
def test_what_cannot_be_hit_is_refused(spec, kind, error):
    with pytest.raises(error):
        victims(spec, 7, PODS, target(kind), COMPONENTS)


def test_faults_of_an_arm():
    made = plan(fault(name="all"), fault(name="only-b", arms=["b"]))
    assert [f.name for f in faults_of(made, "a")] == ["all"]
    assert [f.name for f in faults_of(made, "b")] == ["all", "only-b"]


def test_the_rendered_experiment_is_valid_to_chaostoolkit(tmp_path):
    made = plan(fault(grace_s=0, share=0.5, one_node=True, name="kill"), fault("drain", name="drain", for_s=5.0), fault("scale", name="out", replicas=3))
    resolved = [Resolved(f, ("v-0",)) for f in made.faults]
    experiment = render.experiment(made, "1-a", resolved, namespace="ns", run_id="run")
    (tmp_path / "e.json").write_text(json.dumps(experiment))
    chaos = [sys.executable, "-c", "from chaostoolkit.cli import cli; cli()", "--no-version-check", "--no-log-file", "validate"]
    done = subprocess.run([*chaos, str(tmp_path / "e.json")], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert experiment["rollbacks"] == []
    assert experiment["extensions"][0]["name"] == "mailgale"
    assert all(a["provider"]["arguments"]["victims"] == ["v-0"] for a in experiment["method"])
    experiment["method"][0]["provider"]["arguments"]["grase_s"] = 1
    (tmp_path / "e.json").write_text(json.dumps(experiment))
    assert subprocess.run([*chaos, str(tmp_path / "e.json")], capture_output=True, check=False, cwd=tmp_path).returncode != 0

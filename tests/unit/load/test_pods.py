"""Manifests of a load in the cluster, held against the restricted profile and against what isolation asks for."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from harness.load import in_cluster, pods
from harness.load.spec import Access, LoadSpec
from harness.model.target import Node, Target
from harness.support.clock import OFFSET_ENV, clock

PLACED = pods.Placed("mailgale/load:1", 2, ("172.18.0.4", "fc00::4"), (10025, 10993), "10.96.0.53", "cluster.local", 200.0, "node-3")
SPEC = LoadSpec("run", "1-a", 1, "mx", {"mx": Access(("172.18.0.4",), 10025, proxy=True)}, {}, "/here", users=8, password="geheim", ca_file="/here/ca.pem",
                allow=("172.18.0.4",), engines=2)


def all_pods() -> list[dict[str, Any]]:
    return [pods.keeper(PLACED, 0), pods.keeper(PLACED, 1), pods.master(PLACED, "mx", "node-3"), pods.worker(PLACED, 1, "mx", "node-3", "10.0.0.1", 0)]


def breaches(pod: dict[str, Any]) -> list[str]:
    """What the profile "restricted" of the Pod Security Standards forbids, and the name resolution of the outside."""
    spec, found = pod["spec"], []
    context = spec.get("securityContext", {})
    if not context.get("runAsNonRoot") or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("root, or no seccomp profile")
    if any(key in spec for key in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("host namespaces")
    if any("hostPath" in v for v in spec["volumes"]):
        found.append("hostPath")
    for container in spec["containers"]:
        inner = container["securityContext"]
        if inner.get("allowPrivilegeEscalation") is not False or inner.get("capabilities") != {"drop": ["ALL"]} or not inner.get("readOnlyRootFilesystem"):
            found.append("rights")
    if spec.get("dnsPolicy") != "None" or spec.get("automountServiceAccountToken") is not False:
        found.append("the cluster's DNS or a token")
    return found


def test_every_pod_keeps_the_restricted_profile():
    assert [breaches(p) for p in all_pods()] == [[], [], [], []]


@pytest.mark.parametrize(
    "spoil",
    [lambda s: s.update(hostNetwork=True), lambda s: s.update(securityContext={}), lambda s: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
     lambda s: s["containers"][0]["securityContext"].update(capabilities={}), lambda s: s.update(dnsPolicy="ClusterFirst")],
)
def test_a_breach_of_it_is_seen(spoil):
    pod = all_pods()[3]
    spoil(pod["spec"])
    assert breaches(pod)


def test_only_the_load_is_let_out_and_only_to_the_edge():
    made = pods.policy(PLACED)["spec"]
    assert made["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "load"}}
    assert made["egress"] == [{
        "to": [{"ipBlock": {"cidr": "172.18.0.4/32"}}, {"ipBlock": {"cidr": "fc00::4/128"}}],
        "ports": [{"protocol": "TCP", "port": 10025}, {"protocol": "TCP", "port": 10993}],
    }]
    labels = [p["metadata"]["labels"]["app.kubernetes.io/component"] for p in all_pods()]
    assert labels == ["load-keeper", "load-keeper", "load", "load"]


def test_the_password_stands_in_the_secret_only():
    made = pods.belongings(PLACED, SPEC, "PEM", b"zip", "text")
    told = json.loads(base64.b64decode(made[0]["data"]["spec.json"]))
    assert (told["password"], told["out"], told["ca_file"]) == ("geheim", "/record", "/task/ca.pem")
    assert "geheim" not in json.dumps([made[1:], all_pods()])


def test_a_worker_and_its_keeper_share_volume_and_node():
    worker, keeper = pods.worker(PLACED, 2, "mx", "node-7", "10.0.0.1", 5), pods.keeper(PLACED, 2)
    claims = [v["persistentVolumeClaim"]["claimName"] for p in (worker, keeper) for v in p["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ["load-record-2"] * 2
    assert worker["spec"]["nodeName"] == "node-7"
    assert worker["spec"]["restartPolicy"] == "Never"
    environment = {e["name"]: e["value"] for e in worker["spec"]["containers"][0]["env"]}
    assert environment[pods.WORKER_ENV] == "2/2"
    assert environment[OFFSET_ENV] == "5"
    assert len(pods.belongings(PLACED, SPEC, "", b"", "")) == 3 + 3


def test_pods_and_their_nodes_are_generators_then():
    nodes = (Node("a", "worker", ("172.18.0.4", "fc00::4")),)
    target = Target("kind", "t", "", "", "", nodes, ("172.18.0.1/32",), ("10.244.0.0/16",), ())
    assert pods.generator_networks(target) == ("172.18.0.1/32", "10.244.0.0/16", "172.18.0.4/32", "fc00::4/128")
    assert pods.generator_networks(replace(target, pod_networks=())) == ("172.18.0.1/32", "172.18.0.4/32", "fc00::4/128")


def test_the_runs_clock_is_read_on_a_host_that_is_ahead():
    here, there = clock(0), clock(10**12)
    before = here()
    assert before - 10**12 <= there() <= here() - 10**12


LOG = "[2026-11-25] load-master/INFO/locust.main: Starting\n[2026-11-25] load-master/ERROR/harness.load.master: the worker w2 is lost\n"
TABLE = "\n".join(f"smtp     mail {n}" for n in range(60))


def test_what_the_master_complained_of_is_not_hidden_behind_its_tables():
    assert in_cluster._complaint(LOG + TABLE) == LOG.splitlines()[1]
    assert in_cluster._complaint(TABLE).splitlines() == TABLE.splitlines()[-25:]

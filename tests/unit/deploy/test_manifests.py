"""The profile and its variants, rendered by kustomize and held against the rules; each rule is shown a planted breach."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StackFailed
from harness.load import pods
from harness.stack import catalogue
from harness.stack.control import LABEL, policy
from harness.stack.render import containers_of, images_of, kustomize
from harness.support.checkout import Checkout
from tests.unit.deploy.rules import Manifest, faults, pod, workloads

ROOT = Path(__file__).resolve().parents[3]
CHECKOUT = Checkout(ROOT)
COMPONENTS = ROOT / "deploy" / "components"


@pytest.fixture(scope="module")
def minimal() -> list[Manifest]:
    return rendered()


def rendered(*variants: str) -> list[Manifest]:
    return kustomize(CHECKOUT, profile="minimal", variants=variants, namespace="mailgale-x")


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)


def test_the_profile_keeps_every_rule(minimal: list[Manifest]) -> None:
    assert faults(minimal) == []


def _drop(path: str) -> Callable[[list[Manifest]], None]:
    def act(manifests: list[Manifest]) -> None:
        del pod(named(manifests, "StatefulSet", "mx"))["containers"][0][path]

    return act


def _short_name(manifests: list[Manifest]) -> None:
    one = next(m for m in manifests if m["metadata"]["name"].startswith("mx-config"))
    one["data"]["main.cf"] += "\nvirtual_transport = lmtp:inet:mailbox-proxy:24\n"


def _single_stack(manifests: list[Manifest]) -> None:
    del named(manifests, "Service", "mx")["spec"]["ipFamilyPolicy"]


def _no_budget(manifests: list[Manifest]) -> None:
    manifests.remove(named(manifests, "PodDisruptionBudget", "mx"))


def _cluster_dns(manifests: list[Manifest]) -> None:
    del pod(named(manifests, "StatefulSet", "mx"))["dnsPolicy"]


def _no_affinity(manifests: list[Manifest]) -> None:
    del pod(named(manifests, "StatefulSet", "mx"))["affinity"]


@pytest.mark.parametrize(
    "plant",
    [_drop("livenessProbe"), _drop("readinessProbe"), _drop("lifecycle"), _drop("resources"), _short_name, _single_stack, _no_budget,
     _cluster_dns, _no_affinity],
)
def test_each_rule_sees_its_breach(minimal: list[Manifest], plant: Callable[[list[Manifest]], None]) -> None:
    spoilt = copy.deepcopy(minimal)
    plant(spoilt)
    assert len(faults(spoilt)) == 1


def test_components_say_what_the_manifests_hold(minimal: list[Manifest]) -> None:
    components = catalogue.components(CHECKOUT)
    said = {w for c in components.values() for w in c.workloads}
    assert said == {f"{m['kind']}/{m['metadata']['name']}" for m in workloads(minimal)}
    for one in components.values():
        assert set(one.needs) <= set(components)
        for workload in one.workloads:
            found = named(minimal, *workload.split("/"))
            assert found["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == one.name
            assert {c["image"].split("/")[1].split(":")[0] for c in containers_of(found)} <= set(one.images)
    made = {pods.COMPONENT}  # by the harness itself, for each arm that places its load in the cluster
    assert {n for c in components.values() for n in c.images} == images_of(minimal) | made


def test_queues_are_where_the_components_say(minimal: list[Manifest]) -> None:
    for one in (c for c in catalogue.components(CHECKOUT).values() if c.queue):
        found = named(minimal, *one.workloads[0].split("/"))
        assert one.queue["volume"] in [t["metadata"]["name"] for t in found["spec"]["volumeClaimTemplates"]]
        assert one.queue["port"] in [p["containerPort"] for c in containers_of(found) for p in c["ports"]]


def _replicas(m: list[Manifest]) -> Any:
    return named(m, "StatefulSet", "mx")["spec"]["replicas"]


def _env(kind: str, name: str) -> Callable[[list[Manifest]], Any]:
    return lambda m: next((e["value"] for e in pod(named(m, kind, name))["containers"][0]["env"] if e["name"] == "LIMIT"), None)


def _cpu(m: list[Manifest]) -> Any:
    return pod(named(m, "StatefulSet", "mx"))["containers"][0]["resources"]["limits"]["cpu"]


def _claims(m: list[Manifest]) -> Any:
    mx = named(m, "StatefulSet", "mx")
    return len(mx["spec"].get("volumeClaimTemplates") or []), [v for v in pod(mx)["volumes"] if v["name"] == "spool"]


def _hooks(m: list[Manifest]) -> Any:
    mail = ("edge", "mx", "filter", "mailbox", "mailbox-proxy", "submission", "outbound")
    return [w["metadata"]["name"] for w in workloads(m) if w["metadata"]["name"] in mail and "lifecycle" in pod(w)["containers"][0]]


def _ndots(m: list[Manifest]) -> Any:
    return {pod(w)["dnsConfig"]["options"][0]["value"] for w in workloads(m) if "dnsConfig" in pod(w)}


@pytest.mark.parametrize(
    ("variant", "look", "value"),
    [
        ("mx-1x", _replicas, 1), ("mx-2x", _replicas, 2), ("mx-light", _cpu, "1"),
        ("shared-limit", _env("Deployment", "filter"), "shared"), ("pod-limit", _env("StatefulSet", "mx"), "pod"),
        ("queue-on-pvc", _claims, (1, [])), ("queue-on-emptydir", _claims, (0, [{"name": "spool", "emptyDir": {}}])),
        ("no-prestop", _hooks, []), ("ndots-1", _ndots, {"1"}),
    ],
)
def test_a_variant_switches_one_thing(minimal: list[Manifest], variant: str, look: Callable[[list[Manifest]], Any], value: Any) -> None:
    made = rendered(variant)
    assert look(made) == value
    if variant not in ("mx-1x", "queue-on-pvc"):  # these say what the profile does anyway
        assert look(minimal) != value
        changed = [a["metadata"]["name"] for a, b in zip(minimal, made, strict=True) if a != b]
        assert len(changed) == 1 or variant in ("no-prestop", "ndots-1")


def test_every_variant_is_described_and_tested() -> None:
    described = catalogue.variants(CHECKOUT)
    assert all(described.values())
    assert set(described) == {
        "mx-1x", "mx-2x", "mx-light", "shared-limit", "pod-limit", "queue-on-pvc", "queue-on-emptydir", "no-prestop", "ndots-1",
    }


def test_queue_on_pvc_refuses_a_profile_without_the_volume() -> None:
    """Its planted defect: after queue-on-emptydir there is nothing left to confirm."""
    with pytest.raises(StackFailed, match="kustomize refuses"):
        rendered("queue-on-emptydir", "queue-on-pvc")


PORTS = (25, 587, 465, 143, 993, 110, 995)


@pytest.mark.parametrize("port", PORTS)
def test_the_edge_has_every_port_twice_on_both_families(port: int) -> None:
    """DESIGN.md: N as any client sees it; 10000 + N behind a PROXY header, for the generator only."""
    text = (COMPONENTS / "edge" / "haproxy.cfg").read_text()
    for bind in (f"bind *:{port}\n", f"bind [::]:{port} v6only\n", f"bind *:{10000 + port} accept-proxy\n", f"bind [::]:{10000 + port} v6only accept-proxy\n"):
        assert bind in text


def test_the_generators_ports_are_guarded_and_pods_learn_the_client() -> None:
    text = (COMPONENTS / "edge" / "haproxy.cfg").read_text()
    parts = re.split(r"\n(?=frontend|backend|listen)", text)
    accepting = [p for p in parts if "accept-proxy" in p]
    assert len(accepting) == len(PORTS)
    assert all("tcp-request connection reject unless generator" in p for p in accepting)
    servers = re.findall(r"server-template .*", text)
    assert len(servers) == len(PORTS)
    assert all("send-proxy-v2" in s and "maxconn" in s for s in servers)


def test_the_edge_declares_the_ports_it_binds(minimal: list[Manifest]) -> None:
    declared = {p["containerPort"] for p in pod(named(minimal, "Deployment", "edge"))["containers"][0]["ports"]}
    assert declared == {*PORTS, *(10000 + p for p in PORTS), 8404}


def test_nothing_may_leave(minimal: list[Manifest]) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in minimal if m["kind"] == "NetworkPolicy"}
    everything = policies["egress-within-namespace"]
    assert everything["podSelector"] == {}
    assert everything["policyTypes"] == ["Egress"]
    assert everything["egress"] == [{"to": [{"podSelector": {}}]}]


def test_policies_leave_the_way_in_open_and_no_pod_is_selected_by_the_one_that_lets_out(minimal: list[Manifest]) -> None:
    """Traffic comes in by the edge, from a node's address, which no podSelector could name: so no policy is about ingress."""
    assert [m for m in minimal if m["kind"] == "NetworkPolicy" and m["spec"]["policyTypes"] != ["Egress"]] == []
    assert [w for w in workloads(minimal) if LABEL in w["spec"]["template"]["metadata"]["labels"]] == []
    (chosen,) = policy([])["spec"]["podSelector"]["matchLabels"]
    assert chosen == LABEL


def test_pods_on_the_host_network_are_the_edge_alone(minimal: list[Manifest]) -> None:
    """No policy holds them back on any cluster."""
    assert [w["metadata"]["name"] for w in workloads(minimal) if pod(w).get("hostNetwork")] == ["edge"]

"""The profile and its variants, rendered by kustomize and held against the rules; each rule is shown a planted breach."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.dns.faults import Fault, Rule
from harness.dns.faultserver import rule_of
from harness.errors import StackFailed
from harness.load import pods
from harness.model.dnslab import DELAYS
from harness.model.dnslab import PORTS as PORTS_OF_CACHES
from harness.stack import catalogue
from harness.stack.control import LABEL, policy
from harness.stack.render import containers_of, images_of, kustomize
from harness.stack.volumes import own_file_systems
from harness.support.checkout import Checkout
from tests.unit.deploy.rules import Manifest, faults, pod, workloads

ROOT = Path(__file__).resolve().parents[3]
CHECKOUT = Checkout(ROOT)
COMPONENTS = ROOT / "deploy" / "components"


#: Variants that bring components of their own.
ADDING = ("node-local-dns", "dns-proxy", "far-authority")


@pytest.fixture(scope="module")
def minimal() -> list[Manifest]:
    return rendered()


def rendered(*variants: str, profile: str = "minimal") -> list[Manifest]:
    return kustomize(CHECKOUT, profile=profile, variants=variants, namespace="mailgale-x")


@pytest.fixture(scope="module")
def lab() -> list[Manifest]:
    return rendered(profile="dns-lab")


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)


@pytest.mark.parametrize("variants", [(), ADDING], ids=["profile", "with what variants add"])
def test_the_profile_keeps_every_rule(variants: tuple[str, ...]) -> None:
    assert faults(rendered(*variants)) == []


def test_the_laboratory_keeps_every_rule(lab: list[Manifest]) -> None:
    assert faults(lab) == []


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


def test_components_say_what_the_manifests_hold(lab: list[Manifest]) -> None:
    whole = [*rendered(*ADDING), *lab]
    components = catalogue.components(CHECKOUT)
    said = {w for c in components.values() for w in c.workloads}
    assert said == {f"{m['kind']}/{m['metadata']['name']}" for m in workloads(whole)}
    for one in components.values():
        assert set(one.needs) <= set(components)
        for workload in one.workloads:
            found = named(whole, *workload.split("/"))
            assert found["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == one.name
            assert {c["image"].split("/")[1].split(":")[0] for c in containers_of(found)} <= set(one.images)
    made = {pods.COMPONENT}  # by the harness itself, for each arm that places its load in the cluster
    assert {n for c in components.values() for n in c.images} == images_of(whole) | made


def test_queues_are_where_the_components_say(minimal: list[Manifest]) -> None:
    for one in (c for c in catalogue.components(CHECKOUT).values() if c.queue):
        found = named(minimal, *one.workloads[0].split("/"))
        assert one.queue["volume"] in [t["metadata"]["name"] for t in found["spec"]["volumeClaimTemplates"]]
        assert one.queue["port"] in [p["containerPort"] for c in containers_of(found) for p in c["ports"]]


def _replicas(m: list[Manifest]) -> Any:
    return named(m, "StatefulSet", "mx")["spec"]["replicas"]


def _env(kind: str, name: str, key: str = "LIMIT", container: int = 0) -> Callable[[list[Manifest]], Any]:
    def look(m: list[Manifest]) -> Any:
        found = pod(named(m, kind, name))["containers"][container : container + 1]
        return next((e["value"] for c in found for e in c["env"] if e["name"] == key), None)

    return look


def _checks_senders(m: list[Manifest]) -> Any:
    return next((e["value"] for e in pod(named(m, "StatefulSet", "mx"))["containers"][0]["env"] if e["name"] == "CHECK_SENDER_DOMAIN"), None)


def _cpu(m: list[Manifest]) -> Any:
    return pod(named(m, "StatefulSet", "mx"))["containers"][0]["resources"]["limits"]["cpu"]


def _filter_cpu(m: list[Manifest]) -> Any:
    return pod(named(m, "Deployment", "filter"))["containers"][0]["resources"]["limits"]["cpu"]


def _wait(m: list[Manifest]) -> Any:
    return pod(named(m, "StatefulSet", "mx"))["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]


def _asks_filter(m: list[Manifest]) -> Any:
    return "filter" in str(pod(named(m, "StatefulSet", "mx"))["containers"][0]["readinessProbe"])


def _liveness(manifests: list[Manifest]) -> Any:
    return pod(named(manifests, "StatefulSet", "mx"))["containers"][0]["livenessProbe"]["exec"]["command"]


def _off_edge(m: list[Manifest]) -> Any:
    terms = pod(named(m, "StatefulSet", "mx"))["affinity"].get("nodeAffinity", {})
    return "DoesNotExist" in str(terms)


def _file_systems(m: list[Manifest]) -> Any:
    return own_file_systems(m)


def _claims(m: list[Manifest]) -> Any:
    mx = named(m, "StatefulSet", "mx")
    return len(mx["spec"].get("volumeClaimTemplates") or []), [v for v in pod(mx)["volumes"] if v["name"] == "spool"]


def _mail_volumes(m: list[Manifest]) -> Any:
    mailbox, proxy = named(m, "StatefulSet", "mailbox"), named(m, "Deployment", "mailbox-proxy")
    shared = [v["persistentVolumeClaim"]["claimName"] for v in pod(mailbox)["volumes"] if "persistentVolumeClaim" in v]
    return len(mailbox["spec"].get("volumeClaimTemplates") or []), shared, [c["name"] for c in pod(proxy)["containers"]]


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
        ("no-fsync", _env("StatefulSet", "mx", "NO_FSYNC"), "yes"),
        ("queue-on-pvc", _claims, (1, [])), ("queue-on-emptydir", _claims, (0, [{"name": "spool", "emptyDir": {}}])),
        ("sender-domain-check", _checks_senders, "yes"), ("dnsbl", _env("StatefulSet", "mx", "DNSBL"), "dnsbl.example.net"), ("no-prestop", _hooks, []), ("ndots-1", _ndots, {"1"}),
        ("edge-lag-0", _env("Deployment", "edge", "LAG_S", 1), "0"), ("edge-lag-60", _env("Deployment", "edge", "LAG_S", 1), "60"),
        ("edge-lag-180", _env("Deployment", "edge", "LAG_S", 1), "180"), ("edge-lag-lost", _env("Deployment", "edge", "LOSE_REMOVALS", 1), "yes"),
        ("prestop-wait-12", _wait, "12"), ("ready-on-filter", _asks_filter, True), ("filter-half", _filter_cpu, "500m"),
        ("probes-strict", _liveness, ["/usr/local/lib/mailgale/probe", "25", "proxy"]),
        ("unbound-slots-1000", _env("StatefulSet", "unbound", "INCOMING_NUM_TCP"), "1000"),
        ("mx-off-edge", _off_edge, True), ("milter-accept", _env("StatefulSet", "mx", "MILTER_DEFAULT"), "accept"), ("queue-on-ext4", _file_systems, {"spool-mx-0": 256 << 20}),
    ],
)
def test_a_variant_switches_one_thing(minimal: list[Manifest], variant: str, look: Callable[[list[Manifest]], Any], value: Any) -> None:
    made = rendered(variant)
    assert look(made) == value
    if variant not in ("mx-1x", "queue-on-pvc"):  # these say what the profile does anyway
        assert look(minimal) != value
        changed = [a["metadata"]["name"] for a, b in zip(minimal, made, strict=True) if a != b]
        assert len(changed) == 1 or variant in ("no-prestop", "ndots-1")


def _resolver(name: str) -> Callable[[list[Manifest]], Any]:
    return lambda m: next(e["value"] for e in pod(named(m, "Deployment", "lab-resolver"))["containers"][0]["env"] if e["name"] == name)


def _caches(m: list[Manifest]) -> Any:
    return named(m, "Deployment", "lab-cache")["spec"]["replicas"]


LAB_VARIANTS = [
    *((f"incoming-tcp-{n}", _resolver("INCOMING_NUM_TCP"), str(n)) for n in (10, 20, 50, 100, 1000)),
    ("unbound-threads-2", _resolver("UNBOUND_THREADS"), "2"), ("node-caches-16", _caches, 16), ("node-caches-40", _caches, 40),
]


@pytest.mark.parametrize(("variant", "look", "value"), LAB_VARIANTS)
def test_a_variant_of_the_laboratory_switches_one_thing(lab: list[Manifest], variant: str, look: Callable[[list[Manifest]], Any], value: Any) -> None:
    made = rendered(variant, profile="dns-lab")
    assert look(made) == value
    changed = [a["metadata"]["name"] for a, b in zip(lab, made, strict=True) if a != b]
    assert len(changed) == (0 if variant == "incoming-tcp-10" else 1)  # 10 is what unbound does anyway


def test_the_authority_has_a_zone_for_every_delay_that_a_plan_may_ask_for() -> None:
    text = (COMPONENTS / "dns-lab" / "authority.Corefile").read_text()
    assert [int(d) for d in re.findall(r"^d(\d+)\.\{\$LAB_ZONE\}:53", text, re.MULTILINE)] == list(DELAYS)
    assert [int(d) for d in re.findall(r"delay 1 (\d+)ms", text)] == list(DELAYS)
    cache = (COMPONENTS / "dns-lab" / "cache.Corefile").read_text()
    assert {int(p) for p in re.findall(r"^\.:(\d+) ", cache, re.MULTILINE)} - {5399} == set(PORTS_OF_CACHES.values())


def test_every_variant_is_described_and_tested() -> None:
    described = catalogue.variants(CHECKOUT)
    assert all(described.values())
    assert set(described) == {
        "mx-1x", "mx-2x", "mx-light", "shared-limit", "pod-limit", "queue-on-pvc", "queue-on-emptydir", "no-prestop", "ndots-1",
        "edge-lag-0", "edge-lag-60", "edge-lag-180", "edge-lag-lost", "prestop-wait-12", "ready-on-filter", "filter-half", "milter-accept",
        "queue-on-ext4", "mx-off-edge", "probes-strict", "node-local-dns", "node-local-dns-tcp", "dns-proxy", "sender-domain-check", "dnsbl", "mailbox-shared",
        "no-fsync", "far-authority", "unbound-slots-1000", *(name for name, _, _ in LAB_VARIANTS),
    }


def test_mailbox_shared_gives_both_backends_one_volume_and_each_proxy_a_slot_controller(minimal: list[Manifest]) -> None:
    made = rendered("mailbox-shared")
    assert _mail_volumes(minimal) == (1, [], ["dovecot"])
    assert _mail_volumes(made) == (0, ["mail-shared"], ["dovecot", "remap"])
    assert named(made, "PersistentVolumeClaim", "mail-shared")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_node_local_dns_turns_every_pod_to_its_nodes_cache(minimal: list[Manifest]) -> None:
    made = rendered("node-local-dns")
    asking = [w for w in workloads(made) if pod(w).get("dnsPolicy") == "None"]
    assert {tuple(pod(w)["dnsConfig"]["nameservers"]) for w in asking} == {("169.254.20.10",)}
    rest = [(pod(w)["dnsConfig"]["searches"], pod(w)["dnsConfig"]["options"]) for w in asking]
    assert rest == [(pod(w)["dnsConfig"]["searches"], pod(w)["dnsConfig"]["options"]) for w in workloads(minimal) if pod(w).get("dnsPolicy") == "None"]
    added = {f"{m['kind']}/{m['metadata']['name'].partition('-config')[0]}" for m in made} - {f"{m['kind']}/{m['metadata']['name'].partition('-config')[0]}" for m in minimal}
    assert added == {"DaemonSet/node-local-dns", "Service/lab-dns-upstream", "NetworkPolicy/egress-to-node-cache", "PodDisruptionBudget/node-local-dns", "ConfigMap/node-local-dns"}


def test_node_caches_run_where_their_image_is(minimal: list[Manifest]) -> None:
    """Images are brought to nodes that take ordinary pods; a toleration would put a cache where there is none."""
    assert "tolerations" not in pod(named(rendered("node-local-dns"), "DaemonSet", "node-local-dns"))


def test_dns_proxy_stands_before_both_resolvers() -> None:
    made = rendered("dns-proxy")
    env = {e["name"]: e.get("value") for e in pod(named(made, "Deployment", "coredns"))["containers"][0]["env"]}
    assert [env[f"UNBOUND_{n}_SERVICE_HOST"] for n in (0, 1)] == ["$(DNS_PROXY_0_SERVICE_HOST)", "$(DNS_PROXY_1_SERVICE_HOST)"]
    assert {named(made, "Service", f"dns-proxy-{n}")["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] for n in (0, 1)} == {"dns-proxy-0", "dns-proxy-1"}


def test_a_far_authority_stands_behind_both_resolvers_and_is_late() -> None:
    made = rendered("far-authority")
    env = {e["name"]: e.get("value") for e in pod(named(made, "StatefulSet", "unbound"))["containers"][0]["env"]}
    assert env["NSD_SERVICE_HOST"] == "$(FAR_AUTHORITY_SERVICE_HOST)"
    assert env["QNAME_MINIMISATION"] == "no"
    env = {e["name"]: e.get("value") for e in pod(named(made, "Deployment", "far-authority"))["containers"][0]["env"]}
    assert env["BEFORE"] == "NSD"
    assert [rule_of(r) for r in json.loads(env["RULES"])] == [Rule(Fault.DELAY, delay_s=0.5)]


def test_unbound_has_the_slots_that_it_is_told() -> None:
    assert "incoming-num-tcp: ${INCOMING_NUM_TCP}" in (COMPONENTS / "dns" / "unbound.conf").read_text()
    start = (COMPONENTS / "dns" / "start").read_text()
    assert "INCOMING_NUM_TCP=${INCOMING_NUM_TCP:-10}" in start
    assert "QNAME_MINIMISATION=${QNAME_MINIMISATION:-yes}" in start


@pytest.mark.parametrize(("variants", "forced"), [(("node-local-dns",), ["cluster", "reverse"]), (("node-local-dns", "node-local-dns-tcp"), ["cluster", "reverse", "others"])])
def test_tcp_is_a_switch_for_each_block(variants: tuple[str, ...], forced: list[str]) -> None:
    env = {e["name"]: e.get("value") for e in pod(named(rendered(*variants), "DaemonSet", "node-local-dns"))["containers"][0]["env"]}
    assert [n for n in ("cluster", "reverse", "others") if env[f"TCP_{n.upper()}"] == "force_tcp"] == forced


def test_every_block_of_the_node_cache_binds_its_address_alone() -> None:
    blocks = re.split(r"\n(?=\S)", (COMPONENTS / "node-local-dns" / "Corefile").read_text())
    servers = [b for b in blocks if b.startswith(("$", "in-addr", "ip6", "."))]
    assert len(servers) == 4
    assert all("    bind ${ADDRESS}\n" in b and "    loop\n" in b for b in servers)


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

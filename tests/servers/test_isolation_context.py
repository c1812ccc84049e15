"""The isolation proof on a foreign cluster, judged on clusters that enforce policies, do not, or let nothing through.

The API server is the fake one; a "pod" is a shell on this machine whose packets really go to the canary, or are held back as
the network of that cluster would. Policies are looked up in the API server's state, so the control is let out by nothing else.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import GuardRefused
from harness.kube.client import Cluster, Executed
from harness.model.target import Node
from harness.stack import control, isolation, probe
from harness.stack.deployed import Stack
from harness.stack.listener import Canary
from harness.support.checkout import Checkout
from tests.servers.fake_api import FakeApi, fake_api

pytestmark = pytest.mark.slow
NAMESPACE = "mailgale-aaaa1111-t"
OURS = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": "aaaa1111", "mailgale.dev/run": "none"}
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/"
LISTENING = ("127.0.0.1", "::1")
#: Of every pod.
ADDRESSES = LISTENING


@dataclass
class Network:
    """How this cluster's network treats what pods send out.

    :param enforcing: nodes whose network plugin enforces policies.
    :param drops: nothing at all gets out, as on nodes with rules of their own.
    :param slow: sends that pass before a new policy is in force.
    """

    api: FakeApi
    enforcing: tuple[str, ...] = ("n1", "n2")
    drops: bool = False
    slow: int = 0

    def exec(self, cluster: Cluster, namespace: str, pod: str, container: str, argv: list[str], **_: Any) -> Executed:
        script = argv[-1]
        if "getent" in script:
            return Executed(0 if "run-control" in script else 2, b"", b"")
        if script.endswith("/53'"):
            return Executed(0, b"", b"")
        if not self.lets_out(pod, script):
            return Executed(124, b"", b"")
        return Executed(subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode, b"", b"")

    def lets_out(self, pod: str, script: str) -> bool:
        labels = self.api.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}"]["metadata"]["labels"]
        if self.drops:
            return False
        if not pod.endswith(self.enforcing):
            return True
        if self.slow and "control" in pod:
            self.slow -= 1
            return False
        selecting = [p["spec"] for path, p in self.api.objects.items() if path.startswith(POLICIES)]
        rules = [r for s in selecting if s["podSelector"]["matchLabels"].items() <= labels.items() for r in s["egress"]]
        allowed = {f"{r['to'][0]['ipBlock']['cidr'].rpartition('/')[0]}/{p['port']}" for r in rules for p in r["ports"]}
        return {m[1] for m in re.finditer(r"> /dev/(?:tcp|udp)/([0-9a-f.:]+/[0-9]+)", script)} <= allowed


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        made.namespace(NAMESPACE, **OURS)
        put = made.put

        def running(path: str, value: dict[str, Any]) -> dict[str, Any]:
            """Pods run as soon as they are made."""
            if "/pods/" in path and value.get("kind") == "Pod":
                value["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": a} for a in ADDRESSES]}
            return put(path, value)

        made.put = running  # type: ignore[method-assign]
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        for name, taints in (("n1", []), ("n2", []), ("tainted", [{"key": "k", "effect": "NoSchedule"}])):
            made.put(f"/api/v1/nodes/{name}", {"metadata": {"name": name}, "spec": {"taints": taints}, "status": ready})
        yield made


@pytest.fixture
def stack(api: FakeApi, tmp_path: Path) -> Stack:
    nodes = tuple(Node(n, "worker", ADDRESSES, edge=n == "n1") for n in ("n1", "n2"))
    target = api.target(tmp_path, kind="context", nodes=nodes)
    return Stack(
        namespace=NAMESPACE, target=target, cluster=Cluster(target), checkout_id="aaaa1111", run_id="none", profile="minimal", variants=(),
        edge4="127.0.0.1", edge6="::1", password="", users=8, mail_domain="example.org", cluster_domain="cluster.local", dns_address="10.96.0.53",
        ca_pem="", images={"registry.example.org/mailgale/postfix:1": "sha256:1"}, manifests_sha256="", time_scale=30.0,
    )


@pytest.fixture
def network(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(api)

    @contextmanager
    def on_loopback(stack: Stack) -> Iterator[list[Canary]]:
        listening = [Canary(a) for a in LISTENING]
        yield listening
        for one in listening:
            one.close()

    monkeypatch.setattr(Cluster, "exec", lambda cluster, *args, **named: made.exec(cluster, *args, **named))
    monkeypatch.setattr(isolation, "canaries", on_loopback)
    monkeypatch.setattr(control, "_OPENS_S", 3.0)
    monkeypatch.setattr(probe, "_ARRIVES_S", 0.3)
    return made


def prove(stack: Stack) -> isolation.Isolation:
    return isolation.prove_nothing_leaves(stack, Checkout.find())


def left(api: FakeApi) -> list[str]:
    return [p for p in api.objects if "/pods/" in p or p.startswith(POLICIES) or p.endswith("run-control")]


def test_a_cluster_that_enforces_policies_is_isolated_and_nothing_of_the_proof_is_left(stack: Stack, network: Network, api: FakeApi):
    proof = prove(stack)
    assert proof.isolated
    assert proof.nodes == ("n1", "n2")
    assert left(api) == []


def test_control_and_ordinary_pods_differ_in_the_label_alone(stack: Stack, network: Network, api: FakeApi):
    prove(stack)
    made = {p.rpartition("/")[2]: b for m, p, b in api.requests if m == "PATCH" and "/pods/" in p}
    ordinary, allowed = made[f"{isolation.PROBE}-n1"], made[f"{control.NAME}-n1"]
    assert set(made) == {f"{name}-{n}" for name in (isolation.PROBE, control.NAME) for n in ("n1", "n2")}
    assert control.LABEL not in ordinary["metadata"]["labels"]
    assert allowed["metadata"]["labels"][control.LABEL]
    assert ordinary["spec"]["containers"][0].pop("name") != allowed["spec"]["containers"][0].pop("name")
    assert ordinary["spec"] == allowed["spec"]
    assert not ordinary["spec"].get("hostNetwork")


def test_the_policy_lets_out_to_the_canaries_and_nowhere_else(stack: Stack, network: Network, api: FakeApi):
    proof = prove(stack)
    (sent,) = [b for m, p, b in api.requests if m == "PATCH" and p.startswith(POLICIES)]
    assert sent["spec"]["policyTypes"] == ["Egress"]
    opened = {(r["to"][0]["ipBlock"]["cidr"], tuple((p["protocol"], p["port"]) for p in r["ports"])) for r in sent["spec"]["egress"]}
    ports = [int(c.rpartition(":")[2]) for c in proof.canary]
    assert opened == {("127.0.0.1/32", (("TCP", ports[0]), ("UDP", ports[0]))), ("::1/128", (("TCP", ports[1]), ("UDP", ports[1])))}


def test_a_policy_that_takes_a_while_is_waited_for(stack: Stack, network: Network):
    network.slow = 3
    assert prove(stack).isolated


@pytest.mark.parametrize("enforcing", [(), ("n1",)], ids=["nowhere", "not on one node"])
def test_a_cluster_that_does_not_enforce_policies_is_refused(stack: Stack, network: Network, api: FakeApi, enforcing: tuple[str, ...]):
    network.enforcing = enforcing
    with pytest.raises(GuardRefused, match=r"does not enforce NetworkPolicy.*a pod on n2 reaches 127.0.0.1 over tcp.*over udp") as caught:
        prove(stack)
    assert caught.value.exit_code == 7
    assert left(api) == []


def test_where_nothing_gets_out_at_all_the_silence_proves_nothing(stack: Stack, network: Network, api: FakeApi):
    network.drops = True
    with pytest.raises(GuardRefused, match=r"not reached even where a policy allows it.*the control pod on n1, which a policy of its own lets out over tcp"):
        prove(stack)
    assert left(api) == []


def test_without_the_policy_the_control_is_not_let_out(stack: Stack, network: Network, monkeypatch: pytest.MonkeyPatch):
    """The planted defect: were the control heard without its policy, it would prove nothing of policies."""
    real = control.policy
    monkeypatch.setattr(control, "policy", lambda listening: real([]))
    with pytest.raises(GuardRefused, match="not reached even where a policy allows it"):
        prove(stack)


def test_a_family_that_pods_do_not_have_needs_no_control(stack: Stack, network: Network, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{__name__}.ADDRESSES", ("127.0.0.1",))
    proof = isolation.examine(stack, Checkout.find())
    assert proof.isolated
    monkeypatch.setattr(f"{__name__}.ADDRESSES", ())
    assert isolation.examine(stack, Checkout.find()).unproven


def test_a_cluster_whose_nodes_take_no_pods_proves_nothing(stack: Stack, network: Network, api: FakeApi):
    for name in ("n1", "n2"):
        api.objects[f"/api/v1/nodes/{name}"]["spec"]["unschedulable"] = True
    with pytest.raises(GuardRefused, match="no node takes ordinary pods"):
        prove(stack)

"""What the harness needs of a cluster, shown on the real one; a node image passes when this does."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cluster import base_image, egress, kind, load
from harness.cluster.api import Api, is_ready
from harness.cluster.engine import Engine, ensure_engine
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2700)]

#: Answers "<address of the client> <name of this pod>" on port 8080, IPv4 and IPv6.
SERVER = (
    "use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => '::', LocalPort => 8080, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@;"
    "$SIG{TERM} = sub { exit 0 }; while (1) { my $c = $s->accept or next; print $c $c->peerhost . ' ' . $ENV{HOSTNAME} . qq{\\n}; close $c }"
)


class Lab:
    """A namespace for these tests, and kubectl in it."""

    def __init__(self, cluster: Target, checkout: Checkout, engine: Engine, image: str) -> None:
        self.target, self.checkout, self.engine, self.image = cluster, checkout, engine, image
        self.api: Api = kind.connect(checkout)
        self.namespace = f"mailgale-{checkout.id}-conformance"

    @property
    def workers(self) -> list[str]:
        return [n.name for n in self.target.nodes if n.role == "worker"]

    def __call__(self, *words: str, **more: Any) -> str:
        return self.api("-n", self.namespace, *words, **more).stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        self("apply", "-f", "-", input=yaml.safe_dump_all(manifests))

    def pod(self, name: str, node: str, **spec: Any) -> None:
        """A pod that sleeps on ``node``, running when this returns."""
        container = {"name": "c", "image": self.image, "command": ["sleep", "3600"], **spec.pop("container", {})}
        body = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})
        self.running(name)

    def running(self, *pods: str, deadline_s: float = 90) -> None:
        def probe() -> bool:
            found = {p["metadata"]["name"]: p["status"] for p in self.api.get("-n", self.namespace, "pods")["items"]}
            return all(self._ready(found.get(p, {})) for p in pods)

        wait_for(probe, deadline_s=deadline_s, what=f"the pods {', '.join(pods)}")

    @staticmethod
    def _ready(status: dict[str, Any]) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))

    def run(self, pod: str, script: str, *, check: bool = True) -> str:
        return self("exec", pod, "--", "bash", "-c", script, check=check).strip()

    def ask(self, pod: str, address: str) -> str:
        """What the server at ``address`` says to a client in ``pod``; "" when it does not answer in 3 s."""
        return self.run(pod, f"exec 3<>/dev/tcp/{address}/8080 && timeout 3 cat <&3", check=False)

    def addresses(self, pod: str) -> list[str]:
        return [i["ip"] for i in self.api.get("-n", self.namespace, "pod", pod)["status"]["podIPs"]]

    def node_of(self, pod: str) -> str:
        return str(self.api.get("-n", self.namespace, "pod", pod)["spec"]["nodeName"])


@pytest.fixture(scope="module")
def lab(cluster: Target, checkout: Checkout) -> Iterator[Lab]:
    progress = SilentProgress()
    engine = ensure_engine(checkout, progress)
    image = base_image.ensure_base_image(engine, checkout, progress)
    kind.load_images(engine, checkout, [image], progress)
    made = Lab(cluster, checkout, engine, image)
    labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": checkout.id, "mailgale.dev/run": "none"}
    made.api("delete", "namespace", made.namespace, "--ignore-not-found", timeout_s=120)
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace, "labels": labels}})
    made.apply(*echo(made.image))
    try:
        yield made
    finally:
        made.api("delete", "namespace", made.namespace, "--wait=false", "--ignore-not-found")
        made.api("delete", "pv", made.namespace, "--wait=false", "--ignore-not-found")
        shutil.rmtree(Path(cluster.volumes_dir) / made.namespace, ignore_errors=True)


def echo(image: str) -> list[dict[str, Any]]:
    """Two servers on two nodes behind a dual-stack Service."""
    labels = {"app": "echo"}
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    container = {
        "name": "c", "image": image, "command": ["perl", "-e", SERVER],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    pod = {
        "terminationGracePeriodSeconds": 1, "containers": [container],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
    }  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"},
         "spec": {"selector": labels, "ports": [{"port": 8080}], "ipFamilyPolicy": "RequireDualStack"}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "echo"},
         "spec": {"replicas": 2, "serviceName": "echo", "podManagementPolicy": "Parallel", "selector": {"matchLabels": labels}, "template": template}},
    ]  # fmt: skip


def test_nodes_are_ready_dual_stack_and_one_is_the_edge(lab: Lab):
    assert all(is_ready(n) for n in lab.api.get("nodes")["items"])
    assert [n.role for n in lab.target.nodes].count("worker") >= 3
    assert all([":" in a for a in n.addresses] == [False, True] for n in lab.target.nodes)
    assert [n.name for n in lab.target.nodes if n.edge] == [lab.target.edge.name]


def test_up_on_a_healthy_cluster_changes_nothing(lab: Lab):
    begin = time.monotonic()
    with lab.checkout.lock("cluster"):
        again = kind.up(lab.checkout, "single", SilentProgress())
    assert again.uid == lab.target.uid
    assert time.monotonic() - begin < 30
    assert kind.current(lab.checkout) is not None
    assert kind.status(lab.checkout).problem == ""


def test_pods_reach_each_other_across_nodes_with_their_own_addresses(lab: Lab):
    lab.running("echo-0", "echo-1")
    assert lab.node_of("echo-0") != lab.node_of("echo-1")
    own, other = lab.addresses("echo-0"), lab.addresses("echo-1")
    assert [":" in a for a in own] == [False, True]
    for mine, address in zip(own, other, strict=True):
        client, pod = lab.ask("echo-0", address).split()
        assert pod == "echo-1"
        assert client.removeprefix("::ffff:") == mine  # no masquerading between pods


def test_cluster_dns_and_services_of_both_families(lab: Lab):
    lab.running("echo-0", "echo-1")
    name = f"echo.{lab.namespace}.svc.cluster.local"
    wait_for(lambda: lab.run("echo-0", f"getent ahosts {name}", check=False), deadline_s=30, what=name)
    for family in ("ahostsv4", "ahostsv6"):
        address = lab.run("echo-0", f"getent {family} {name} | head -n 1").split()[0]
        assert lab.ask("echo-0", address).split()[1] in ("echo-0", "echo-1")
    assert lab.run("echo-0", "getent ahosts www.example.com.", check=False) == ""


def test_privileged_and_host_network_pods(lab: Lab):
    node = lab.target.edge
    lab.pod("host", node.name, hostNetwork=True, container={"securityContext": {"privileged": True}})
    assert lab.run("host", "mount -t tmpfs none /mnt && echo mounted") == "mounted"
    assert set(lab.addresses("host")) >= {node.addresses[0]}


def test_unsafe_sysctls_are_set_in_the_pod(lab: Lab):
    wanted = {"net.core.somaxconn": "4321", "kernel.msgmax": "65000", "net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "2000\t60000"}
    sysctls = [{"name": n, "value": v.replace("\t", " ")} for n, v in wanted.items()]
    lab.pod("sysctls", lab.workers[0], securityContext={"sysctls": sysctls})
    for name, value in wanted.items():
        assert lab.run("sysctls", f"cat /proc/sys/{name.replace('.', '/')}") == value


def test_a_volume_follows_its_pod_to_another_node(lab: Lab):
    lab.apply(*claim(lab.namespace))
    spec = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]}
    mounted = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    lab.pod("writer", lab.workers[0], **spec, container=mounted)
    lab.run("writer", "echo kept > /v/file && sync")
    lab("delete", "pod", "writer", "--grace-period=0", "--force")
    lab.pod("reader", lab.workers[1], **spec, container=mounted)
    assert lab.run("reader", "cat /v/file") == "kept"
    assert (Path(lab.target.volumes_dir) / lab.namespace / "v" / "file").read_text() == "kept\n"


def claim(namespace: str) -> list[dict[str, Any]]:
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": {
            **common, "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": "v"},
            "hostPath": {"path": f"/var/lib/mailgale/volumes/{namespace}/v", "type": "DirectoryOrCreate"}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "v"},
         "spec": {**common, "volumeName": namespace, "resources": {"requests": {"storage": "1Gi"}}}},
    ]  # fmt: skip


def test_a_drain_respects_the_disruption_budget(lab: Lab):
    lab.running("echo-0", "echo-1")
    node = lab.node_of("echo-1")
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "echo"},
              "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "echo"}}}}  # fmt: skip
    lab.apply(budget)
    wait_for(lambda: lab("get", "pdb", "echo", "-o", "jsonpath={.status.currentHealthy}") == "2", deadline_s=30, what="the budget")
    words = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=echo")
    try:
        refused = lab.api(*words, "--timeout=5s", check=False)
        assert refused.code != 0
        assert "disruption budget" in refused.stderr
        lab("patch", "pdb", "echo", "--type=merge", "-p", '{"spec": {"minAvailable": 1}}')
        wait_for(lambda: lab("get", "pdb", "echo", "-o", "jsonpath={.status.disruptionsAllowed}") == "1", deadline_s=30, what="the budget")
        lab.api(*words, "--timeout=60s", timeout_s=60)
    finally:
        lab.api("uncordon", node)
    lab.running("echo-0", "echo-1")


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A UDP socket of this machine on all its addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.settimeout(0.5)
        yield listener


def heard(canary: socket.socket, send: Callable[[int], object]) -> bool:
    """Whether the canary hears the words that ``send`` sends to its port."""
    send(canary.getsockname()[1])
    try:
        return canary.recv(99).startswith(b"out")
    except TimeoutError:
        return False


def test_nothing_leaves_and_without_the_rules_it_would(lab: Lab, canary: socket.socket):
    host = lab.target.generator_networks[0].partition("/")[0]
    node = lab.target.edge.name
    lab.pod("inside", node)
    lab.pod("outside", node, hostNetwork=True)

    def from_pod(pod: str) -> Callable[[int], object]:
        return lambda port: lab.run(pod, f"echo out > /dev/udp/{host}/{port}", check=False)

    def control(port: int) -> object:
        script = f"echo out > /dev/udp/{host}/{port}"
        return lab.engine.docker("run", "--rm", "--network", lab.target.name, lab.image, "bash", "-c", script)

    assert heard(canary, control)  # a container of the same network without the rules
    before = egress.dropped(lab.engine, node)
    assert not heard(canary, from_pod("inside"))
    assert not heard(canary, from_pod("outside"))
    assert egress.dropped(lab.engine, node) >= before + 2
    networks = (*lab.target.pod_networks, *lab.target.service_networks)
    try:  # the planted defect
        lab.engine.docker("exec", node, "nft", "delete", "table", *egress.TABLE)
        assert not egress.in_force(lab.engine, node)
        assert heard(canary, from_pod("outside"))
    finally:
        egress.apply(lab.engine, lab.checkout, [node], networks)
    assert egress.in_force(lab.engine, node)
    assert not heard(canary, from_pod("outside"))


def test_a_node_stops_and_starts(lab: Lab):
    lab.running("echo-0", "echo-1")
    node = lab.node_of("echo-1")

    def ready() -> bool:
        return is_ready(lab.api.get("node", node))

    lab.engine.docker("kill", node)
    try:
        wait_for(lambda: not ready(), deadline_s=90, what=f"{node} to be missed")
        assert kind.current(lab.checkout) is None
    finally:
        lab.engine.docker("start", node)
    wait_for(ready, deadline_s=90, what=f"{node} to come back")
    assert egress.in_force(lab.engine, node)

    def answered() -> bool:
        return all(lab.ask("echo-0", a).endswith("echo-1") for a in lab.addresses("echo-1"))

    lab.running("echo-0", "echo-1")
    wait_for(answered, deadline_s=60, what="pods across the node's return, both families")


def test_images_are_brought_once(lab: Lab):
    ids = lab.engine.docker("image", "inspect", lab.image, "--format", "{{.Id}}").stdout.strip()
    assert load.lacks(lab.engine, lab.workers[0], {lab.image: ids}) == set()
    assert load.lacks(lab.engine, lab.workers[0], {lab.image: "sha256:other"}) == {lab.image}
    assert load.lacks(lab.engine, lab.workers[0], {"mailgale/none:1": ids}) == {"mailgale/none:1"}

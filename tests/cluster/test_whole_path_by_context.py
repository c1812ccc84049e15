"""The session's kind cluster as "any other cluster": reached through a context of a kubeconfig that the configuration allows.

It is this checkout's own, so stack and proof work as on kind. Taken for a foreign one (no engine) the proof is refused: its
nodes drop what a policy would let out, and a node without its rules has nothing that enforces policies. Runs last: the edge
is there once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.cluster import node_image
from harness.cluster.context import target_for_context
from harness.dns.count import Case, count
from harness.dns.libcs import program
from harness.dns.remote import remote_place
from harness.errors import GuardRefused, NotReady
from harness.kube.client import Cluster
from harness.model.target import Target
from harness.stack import control, foreign, isolation, lifecycle
from harness.stack.deployed import Stack
from harness.stack.images import Image
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress
from tests.cluster.test_isolation import no_rules

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
MAILGALE = Path(sys.executable).parent / "mailgale"
CONTEXT = "borrowed"
NAMED = ("--target", "context", "--context", CONTEXT)
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(cluster: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user with a kubeconfig in two files, whose current context is another than the allowed one."""
    folder = tmp_path_factory.mktemp("user")
    whole = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    found = next(c for c in whole["contexts"] if c["name"] == cluster.context)
    head = {"apiVersion": "v1", "kind": "Config"}
    contexts = [{**found, "name": CONTEXT}, {**found, "name": "current"}]
    (folder / "contexts").write_text(yaml.safe_dump({**head, "current-context": "current", "contexts": contexts}))
    (folder / "rest").write_text(yaml.safe_dump({**head, "clusters": whole["clusters"], "users": whole["users"]}))
    allow(folder, {"name": CONTEXT, "uid": cluster.uid})
    return folder


def allow(home: Path, *entries: object) -> None:
    (home / "mailgale").mkdir(exist_ok=True)
    (home / "mailgale" / "config.yaml").write_text(yaml.safe_dump({"allowed_contexts": list(entries)}))


@pytest.fixture
def user(home: Path, cluster: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process as that user; the configuration is put back."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("KUBECONFIG", f"{home}/contexts:{home}/rest")
    yield home
    allow(home, {"name": CONTEXT, "uid": cluster.uid})


@pytest.fixture
def mailgale(user: Path) -> Command:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(MAILGALE), *words], capture_output=True, text=True, check=False, timeout=600)

    return command


@pytest.fixture(scope="module")
def stack(home: Path, cluster: Target, checkout: Checkout) -> Iterator[Stack]:
    """Deployed through the context, by the command."""
    lifecycle.down_all(cluster, checkout, SilentProgress())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("KUBECONFIG", f"{home}/contexts:{home}/rest")
        done = subprocess.run([str(MAILGALE), "stack", "up", *NAMED, "--users", "20"], capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "own kind cluster" in done.stderr
        found = lifecycle.find(target_for_context(CONTEXT, checkout), checkout, "stack")
        assert found is not None
        yield found
        gone = subprocess.run([str(MAILGALE), "stack", "down", *NAMED], capture_output=True, text=True, check=False, timeout=300)
        assert gone.returncode == 0, gone.stderr[-4000:]
    assert lifecycle.deployed(cluster, checkout) == []


def as_foreign(stack: Stack) -> Stack:
    """The same stack, its cluster taken for one that mailgale did not make."""
    target = replace(stack.target, engine="", volumes_dir="")
    return replace(stack, target=target, cluster=Cluster(target))


def namespaces(cluster: Target) -> dict[str, str]:
    return {n["metadata"]["name"]: n["metadata"]["resourceVersion"] for n in Cluster(cluster).namespaces()}


def test_a_context_that_is_not_allowed_is_refused_and_nothing_changes(mailgale: Command, cluster: Target):
    before = namespaces(cluster)
    for words in (("stack", "up"), ("stack", "down"), ("run", "mx-pod-kill"), ("preflight", "mx-pod-kill")):
        done = mailgale(*words, "--target", "context", "--context", "current")
        assert (done.returncode, "'current' is not allowed" in done.stderr) == (7, True), done.stderr
        assert mailgale(*words, "--target", "context").returncode == 4
    assert namespaces(cluster) == before


def test_a_context_that_is_another_cluster_by_now_is_refused_and_nothing_changes(mailgale: Command, user: Path, cluster: Target):
    before = namespaces(cluster)
    allow(user, {"name": CONTEXT, "uid": "00000000-0000-0000-0000-000000000000"})
    for words in (("stack", "up"), ("stack", "down")):
        done = mailgale(*words, *NAMED)
        assert (done.returncode, "another cluster now" in done.stderr) == (7, True), done.stderr
    assert namespaces(cluster) == before


def test_the_own_cluster_is_recognised_and_keeps_its_ways(user: Path, cluster: Target, checkout: Checkout):
    target = target_for_context(CONTEXT, checkout)
    assert target.ours
    assert (target.kind, target.uid, target.volumes_dir) == ("context", cluster.uid, cluster.volumes_dir)
    assert target.edge.name == cluster.edge.name


def test_nothing_leaves_and_the_control_is_beside_the_nodes(stack: Stack, checkout: Checkout):
    proof = isolation.prove_nothing_leaves(stack, checkout)
    assert proof.isolated
    assert set(proof.nodes) == {n.name for n in stack.target.nodes if n.role == "worker"}


def test_nodes_that_drop_everything_prove_nothing_by_policies(stack: Stack, checkout: Checkout):
    with pytest.raises(GuardRefused, match=r"not reached even where a policy allows it.*the control pod on") as caught:
        isolation.prove_nothing_leaves(as_foreign(stack), checkout)
    assert caught.value.exit_code == 7
    assert stack.cluster.pods(stack.namespace, control.LABEL) == []
    assert stack.cluster.find("networking.k8s.io/v1", "NetworkPolicy", control.NAME, stack.namespace) is None


def test_a_cluster_without_a_policy_engine_is_refused_and_told(stack: Stack, checkout: Checkout):
    if not node_image.is_built_here(str(stack.target.versions["node-image"])):
        pytest.skip("this node image has a network that enforces policies")
    node = next(n.name for n in stack.target.nodes if n.role == "worker")
    with no_rules(node), pytest.raises(GuardRefused, match=f"does not enforce NetworkPolicy.*a pod on {node} reaches"):
        isolation.prove_nothing_leaves(as_foreign(stack), checkout)


def test_namespaces_that_are_not_ours_are_refused(stack: Stack, checkout: Checkout):
    for name in ("kube-system", "default"):
        with pytest.raises(GuardRefused, match="not ours"):
            lifecycle.down(name, target=stack.target, checkout_id=checkout.id)
        with pytest.raises(GuardRefused, match="not ours"):
            stack.gateway().apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}}], name)
    with pytest.raises(GuardRefused, match="own kind clusters only"):
        stack.gateway().cordon(stack.target.edge.name)


def test_the_edge_is_bound_by_name_not_by_label(stack: Stack):
    (edge,) = stack.cluster.pods(stack.namespace, component="edge")
    assert edge.node == stack.target.edge.name
    assert "nodeSelector" not in edge.raw["spec"]


def test_kubelets_report_the_images_under_the_names_that_are_looked_for(stack: Stack):
    cluster = as_foreign(stack).cluster
    images = [Image(ref.rpartition("/")[2].partition(":")[0], ref, i) for ref, i in stack.images.items()]
    wait_for(lambda: not foreign.examine(cluster, images).missing, deadline_s=120, what="the kubelets to report the images")
    lacking = Image("mx", "mailgale/mx:not-there", "sha256:0")
    if held := foreign.examine(cluster, [lacking]).missing:
        with pytest.raises(NotReady, match=r"nodes lack images.*mailgale/mx:not-there on"):
            foreign.have_images(cluster, [lacking], SilentProgress())
        assert len(held["mailgale/mx:not-there"]) >= 3


DNS_NAME = "client-198-51-100-7.example.net"


def test_dns_is_counted_through_the_context(stack: Stack, mailgale: Command):
    done = mailgale("dns", "count", DNS_NAME, "--libc", "glibc", "--family", "any", "-o", "json", *NAMED)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {u["ndots"]: u["queries"] for u in json.loads(done.stdout)["look_ups"]} == {5: 12, 1: 2}


def test_dns_is_counted_by_a_pod_where_the_nodes_are_not_here(stack: Stack, checkout: Checkout, tmp_path: Path):
    there = as_foreign(stack)
    asked = there.cluster.pods(there.namespace, component="mx")[0]
    with remote_place(there, asked, checkout, SilentProgress()) as place:
        assert place.bring is not None
        made = place.bring(program("glibc", checkout))
        found = {n: count(place, made, Case(DNS_NAME, "glibc", n, "any"), tmp_path / str(n)) for n in (5, 1)}
    assert {n: (c.tree.queries, c.flaws, bool(c.found)) for n, c in found.items()} == {5: (12, (), True), 1: (2, (), True)}
    assert [p.name for p in there.cluster.pods(there.namespace) if p.name.startswith("dns-count")] == []


def test_preflight_says_what_is_proven(stack: Stack, mailgale: Command, checkout: Checkout):
    """Last: the stack goes, since the edge's ports are there once."""
    lifecycle.down(stack)
    done = mailgale("preflight", "mx-pod-kill", *NAMED)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "reached nothing outside; the controls did" in done.stdout
    assert lifecycle.deployed(stack.target, checkout) == []

"""Every mutation is refused when its guard says no or cannot be evaluated, and then no changing request is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.cluster.api import Api as Kubectl
from harness.errors import GuardRefused
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Mutation
from harness.kube.guards import Owner, check_lease, check_namespace, check_nodes_stay
from harness.model.target import Node
from tests.servers.fake_api import FakeApi
from tests.unit.kube.conftest import NAMESPACE, OURS

POD = f"/api/v1/namespaces/{NAMESPACE}/pods/mx-0"
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}

MUTATIONS: dict[str, Callable[[Gateway], object]] = {
    "apply": lambda g: g.apply([CONFIG], NAMESPACE),
    "delete": lambda g: g.delete("v1", "ConfigMap", "c", NAMESPACE),
    "delete_pod": lambda g: g.delete_pod("mx-0", NAMESPACE, 0),
    "evict": lambda g: g.evict("mx-0", NAMESPACE),
    "exec": lambda g: g.exec(NAMESPACE, "mx-0", "mx", ["true"]),
    "scale": lambda g: g.scale("StatefulSet/mx", NAMESPACE, 2),
    "resize": lambda g: g.resize("mx-0", NAMESPACE, "mx", cpu="1"),
    "patch": lambda g: g.patch("v1", "ConfigMap", "c", NAMESPACE, {"data": {}}),
    "delete_namespace": lambda g: g.delete_namespace(NAMESPACE),
    "token": lambda g: g.token("chaos", NAMESPACE, seconds=60),
}
CLUSTER_WIDE: dict[str, Callable[[Gateway], object]] = {
    "create_namespace": lambda g: g.create_namespace("mailgale-aaaa1111-new"),
    "cordon": lambda g: g.cordon("n1"),
}


@pytest.fixture
def full(api: FakeApi) -> FakeApi:
    api.put(POD, {"kind": "Pod", "metadata": {"name": "mx-0"}, "spec": {}, "status": {}})
    api.put("/api/v1/nodes/n9", {"metadata": {"name": "n9"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    api.put(f"{POD}/resize", {"kind": "Pod", "metadata": {"name": "mx-0"}})
    api.put(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx", {"metadata": {"name": "mx"}})
    api.put(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx/scale", {"spec": {"replicas": 1}})
    api.put(f"/api/v1/namespaces/{NAMESPACE}/configmaps/c", {"metadata": {"name": "c"}})
    api.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}})
    return api


@pytest.mark.parametrize("name", [n for n in {**MUTATIONS, **CLUSTER_WIDE} if n != "exec"])
def test_with_good_guards_every_mutation_passes(full: FakeApi, gateway: Gateway, recorded: list[Mutation], name: str):
    {**MUTATIONS, **CLUSTER_WIDE}[name](gateway)
    assert full.mutations
    assert recorded[-1].outcome == "done"


@pytest.mark.parametrize("name", {**MUTATIONS, **CLUSTER_WIDE})
def test_another_cluster_is_refused(full: FakeApi, cluster: Cluster, tmp_path: Path, recorded: list[Mutation], name: str):
    other = Cluster(replace(cluster.target, uid="another"))
    with pytest.raises(GuardRefused, match="another cluster answers"):
        {**MUTATIONS, **CLUSTER_WIDE}[name](Gateway(other, "aaaa1111", "r1", recorded.append))
    assert full.mutations == []
    assert recorded[-1].outcome.startswith("refused: ")


@pytest.mark.parametrize("name", {**MUTATIONS, **CLUSTER_WIDE})
def test_a_target_without_uid_is_refused(full: FakeApi, cluster: Cluster, name: str):
    with pytest.raises(GuardRefused, match="no cluster UID"):
        {**MUTATIONS, **CLUSTER_WIDE}[name](Gateway(Cluster(replace(cluster.target, uid="")), "aaaa1111", "r1"))
    assert full.mutations == []


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize(
    "labels",
    [{}, {**OURS, "mailgale.dev/checkout": "bbbb2222"}, {**OURS, "app.kubernetes.io/managed-by": "helm"}, {**OURS, "mailgale.dev/run": "r2"}],
    ids=["none", "another checkout", "another manager", "another run"],
)
def test_a_namespace_that_is_not_ours_is_refused(full: FakeApi, gateway: Gateway, name: str, labels: dict[str, str]):
    full.namespace(NAMESPACE, **labels)
    with pytest.raises(GuardRefused, match="not ours"):
        MUTATIONS[name](gateway)
    assert full.mutations == []


@pytest.mark.parametrize("name", [n for n in MUTATIONS if n != "delete_namespace"])
def test_a_namespace_that_is_not_there_is_refused(full: FakeApi, gateway: Gateway, name: str):
    del full.objects[f"/api/v1/namespaces/{NAMESPACE}"]
    with pytest.raises(GuardRefused, match="no such namespace"):
        MUTATIONS[name](gateway)
    assert full.mutations == []


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("unread", ["/api/v1/namespaces/kube-system", f"/api/v1/namespaces/{NAMESPACE}"])
def test_a_guard_that_cannot_be_evaluated_refuses(full: FakeApi, gateway: Gateway, name: str, unread: str):
    full.failures[("GET", unread)] = 500
    with pytest.raises(GuardRefused, match="cannot be read"):
        MUTATIONS[name](gateway)
    assert full.mutations == []


def test_clean_up_may_delete_what_another_run_left_but_not_another_checkout(full: FakeApi, cluster: Cluster):
    cleaner = Gateway(cluster, "aaaa1111", any_run=True)
    full.namespace(NAMESPACE, **{**OURS, "mailgale.dev/checkout": "bbbb2222"})
    with pytest.raises(GuardRefused):
        cleaner.delete_namespace(NAMESPACE)
    full.namespace(NAMESPACE, **{**OURS, "mailgale.dev/run": "r9"})
    assert cleaner.delete_namespace(NAMESPACE)


def test_manifests_of_other_namespaces_are_refused(full: FakeApi, gateway: Gateway):
    with pytest.raises(GuardRefused, match="another namespace"):
        gateway.apply([{**CONFIG, "metadata": {"name": "c", "namespace": "default"}}], NAMESPACE)
    with pytest.raises(GuardRefused, match="create_namespace"):
        gateway.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}], NAMESPACE)
    assert full.mutations == []


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [("Node", "n1", "no cluster-scoped kind"), ("PersistentVolume", "data", "must be called"),
     ("PersistentVolume", "mailgale-bbbb2222-x", "must be called")],
)
def test_cluster_scoped_objects_must_be_ours_by_kind_and_name(full: FakeApi, gateway: Gateway, kind: str, name: str, why: str):
    with pytest.raises(GuardRefused, match=why):
        gateway.apply([{"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}], NAMESPACE)
    assert full.mutations == []


def test_a_cluster_scoped_object_of_somebody_else_is_left_alone(full: FakeApi, gateway: Gateway):
    name = "mailgale-aaaa1111-t-spool"
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    full.put(f"/api/v1/persistentvolumes/{name}", {"metadata": {"name": name, "labels": {"team": "other"}}})
    with pytest.raises(GuardRefused, match="not ours"):
        gateway.apply([volume], NAMESPACE)
    with pytest.raises(GuardRefused, match="not ours"):
        gateway.delete("v1", "PersistentVolume", name)
    assert full.mutations == []
    full.put(f"/api/v1/persistentvolumes/{name}", {"metadata": {"name": name, "labels": {**OURS, "mailgale.dev/run": "r0"}}})
    gateway.apply([volume], NAMESPACE)
    assert gateway.delete("v1", "PersistentVolume", name)


@pytest.mark.parametrize(("name", "labels", "ours"), [
    ("mailgale-aaaa1111-t-spool", {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": "bbbb2222"}, False),
    ("mailgale-volumes", {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": "bbbb2222"}, True),
    ("mailgale-volumes", {"mailgale.dev/checkout": "bbbb2222"}, False),
])
def test_only_what_is_shared_by_name_may_be_another_checkouts(full: FakeApi, gateway: Gateway, name: str, labels: dict[str, str], ours: bool):
    full.put(f"/apis/storage.k8s.io/v1/storageclasses/{name}", {"metadata": {"name": name, "labels": labels}})
    wanted = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    if ours:
        gateway.apply([wanted], NAMESPACE)
        return
    with pytest.raises(GuardRefused, match="not ours"):
        gateway.apply([wanted], NAMESPACE)
    assert full.mutations == []


def test_nodes_are_changed_on_our_own_clusters_only(full: FakeApi, cluster: Cluster, gateway: Gateway):
    for on in (True, False):
        with pytest.raises(GuardRefused, match="no such node"):
            gateway.cordon("n2", on=on)
    with pytest.raises(GuardRefused, match="own kind clusters"):
        Gateway(Cluster(replace(cluster.target, kind="context")), "aaaa1111", "r1").cordon("n1")
    assert full.mutations == []


@pytest.mark.parametrize(
    ("patch", "how"),
    [({"metadata": {"labels": {"mailgale.dev/run": None}}}, "merge"), ({"metadata": {"labels": None}}, "merge"),
     ([{"op": "remove", "path": "/metadata/labels/mailgale.dev~1run"}], "json"), ([{"op": "remove", "path": "/metadata"}], "json")],
)
def test_the_owner_labels_cannot_be_patched_away(full: FakeApi, gateway: Gateway, patch: object, how: str):
    with pytest.raises(GuardRefused, match="owner labels"):
        gateway.patch("v1", "ConfigMap", "c", NAMESPACE, patch, how=how)  # type: ignore[arg-type]
    assert full.mutations == []


def test_namespaces_have_their_own_ways(full: FakeApi, gateway: Gateway):
    with pytest.raises(GuardRefused, match="namespaces are not patched"):
        gateway.patch("v1", "Namespace", NAMESPACE, "", {"data": {}})
    with pytest.raises(GuardRefused, match="by delete_namespace"):
        gateway.delete("v1", "Namespace", NAMESPACE)
    assert full.mutations == []


def test_no_context_is_never_the_current_one(full: FakeApi, cluster: Cluster, tmp_path: Path):
    """The client and kubectl both take the kubeconfig's current context where none is named; the fake has one."""
    kubeconfig = cluster.target.kubeconfig
    with pytest.raises(GuardRefused, match="no context is named"):
        Cluster(replace(cluster.target, context=""))
    with pytest.raises(GuardRefused, match="no context is named"):
        Kubectl(Path("kubectl"), kubeconfig, "")
    assert full.requests == []


def test_several_kubeconfigs_are_merged(full: FakeApi, cluster: Cluster, tmp_path: Path):
    whole = yaml.safe_load(Path(cluster.target.kubeconfig).read_text())
    parts = {"contexts": ["contexts"], "rest": ["clusters", "users"]}
    for name, keys in parts.items():
        (tmp_path / name).write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **{k: whole[k] for k in keys}}))
    merged = Cluster(replace(cluster.target, kubeconfig=f"{tmp_path}/contexts:{tmp_path}/rest"))
    assert merged.uid() == cluster.target.uid


def test_a_run_id_that_is_no_label_is_refused(cluster: Cluster):
    with pytest.raises(GuardRefused, match="cannot be a label"):
        Gateway(cluster, "aaaa1111", "no spaces")


def test_namespaces_of_other_names_are_not_made_and_foreign_ones_not_adopted(full: FakeApi, gateway: Gateway):
    with pytest.raises(GuardRefused, match="are called"):
        gateway.create_namespace("default")
    assert full.mutations == []
    full.namespace("mailgale-aaaa1111-x", owner="somebody")
    with pytest.raises(GuardRefused, match="not ours"):
        gateway.create_namespace("mailgale-aaaa1111-x")
    assert full.objects["/api/v1/namespaces/mailgale-aaaa1111-x"]["metadata"]["labels"] == {"owner": "somebody"}


def test_another_runs_is_ours_only_where_every_run_is_meant():
    theirs = {"labels": {**OURS, "mailgale.dev/run": "r2"}}
    assert not Owner("aaaa1111", "r1").owns(theirs)
    assert Owner("aaaa1111", "r1").owns(theirs, any_run=True)
    assert not Owner("aaaa1111", "r1").owns({"labels": None}, any_run=True)


def test_no_name_is_no_namespace_and_one_of_ours_is_given_back(full: FakeApi, cluster: Cluster):
    with pytest.raises(GuardRefused, match="no namespace is named"):
        check_namespace(cluster, "", Owner("aaaa1111", "r1"))
    assert check_namespace(cluster, NAMESPACE, Owner("aaaa1111", "r1"))["metadata"]["name"] == NAMESPACE


@pytest.mark.parametrize(("name", "labels", "why"), [
    ("kube-scheduler", None, "is called mailgale"), ("mailgale-run", {"app": "x"}, "not ours"), ("mailgale-run", None, ""),
    ("mailgale-run", {"app.kubernetes.io/managed-by": "mailgale"}, ""),
])
def test_a_lease_must_be_ours_by_name_and_label(full: FakeApi, cluster: Cluster, name: str, labels: dict[str, str] | None, why: str):
    if labels is not None:
        full.put(f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{name}", {"metadata": {"name": name, "labels": labels}})
    with pytest.raises(GuardRefused, match=why) if why else nullcontext():
        check_lease(cluster, name)


@pytest.mark.parametrize(("names", "may", "why"), [
    (["c1"], [], "control plane is not touched"), (["c1"], ["control-plane"], ""), (["w1"], [], ""), (["w1", "w2"], [], "no node that takes pods"),
    (["w1", "w2"], ["last-ready"], ""), (["w1", "w2"], ["control-plane"], "no node that takes pods"), (["w1", "n8"], [], "no such node"),
])
def test_enough_nodes_stay(full: FakeApi, cluster: Cluster, names: list[str], may: list[str], why: str):
    nodes = {"c1": "control-plane", "w1": "worker", "w2": "worker"}
    for path in [p for p in full.objects if p.startswith("/api/v1/nodes/")]:
        del full.objects[path]
    for name, role in nodes.items():
        taint = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}] if role == "control-plane" else []
        ready = [{"type": "Ready", "status": "True"}]
        full.put(f"/api/v1/nodes/{name}", {"metadata": {"name": name}, "spec": {"taints": taint}, "status": {"conditions": ready}})
    known = Cluster(replace(cluster.target, nodes=tuple(Node(n, role, ("127.0.0.1",)) for n, role in nodes.items())))
    with pytest.raises(GuardRefused, match=why) if why else nullcontext():
        check_nodes_stay(known, names, may)


LEASES: dict[str, Callable[[Gateway], object]] = {
    "put_lease": lambda g: g.put_lease("mailgale-run", {}, {}, version=""), "delete_lease": lambda g: g.delete_lease("mailgale-run", version="1"),
}


@pytest.mark.parametrize("name", LEASES)
def test_the_lease_has_the_same_guards(full: FakeApi, cluster: Cluster, gateway: Gateway, name: str):
    with pytest.raises(GuardRefused, match="another cluster answers"):
        LEASES[name](Gateway(Cluster(replace(cluster.target, uid="another")), "aaaa1111", "r1"))
    full.put("/apis/coordination.k8s.io/v1/namespaces/default/leases/mailgale-run", {"metadata": {"name": "mailgale-run", "labels": {"app": "x"}}})
    with pytest.raises(GuardRefused, match="not ours"):
        LEASES[name](gateway)
    assert full.mutations == []


def test_a_namespace_that_is_gone_is_deleted_already(full: FakeApi, gateway: Gateway):
    assert gateway.delete_namespace("mailgale-aaaa1111-gone") is False
    assert full.mutations == []


@pytest.mark.parametrize(("labels", "said"), [
    ({**OURS, "mailgale.dev/run": "r2", "team": "x"}, r"it has \{[^}]*'mailgale.dev/run': 'r2'[^}]*\}, we are"), ({"team": "x"}, "it has no owner labels, we are"),
])
def test_whose_a_namespace_is_is_said(full: FakeApi, gateway: Gateway, labels: dict[str, str], said: str):
    full.namespace(NAMESPACE, **labels)
    with pytest.raises(GuardRefused, match=said) as refused:
        gateway.delete("v1", "ConfigMap", "c", NAMESPACE)
    assert "team" not in str(refused.value)


def test_a_cluster_scoped_object_that_is_not_there_yet_is_made(full: FakeApi, gateway: Gateway):
    gateway.apply([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "mailgale-aaaa1111-new"}}], NAMESPACE)
    assert "/api/v1/persistentvolumes/mailgale-aaaa1111-new" in full.objects

"""What the gateway sends."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.kube.api import ApiFailed, Conflict
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Mutation
from tests.servers.fake_api import FakeApi
from tests.unit.kube.conftest import NAMESPACE, OURS

POD = f"/api/v1/namespaces/{NAMESPACE}/pods/mx-0"


def test_apply_labels_objects_templates_and_claims_and_orders_them(api: FakeApi, gateway: Gateway, recorded: list[Mutation]):
    workload = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "mx"},
        "spec": {"template": {"metadata": {"labels": {"a": "b"}}}, "volumeClaimTemplates": [{"metadata": {"name": "spool"}}]},
    }
    gateway.apply([workload, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}], NAMESPACE)
    assert [p.rsplit("/", 1)[-1] for _, p in api.mutations] == ["c", "mx"]
    sent = api.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx"]
    assert sent["metadata"]["labels"] == OURS
    assert sent["spec"]["template"]["metadata"]["labels"] == {"a": "b", **OURS}
    assert sent["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"] == OURS
    assert "labels" not in workload["metadata"]
    assert [(m.verb, m.what, m.namespace) for m in recorded[1:]] == [("apply", "ConfigMap/c", NAMESPACE), ("apply", "StatefulSet/mx", NAMESPACE)]


def test_delete_pod_sends_grace_and_uid(api: FakeApi, gateway: Gateway):
    api.put(POD, {"metadata": {"name": "mx-0"}})
    assert gateway.delete_pod("mx-0", NAMESPACE, 0, uid="u1")
    body = next(b for m, _, b in api.requests if m == "DELETE")
    assert (body["gracePeriodSeconds"], body["preconditions"], body["propagationPolicy"]) == (0, {"uid": "u1"}, "Background")
    assert gateway.delete_pod("mx-0", NAMESPACE, 0) is False


def test_evict_says_when_a_budget_forbids_it(api: FakeApi, gateway: Gateway):
    assert gateway.evict("mx-0", NAMESPACE, 5)
    assert api.requests[-1][2]["deleteOptions"] == {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5}
    api.failures[("POST", POD)] = 429
    assert gateway.evict("mx-0", NAMESPACE, 5) is False
    api.failures[("POST", POD)] = 500
    with pytest.raises(ApiFailed, match="made to fail"):
        gateway.evict("mx-0", NAMESPACE, 5)


def test_scale_returns_what_was_before(api: FakeApi, gateway: Gateway):
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx"
    api.put(path, {"metadata": {"name": "mx"}})
    api.put(f"{path}/scale", {"spec": {"replicas": 3}})
    assert gateway.scale("StatefulSet/mx", NAMESPACE, 2) == 3
    assert api.objects[f"{path}/scale"]["spec"] == {"replicas": 2}
    api.put(f"{path}/scale", {"spec": {}})
    assert gateway.scale("StatefulSet/mx", NAMESPACE, 2) == 0, "the API leaves a zero out"
    with pytest.raises(UsageError):
        gateway.scale("Pod/mx-0", NAMESPACE, 2)


def test_failures_are_recorded_too(api: FakeApi, gateway: Gateway, recorded: list[Mutation]):
    api.failures[("DELETE", POD)] = 500
    with pytest.raises(ApiFailed):
        gateway.delete_pod("mx-0", NAMESPACE)
    assert (recorded[-1].verb, recorded[-1].what) == ("delete", "Pod/mx-0")
    assert recorded[-1].outcome.startswith("failed: ")


def test_a_namespace_of_ours_is_taken_as_it_is_unless_it_is_going(api: FakeApi, gateway: Gateway):
    assert gateway.create_namespace(NAMESPACE) == api.objects[f"/api/v1/namespaces/{NAMESPACE}"]["metadata"]["uid"]
    api.objects[f"/api/v1/namespaces/{NAMESPACE}"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(Conflict):
        gateway.create_namespace(NAMESPACE)


def test_a_cordon_is_set_and_taken_away(api: FakeApi, gateway: Gateway, recorded: list[Mutation]):
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for node in ("n1", "n9"):
        api.put(f"/api/v1/nodes/{node}", {"metadata": {"name": node}, "spec": {}, "status": ready})
    gateway.cordon("n1")
    assert api.objects["/api/v1/nodes/n1"]["spec"] == {"unschedulable": True}
    del api.objects["/api/v1/nodes/n9"]
    gateway.cordon("n1", on=False)
    assert api.objects["/api/v1/nodes/n1"]["spec"] == {}
    assert [m.verb for m in recorded] == ["cordon", "uncordon"]


def test_a_token_is_given_for_an_account_of_ours(api: FakeApi, gateway: Gateway):
    assert gateway.token("chaos", NAMESPACE, seconds=60) == "token-of-chaos"


def test_other_rights_are_the_same_owner(cluster: Cluster, recorded: list[Mutation]):
    one = Gateway(cluster, "aaaa1111", "r1", recorded.append, any_run=True, may=("last-ready",))
    other = one.acting_as(cluster.target)
    assert (other.owner, other._any_run, other._may, other.cluster.target) == (one.owner, True, frozenset({"last-ready"}), cluster.target)

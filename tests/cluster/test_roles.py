"""What each role of a run may do, and above all what it may not: asked of the real API server by the role's own token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.model.target import Target
from harness.stack import access
from harness.stack.access import ROLES, Access
from harness.support.checkout import Checkout
from harness.support.clock import wait_for

pytestmark = pytest.mark.cluster
RUN = "roles-test"
#: (verb, group, resource[/subresource], where): ours = the arm's namespace, system = kube-system, "" = cluster-wide.
ALLOWED: dict[str, list[tuple[str, str, str, str]]] = {
    "deploy": [("create", "", "secrets", "ours"), ("patch", "apps", "statefulsets", "ours"), ("delete", "", "configmaps", "ours"),
               ("create", "networking.k8s.io", "networkpolicies", "ours")],
    "chaos": [("delete", "", "pods", "ours"), ("create", "", "pods/eviction", "ours"), ("patch", "apps", "statefulsets/scale", "ours"),
              ("patch", "", "nodes", ""), ("patch", "", "configmaps", "ours"), ("create", "", "pods/exec", "ours"), ("create", "", "pods", "ours"),
              ("patch", "", "services", "ours"), ("patch", "apps", "deployments", "ours"), ("get", "apps", "daemonsets", "ours"), ("list", "", "events", "ours")],
    "observe": [("watch", "", "pods", "ours"), ("get", "", "pods/log", "ours"), ("get", "", "pods/proxy", "ours"), ("list", "", "nodes", "")],
    "census": [("list", "", "pods", "ours"), ("create", "", "pods/exec", "ours")],
}
#: Nobody but the conductor.
NEVER = [
    ("create", "", "namespaces", ""), ("delete", "", "namespaces", ""), ("patch", "", "namespaces", "ours"), ("create", "rbac.authorization.k8s.io", "roles", "ours"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""), ("escalate", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("impersonate", "", "users", ""), ("create", "", "serviceaccounts/token", "ours"), ("create", "", "persistentvolumes", ""),
    ("delete", "", "nodes", ""), ("get", "", "nodes/proxy", ""), ("create", "", "pods", "system"), ("update", "coordination.k8s.io", "leases", "default"),
    *((verb, group, what, "system") for verb, group, what in (
        ("get", "", "secrets"), ("list", "", "pods"), ("delete", "", "pods"), ("create", "", "pods/exec"), ("patch", "", "configmaps"),
        ("patch", "apps", "deployments"), ("create", "", "pods/eviction"))),
]
DENIED: dict[str, list[tuple[str, str, str, str]]] = {
    "deploy": [("patch", "", "nodes", ""), ("create", "", "pods", "ours"), ("delete", "", "pods", "ours"), ("create", "", "pods/eviction", "ours"), ("create", "", "pods/exec", "ours")],
    "chaos": [("get", "", "secrets", "ours"), ("list", "", "secrets", "ours"), ("create", "", "secrets", "ours"), ("create", "apps", "statefulsets", "ours"),
              ("delete", "apps", "statefulsets", "ours"), ("delete", "", "persistentvolumeclaims", "ours"), ("delete", "policy", "poddisruptionbudgets", "ours"), ("create", "", "services", "ours"),
              ("delete", "", "services", "ours"), ("patch", "networking.k8s.io", "networkpolicies", "ours")],
    "observe": [("get", "", "secrets", "ours"), ("create", "", "pods/exec", "ours"), ("create", "", "pods", "ours"), ("delete", "", "pods", "ours"), ("patch", "", "configmaps", "ours"),
                ("patch", "apps", "statefulsets/scale", "ours"), ("patch", "", "nodes", ""), ("get", "", "configmaps", "ours")],
    "census": [("get", "", "secrets", "ours"), ("create", "", "pods", "ours"), ("delete", "", "pods", "ours"), ("patch", "apps", "statefulsets/scale", "ours"), ("get", "", "configmaps", "ours"),
               ("patch", "", "nodes", "")],
}


@dataclass
class Asked:
    access: Access
    namespace: str

    def may(self, role: str, verb: str, group: str, what: str, where: str) -> bool:
        resource, _, sub = what.partition("/")
        place = {"ours": self.namespace, "system": "kube-system"}.get(where, where)
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": sub, "namespace": place}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        api = Cluster(self.access.target_as(role)).api
        return bool(api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)["status"]["allowed"])


@pytest.fixture(scope="module")
def asked(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    gateway, namespace = Gateway(Cluster(cluster), checkout.id, RUN), checkout.namespace("roles-of-an-arm")
    with access.granted(cluster, checkout, RUN, tmp_path_factory.mktemp("private")) as given:
        gateway.create_namespace(namespace)
        try:
            gateway.apply(given.roles(), namespace)
            yield Asked(given, namespace)
        finally:
            gateway.delete_namespace(namespace)
            wait_for(lambda: gateway.cluster.namespace(namespace) is None, deadline_s=60, what="the namespace to go", every_s=0.2)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_is_for(asked: Asked, role: str):
    assert [entry for entry in ALLOWED[role] if not asked.may(role, *entry)] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_do_more(asked: Asked, role: str):
    assert [entry for entry in (*NEVER, *DENIED[role]) if asked.may(role, *entry)] == []


def test_the_answer_comes_from_the_token_and_not_from_the_user(asked: Asked):
    """The control: the user whose kubeconfig it is may do all of it."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "create", "group": "", "resource": "namespaces", "subresource": "", "namespace": ""}}}
    answer = Cluster(asked.access.target).api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    assert answer["status"]["allowed"]


def test_a_refusal_is_a_refusal_in_fact(asked: Asked):
    observer = Cluster(asked.access.target_as("observe"))
    with pytest.raises(ApiFailed, match="403"):
        observer.get(f"/api/v1/namespaces/{asked.namespace}/secrets")
    assert observer.pods(asked.namespace) == []

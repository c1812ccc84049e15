"""No module but kube.gateway changes a cluster: neither by the API nor by kubectl."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GATEWAY = "harness/kube/gateway.py"
METHODS = {"POST", "PUT", "PATCH", "DELETE"}
SENDERS = {"call", "raw", "read", "call_api", "request"}
VERBS = {"apply", "create", "delete", "patch", "replace", "edit", "scale", "label", "annotate", "drain", "cordon", "uncordon", "taint",
         "rollout", "set", "run", "expose", "autoscale", "evict"}
CLIENT_PREFIXES = ("create_", "delete_", "patch_", "replace_", "connect_post", "connect_put", "connect_delete", "connect_patch")
API_CLASSES = {"CoreV1Api", "AppsV1Api", "PolicyV1Api", "CustomObjectsApi", "DynamicClient", "RbacAuthorizationV1Api", "StorageV1Api"}


def words(node: ast.AST) -> list[str]:
    """String constants among a call's arguments and in lists in them, in order."""
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def mutations(code: str) -> Iterator[int]:
    tree = ast.parse(code)
    uses_client = any(isinstance(n, ast.Attribute) and n.attr in API_CLASSES for n in ast.walk(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        sends = name in SENDERS and isinstance(first, ast.Constant) and first.value in METHODS
        if sends or (uses_client and name.startswith(CLIENT_PREFIXES)) or kubectl(node, name):
            yield node.lineno


def kubectl(node: ast.Call, name: str) -> bool:
    """A command that runs kubectl with a verb that changes something."""
    mentions = "kubectl" in name or any("kubectl" in w.split("/")[-1].split(" ")[0] for w in words(node) if " " not in w) or any(
        isinstance(n, ast.Name | ast.Attribute) and "kubectl" in (n.id if isinstance(n, ast.Name) else n.attr) for a in node.args for n in ast.walk(a)
    )
    return mentions and bool(VERBS & set(words(node)))


def sources() -> list[Path]:
    return sorted(p for p in (ROOT / "harness").rglob("*.py") if str(p.relative_to(ROOT)) != GATEWAY)


def test_no_other_module_changes_a_cluster():
    found = [f"{p.relative_to(ROOT)}:{line}" for p in sources() for line in mutations(p.read_text())]
    assert found == []


def test_the_gateway_itself_is_seen_as_changing():
    assert list(mutations((ROOT / GATEWAY).read_text()))


@pytest.mark.parametrize(
    "code",
    ['cluster.api.call("POST", "/api/v1/namespaces", body={})', 'api.raw("DELETE", path)', 'run([kubectl_path(c), "delete", "pod", "x"])',
     'run(["kubectl", "-n", ns, "scale", "sts/mx"])', 'self.kubectl("apply", "-f", "-")', "client.CoreV1Api().delete_namespaced_pod(n, ns)"],
)
def test_the_search_finds_each_way(code: str):
    assert list(mutations(code)) == [1]


@pytest.mark.parametrize("code", ['api.call("GET", "/x")', 'run([kubectl_path(c), "kustomize", d])', 'run(["git", "apply"])', "gateway.delete_pod(n, ns)"])
def test_the_search_leaves_reading_alone(code: str):
    assert list(mutations(code)) == []

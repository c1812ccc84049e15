"""The API server takes every manifest as it stands, with and without each variant: ``kubectl apply --dry-run=server``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from harness.cluster.tools import kubectl_path
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.model.target import Target
from harness.stack import lifecycle
from harness.stack.render import kustomize
from harness.support.checkout import Checkout
from harness.support.shell import Completed, run

CHECKOUT = Checkout.find()
#: Variants of the DNS laboratory switch nothing in the mail stack.
LAB = ("incoming-tcp-", "unbound-threads-", "node-caches-")
VARIANTS = sorted(p.parent.name for p in CHECKOUT.root.glob("deploy/variants/*/kustomization.yaml"))


@pytest.fixture(scope="module")
def namespace(cluster: Target) -> Iterator[str]:
    """An empty namespace of ours: what immutable fields forbid in place of an old object is no fault of a manifest."""
    name = CHECKOUT.namespace("dry-run")
    Gateway(Cluster(cluster), CHECKOUT.id, "none").create_namespace(name)
    yield name
    lifecycle.down(name, target=cluster, checkout_id=CHECKOUT.id)


def dry_run(cluster: Target, namespace: str, manifests: list[dict[str, object]]) -> Completed:
    words = [kubectl_path(CHECKOUT), "--kubeconfig", cluster.kubeconfig, "--context", cluster.context]
    return run(
        [*words, "apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-"],
        input=yaml.safe_dump_all(manifests), check=False, timeout_s=120,
    )


CASES = [("minimal", ()), *(("minimal", (v,)) for v in VARIANTS if not v.startswith(LAB)), ("dns-lab", tuple(v for v in VARIANTS if v.startswith(LAB)))]


@pytest.mark.parametrize(("profile", "variants"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain")
def test_the_api_server_takes_the_manifests(cluster: Target, namespace: str, profile: str, variants: tuple[str, ...]):
    manifests = kustomize(CHECKOUT, profile=profile, variants=variants, namespace=namespace)
    done = dry_run(cluster, namespace, list(manifests))
    assert done.code == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(manifests)


def test_a_misspelt_field_is_refused(cluster: Target, namespace: str):
    manifests = list(kustomize(CHECKOUT, profile="minimal", variants=(), namespace=namespace))
    broken = next(m for m in manifests if m["kind"] == "StatefulSet")
    broken["spec"]["replicsa"] = 2
    done = dry_run(cluster, namespace, manifests)
    assert done.code != 0
    assert "replicsa" in done.stderr

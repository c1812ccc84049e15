"""Up, again, observed, and down, on the real cluster; nothing is left behind."""

from __future__ import annotations

import json
import signal
import smtplib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import GuardRefused, StackFailed, UsageError
from harness.kube.client import Cluster
from harness.load.pods import generator_networks
from harness.observe.spec import ObserveSpec
from harness.stack import canary, lifecycle, ready
from harness.stack.catalogue import components
from harness.store.log import Damage, read_events
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]


def up_again(stack, **changes):
    options = {"profile": "minimal", "users": stack.users, "time_scale": stack.time_scale, "suffix": "test", "generators": generator_networks(stack.target), **changes}
    return lifecycle.up(stack.target, stack.checkout, progress=SilentProgress(), **options)


def test_a_second_up_finds_everything_done(stack):
    before = {p.uid for p in stack.cluster.pods(stack.namespace)}
    begun = time.monotonic()
    again = up_again(stack)
    assert time.monotonic() - begun < 15
    assert {p.uid for p in stack.cluster.pods(stack.namespace)} == before
    assert (again.password, again.manifests_sha256) == (stack.password, stack.manifests_sha256)


def test_the_stack_reads_back_from_the_cluster(stack):
    found = lifecycle.find(stack.target, stack.checkout, "test")
    assert found == stack.stack
    assert lifecycle.find(stack.target, stack.checkout, "nothing-there") is None


def test_everything_in_the_namespace_carries_the_owner_labels(stack):
    labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": stack.checkout.id, "mailgale.dev/run": "none"}
    for kind in ("pods", "pvc", "services", "configmaps", "secrets", "deployments", "statefulsets"):
        for item in stack.json("get", kind)["items"]:
            if item["metadata"]["name"] != "kube-root-ca.crt":
                assert item["metadata"].get("labels", {}).items() >= labels.items(), f"{kind} {item['metadata']['name']}"


def test_an_unknown_variant_is_refused_before_anything_is_touched(stack):
    with pytest.raises(UsageError, match="no variant"):
        up_again(stack, variants=("mx-3000x",), suffix="never")
    assert stack.cluster.namespace(f"mailgale-{stack.checkout.id}-never") is None


def test_a_second_stack_is_told_at_once_that_the_edge_is_taken(stack):
    with pytest.raises(StackFailed, match="edge node's ports"):
        up_again(stack, suffix="second")
    assert stack.cluster.namespace(f"mailgale-{stack.checkout.id}-second") is None


def test_another_cluster_under_the_same_name_is_refused(stack):
    other = replace(stack.target, uid="another")
    with pytest.raises(GuardRefused, match="another cluster"):
        lifecycle.down(stack.namespace, target=other, checkout_id=stack.checkout.id)
    with pytest.raises(GuardRefused, match="not ours"):
        lifecycle.down("kube-system", target=stack.target, checkout_id=stack.checkout.id)
    assert stack.cluster.namespace(stack.namespace)


def test_status_names_the_stack_and_its_pods(stack):
    lines = lifecycle.status(stack.target, stack.checkout)
    assert any(stack.namespace in line and "minimal" in line for line in lines)
    assert any("mx-0" in line and "ready" in line for line in lines)


def test_what_is_not_ready_is_said_with_its_reason(stack):
    missing = ready.Expected("StatefulSet/nothing", {"app.kubernetes.io/component": "nothing"}, 1)
    with pytest.raises(StackFailed, match="StatefulSet/nothing"):
        ready.wait_ready(stack.cluster, stack.namespace, [missing], deadline_s=2, progress=SilentProgress())


def test_an_image_that_no_node_has_ends_the_wait(stack):
    gateway = stack.gateway()
    labels = {"mailgale.dev/probe": "no-image"}
    container = {"name": "x", "image": "mailgale/postfix:not-there", "imagePullPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "no-image", "labels": labels}, "spec": {"containers": [container]}}
    gateway.apply([pod], stack.namespace)
    try:
        begun = time.monotonic()
        with pytest.raises(StackFailed, match="ErrImageNeverPull"):
            ready.wait_ready(stack.cluster, stack.namespace, [ready.Expected("Pod/no-image", labels, 1)], deadline_s=90, progress=SilentProgress())
        assert time.monotonic() - begun < 80
    finally:
        gateway.delete_pod("no-image", stack.namespace, 0)


def test_the_canary_fails_when_the_password_is_wrong(stack):
    with pytest.raises(StackFailed, match="mail does not pass"):
        canary.prove(replace(stack.stack, password="wrong"), deadline_s=5, progress=SilentProgress())


def test_the_canary_fails_when_the_certificate_is_of_another_ca(stack):
    from harness.stack.params import Params, make_credentials

    other = make_credentials(Params(stack.namespace, 50, 30.0, (), ()), stack.target)
    with pytest.raises(StackFailed, match="certificate verify failed"):
        canary.prove(replace(stack.stack, ca_pem=other.ca_pem), deadline_s=5, progress=SilentProgress())


def observed(folder: Path) -> list[dict]:
    return [e for e in read_events(folder / "observe.log") if not isinstance(e, Damage)]


def test_an_observer_sees_queues_pods_endpoints_throttling_the_edge_and_every_log(stack, tmp_path: Path):
    queues = {n: int(c.queue["port"]) for n, c in components(Checkout.find()).items() if "port" in c.queue}
    spec = ObserveSpec(
        stack.target.kubeconfig, stack.target.context, stack.namespace, str(tmp_path), "r", interval_s=1.0, queues=queues, edge=f"{stack.edge4}:8404"
    )
    spec.write(tmp_path / "spec.json")
    process = subprocess.Popen([sys.executable, "-m", "harness.observe", str(tmp_path / "spec.json")])
    try:
        wait_for(lambda: (tmp_path / "observe.log").exists(), deadline_s=20, what="the log")
        wait_for(lambda: {"queue", "throttle", "edge", "host"} <= {e["kind"] for e in observed(tmp_path)}, deadline_s=30, what="samples")
        with smtplib.SMTP(stack.edge4, 25, timeout=30) as client:
            client.sendmail("seen@example.net", [stack.user(7)], "Subject: seen\r\n\r\nseen\r\n")
        stack.gateway().delete_pod("mx-0", stack.namespace, 1)
        wait_for(
            lambda: any(e["kind"] == "pod" and e["pod"] == "mx-0" and e["phase"] == "Deleted" for e in observed(tmp_path)), deadline_s=60, what="mx-0 to go"
        )
        wait_for(
            lambda: len({e["uid"] for e in observed(tmp_path) if e["kind"] == "pod" and e["pod"] == "mx-0" and e["ready"]}) == 2,
            deadline_s=120, what="mx-0 to come back",
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    events = observed(tmp_path)
    assert events[-1]["kind"] == "log_closed"
    ready_mx = [e["ready"] for e in events if e["kind"] == "endpoints" and e["service"] == "mx"]
    assert [] in ready_mx
    assert ready_mx[-1]
    assert {e["pod"] for e in events if e["kind"] == "queue"} >= {"mx-0", "submission-0", "outbound-0"}
    assert any(e["kind"] == "throttle" and e["component"] == "mx" and 0 < e["quota_cores"] < 4 for e in events)
    text = next((tmp_path / "logs").glob("mx-0.*postfix*.log"), None) or next((tmp_path / "logs").glob("mx-0.mx.log"))
    assert "seen@example.net" in text.read_text()
    assert text.read_text().count("--- mailgale: container") == 2
    names = {f"{p.name}.{c.name}.log" for p in stack.cluster.pods(stack.namespace) for c in p.containers}
    assert names <= {p.name for p in (tmp_path / "logs").iterdir()}


def test_down_leaves_nothing_and_up_after_it_is_ready_within_a_minute(stack):
    """Runs last in this file: the stack that other tests use is made anew."""
    cluster = Cluster(stack.target)
    lifecycle.down(stack.stack)
    assert cluster.namespace(stack.namespace) is None
    label = f"mailgale.dev/namespace={stack.namespace}"
    for version, kind in lifecycle._CLUSTER_SCOPED:
        assert cluster.items(cluster.path_of(version, kind), label_selector=label)[0] == []
    assert not (Path(stack.target.volumes_dir) / stack.namespace).exists()
    begun = time.monotonic()
    again = up_again(stack)
    took = time.monotonic() - begun
    object.__setattr__(stack, "stack", again)
    assert again.password != stack.checkout.id
    assert took < 90, json.dumps({"ready_s": took})

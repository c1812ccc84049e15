"""A queue on an emptyDir exists inside its pod only: census and trigger read it there, and see the same as on a volume."""

from __future__ import annotations

import base64
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from harness.census.queue_reader import PodPlace, places, read_place
from harness.census.quiet import count
from harness.census.spec import CensusSpec, Server
from harness.chaos.spec import ChaosSpec
from harness.chaos.triggers import queued_numbers
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.shell import run
from tests.unit.census.mails import ARM, PREFIX, RUN, mail
from tests.unit.census.queuefiles import queue_file

pytestmark = pytest.mark.cluster
SPOOL = "/var/spool/postfix"
TO = ["user1@example.org", "user2@example.org"]


def postfix_image(target):
    """The stack's own Postfix image where a worker holds it; it has what the readers use inside pods: tar, find, grep."""
    for node in (n.name for n in target.nodes if n.role == "worker"):
        listed = run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q"], timeout_s=30).stdout.split()
        found = [i for i in listed if "mailgale/postfix:" in i]
        if found:
            return node, sorted(found)[-1]
    pytest.skip("no worker holds the stack's Postfix image yet")


def manifest(node, image):
    labels = {"app.kubernetes.io/component": "mx"}
    pod = {
        "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
        "containers": [{"name": "postfix", "image": image, "imagePullPolicy": "Never", "command": ["sleep", "600"],
                        "volumeMounts": [{"name": "spool", "mountPath": SPOOL}]}],
        "volumes": [{"name": "spool", "emptyDir": {}}],
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "mx"},
            "spec": {"serviceName": "mx", "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}}


@pytest.fixture(scope="module")
def pod(cluster):
    checkout, reader = Checkout.find(), Cluster(cluster)
    gateway = Gateway(reader, checkout.id, RUN[:60])
    namespace = f"mailgale-{checkout.id}-inpod"
    gateway.create_namespace(namespace)
    try:
        gateway.apply([manifest(*postfix_image(cluster))], namespace)
        wait_for(lambda: (p := reader.pod(namespace, "mx-0")) and p.ready, deadline_s=60, what="the pod")
        yield SimpleNamespace(reader=reader, gateway=gateway, namespace=namespace, target=cluster)
    finally:
        gateway.delete_namespace(namespace)
        wait_for(lambda: reader.namespace(namespace) is None, deadline_s=90, what="the namespace to go")


def put(pod, path, octets):
    script = f"mkdir -p $(dirname {SPOOL}/{path}) && echo {base64.b64encode(octets).decode()} | base64 -d > {SPOOL}/{path}"
    assert pod.gateway.exec(pod.namespace, "mx-0", "postfix", ["sh", "-c", script]).code == 0


def test_the_queue_is_read_inside_the_pod(pod, tmp_path):
    target = asdict(replace(pod.target, volumes_dir=""))
    spec = CensusSpec(RUN, ARM, str(tmp_path), pod.namespace, Server("127.0.0.1", 9), 0, "p", target=target, queue_components=("mx",))
    (place,) = places(spec)
    assert isinstance(place, PodPlace)
    assert not any(s.complete for s in read_place(place, PREFIX)), "a pod without a spool has no queue that could be called empty"
    for queue in ("incoming", "active", "deferred", "hold", "corrupt"):
        put(pod, f"{queue}/.made", b"")
        pod.gateway.exec(pod.namespace, "mx-0", "postfix", ["rm", f"{SPOOL}/{queue}/.made"])
    for n in range(1, 41):
        put(pod, f"deferred/A/Q{n}", queue_file(mail(n, body=b"x" * 3000 + b"\r\n"), TO))
    put(pod, "corrupt/bad", b"\0" * 9 + b"x")
    scopes = {s.where: s for s in read_place(place, PREFIX)}
    assert sorted({c.seen.mail for c in scopes["mx-0:deferred"]}) == list(range(1, 41))
    assert len(scopes["mx-0:deferred"].copies) == 80
    assert scopes["mx-0:deferred"].complete
    assert not scopes["mx-0:corrupt"].complete
    assert count(spec) == ({"mx-0": {"deferred": 40, "corrupt": 1}}, ())
    world = SimpleNamespace(spec=ChaosSpec(RUN, ARM, str(tmp_path), "id", pod.namespace, target, {}), cluster=pod.reader)
    assert queued_numbers(world, pod.reader.pod(pod.namespace, "mx-0")) == set(range(1, 41))

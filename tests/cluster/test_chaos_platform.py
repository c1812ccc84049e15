"""Faults of dependencies and resources on real pods of the real cluster: proven, undone, read back."""

from __future__ import annotations

import pytest

from harness.kube.objects import COMPONENT
from harness.support.clock import wait_for
from tests.cluster.test_chaos_faults import Arm, lease, place
from tests.unit.chaos.plans import fault

__all__ = ["lease", "place"]  # fixtures of the neighbour: the same namespace is made again
pytestmark = pytest.mark.cluster


@pytest.fixture
def service(place):
    """A Service that leads to both pods of the StatefulSet."""
    reader, gateway, namespace, _ = place
    spec = {"ipFamilyPolicy": "PreferDualStack", "selector": {COMPONENT: "mx"}, "ports": [{"name": "smtp", "port": 25}]}
    gateway.apply([{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mx"}, "spec": spec}], namespace)
    wait_for(lambda: ready(reader, namespace), deadline_s=60, what="endpoints")
    return reader, namespace


def ready(reader, namespace):
    return {e.pod for s in reader.endpointslices(namespace, "mx") for e in s.endpoints if e.ready}


def test_a_service_leads_nowhere_and_back(place, service, tmp_path, lease):
    arm = Arm(place, tmp_path, fault("service_hijack", name="away", mode="refuse", for_s=1.0, when={"at_s": 0}))
    process = arm.start(lease)
    arm.accept(1)
    assert process.wait(60) == 0, process.output()
    assert [e["detail"].get("endpoints") for e in arm.events("away") if e["edge"] == "evidence"] == [[]]
    wait_for(lambda: len(ready(*service)) == 2, deadline_s=30, what="the endpoints to be back")

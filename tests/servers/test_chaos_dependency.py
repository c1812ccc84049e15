"""A Service led nowhere and back over a real API connection: the whole life of one fault, from its trigger to undone."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict

import pytest

from harness.chaos import world as world_module
from harness.chaos.dependency import service_hijack
from harness.chaos.lease import held
from harness.chaos.spec import ChaosSpec
from harness.chaos.undo import UndoLog, pending
from harness.chaos.world import FaultLog, Hands, World
from harness.kube.guards import Owner
from harness.kube.objects import COMPONENT
from harness.store.log import LogWriter, read_events
from tests.servers.fake_api import fake_api

CHECKOUT, RUN = "0a1b2c3d", "run"
NAMESPACE = f"mailgale-{CHECKOUT}-x"
BASE = f"/api/v1/namespaces/{NAMESPACE}"
SERVICE, SLICE = f"{BASE}/services/filter", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/filter-1"
OWN = {COMPONENT: "filter"}


class ServiceController:
    """Does to the slice what a cluster does: endpoints are the pods that the selector means. ``blind``: it never notices."""

    def __init__(self, api, *, blind=False):
        self.api, self.blind, self.over = api, blind, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _run(self):
        seen = 0
        while not self.over.wait(0.02):
            patches = [b for m, p, b in list(self.api.requests) if m == "PATCH" and p == SERVICE]
            for patch in patches[seen:]:
                selector = patch[0]["value"]
                self.api.objects[SERVICE]["spec"]["selector"] = selector
                if not self.blind:
                    put_slice(self.api, ["filter-0"] if selector == OWN else [])
            seen = len(patches)


def put_slice(api, pods):
    endpoints = [{"addresses": ["10.244.1.7"], "conditions": {"ready": True}, "targetRef": {"name": p}} for p in pods]
    labels = {"kubernetes.io/service-name": "filter"}
    api.put(SLICE, {"metadata": {"name": "filter-1", "labels": labels}, "addressType": "IPv4", "endpoints": endpoints, "ports": []})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The API with one Service of one pod, and a world of a run in it."""
    with fake_api() as api, held(tmp_path / "lease", run_id=RUN, namespace=NAMESPACE) as lease:
        api.namespace(NAMESPACE, **Owner(CHECKOUT, RUN).labels)
        api.put(f"{BASE}/pods/filter-0", {"metadata": {"name": "filter-0", "namespace": NAMESPACE, "labels": OWN},
                                          "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.7"}]}})  # fmt: skip
        api.put(SERVICE, {"metadata": {"name": "filter"}, "spec": {"selector": dict(OWN), "ports": [{"port": 11332}]}})
        put_slice(api, ["filter-0"])
        spec = ChaosSpec(RUN, "1-a", str(tmp_path), CHECKOUT, NAMESPACE, asdict(api.target(tmp_path)), {"filter": ("Deployment/filter",)})
        log = FaultLog(tmp_path / "faults.log")
        hands = Hands.of(spec, log.mutation)
        world = World(spec, hands.cluster, hands.gateway, hands.nodes, lease)
        world.log, world.undo_log = log, UndoLog(tmp_path / "undo.log", world.undo)
        monkeypatch.setattr(world_module, "_current", world)
        load = LogWriter(tmp_path / "load-1.log", "load")
        load.event("load_state", phase="burst", accepted=1)
        load.flush()
        yield api, tmp_path
        load.close()
        world.close()


def hijack(mode="refuse", deadline_s=20.0):
    return service_hijack("filter", mode=mode, for_s=0.3, victims=["Deployment/filter"], fault="away", when={"at_s": 0}, deadline_s=deadline_s)


def edges(path):
    return [(e["edge"], e["detail"]) for e in read_events(path / "faults.log") if isinstance(e, dict) and e["kind"] == "fault"]


def test_a_service_is_led_nowhere_and_back(place):
    api, path = place
    begun = time.monotonic()
    with ServiceController(api):
        hijack()
    assert [e for e, _ in edges(path)] == ["armed", "triggered", "begin", "evidence", "end", "undone"]
    assert dict(edges(path))["evidence"] == {"service": "filter", "endpoints": []}
    assert api.objects[SERVICE]["spec"]["selector"] == OWN
    assert time.monotonic() - begun >= 0.3
    assert pending(path) == []


def test_a_service_that_goes_on_leading_to_its_pods_is_a_failed_fault(place):
    """Planted: the cluster takes the selector and changes nothing."""
    api, path = place
    with ServiceController(api, blind=True), pytest.raises(Exception, match="leads astray"):
        hijack(deadline_s=1.0)
    assert edges(path)[-1][0] == "failed"
    assert api.objects[SERVICE]["spec"]["selector"] == OWN


def test_without_an_image_that_holds_python_there_is_no_impostor(place):
    api, path = place
    api.objects[f"{BASE}/pods/filter-0"]["spec"] = {"containers": [{"name": "c", "image": "mailgale/filter:1"}]}
    with pytest.raises(Exception, match="Python"):
        hijack("silent")
    assert edges(path)[-1][1]["not_supported"]
    assert not [r for r in api.requests if r[0] == "PATCH" and r[1] == SERVICE]


def test_an_unknown_mode_or_a_component_without_a_service_is_refused(place):
    api, path = place
    with pytest.raises(Exception, match="no mode"):
        hijack("wrong")
    del api.objects[SERVICE]
    with pytest.raises(Exception, match="no Service"):
        hijack()
    assert all(e in ("armed", "triggered", "failed") for e, _ in edges(path))

"""The janitor's own code against a small API server: it acts only for the dead, undoes last in first, marks, and never guesses."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.chaos.mirror import Mirror, ended
from harness.errors import GuardRefused
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from harness.kube.runlease import DURATION_S
from tests.servers.fake_api import FakeApi, fake_api
from tests.unit.kube.conftest import NAMESPACE, OURS

SOURCE = Path(__file__).resolve().parents[3] / "deploy" / "components" / "janitor" / "janitor.py"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/mailgale-run"
RECORD = f"/api/v1/namespaces/{NAMESPACE}/configmaps/mailgale-undo"
MX = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/mx"
HOLDER = "host/boot/1/2"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("janitor", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Place:
    """A namespace with a StatefulSet that was scaled out and a cordoned node, both on record; a janitor whose clock the test turns."""

    def __init__(self, api: FakeApi, module: ModuleType, folder: Path) -> None:
        self.api, self.now = api, 1000.0
        (folder / "token").write_text("t\n")
        url = f"http://127.0.0.1:{api.server.server_address[1]}"
        self.janitor = module.Janitor(module.Api(url, folder), NAMESPACE, lambda: self.now)
        api.namespace(NAMESPACE, **OURS)
        api.put(RECORD, {"metadata": {"name": "mailgale-undo"}})
        api.put(MX, {"metadata": {"name": "mx"}, "spec": {"replicas": 3}, "status": {"readyReplicas": 3}})
        api.put(f"{MX}/scale", {"spec": {"replicas": 3}})
        api.put("/api/v1/nodes/w1", {"metadata": {"name": "w1"}, "spec": {"unschedulable": True}})
        self.cluster = Cluster(api.target(folder))
        self.mirror = Mirror(Gateway(self.cluster, "aaaa1111", "r1"), NAMESPACE, HOLDER)
        self.mirror.armed(1, {"op": "scale", "workload": "StatefulSet/mx", "replicas": 2})
        self.mirror.armed(2, {"op": "uncordon", "node": "w1"})
        self.mirror.armed(3, {"op": "node_start", "node": "w2"})
        self.renew("t1")
        api.requests.clear()

    def renew(self, sign: str, holder: str = HOLDER) -> None:
        self.api.put(LEASE, {"metadata": {"name": "mailgale-run"}, "spec": {"holderIdentity": holder, "renewTime": sign, "leaseDurationSeconds": DURATION_S}})

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.janitor.look()

    @property
    def untouched(self) -> bool:
        return self.api.mutations == []


@pytest.fixture
def place(module: ModuleType, tmp_path: Path) -> Iterator[Place]:
    with fake_api() as api:
        yield Place(api, module, tmp_path)


def test_while_the_lease_is_renewed_nothing_is_touched(place: Place):
    for n in range(20):
        place.renew(f"t{n}")
        place.look(DURATION_S)
    assert place.untouched


def test_a_lease_that_is_not_renewed_ends_everything_last_in_first(place: Place):
    place.look()
    place.look(DURATION_S - 1)
    assert place.untouched
    place.look(2)
    assert place.api.objects[f"{MX}/scale"]["spec"]["replicas"] == 2
    assert not place.api.objects["/api/v1/nodes/w1"]["spec"].get("unschedulable")
    order = [p for m, p in place.api.mutations if p != RECORD]
    assert order == ["/api/v1/nodes/w1", f"{MX}/scale"]
    assert ended(place.cluster, NAMESPACE) == {1: "undone by the janitor", 2: "undone by the janitor", 3: "needs the host"}
    place.api.requests.clear()
    place.look(DURATION_S)
    assert place.untouched, "it was done twice"


@pytest.mark.parametrize("gone", ["deleted", "another's", "nobody's"])
def test_a_lease_that_is_gone_or_anothers_is_no_sign_of_life(place: Place, gone: str):
    if gone == "deleted":
        del place.api.objects[LEASE]
    else:
        place.renew("t9", "" if gone == "nobody's" else "otherhost/b/2/3")
    place.look()
    place.renew("t10", "" if gone == "nobody's" else "otherhost/b/2/3") if gone != "deleted" else None
    place.look(DURATION_S + 1)
    assert set(ended(place.cluster, NAMESPACE)) == {1, 2, 3}


def test_time_counts_only_while_the_api_answers(place: Place, module: ModuleType):
    """After an outage the conductor may come back first: it is given the whole time again."""
    place.look()
    place.api.failures[("GET", RECORD)] = 500
    place.now += 10 * DURATION_S
    with pytest.raises(module.Failed):
        place.look()
    place.janitor.watch.reset()  # as the loop does
    place.api.failures.clear()
    place.look()
    assert place.untouched
    place.look(DURATION_S + 1)
    assert not place.untouched


def test_a_lease_that_cannot_be_read_is_never_taken_for_dead(place: Place, module: ModuleType):
    place.api.failures[("GET", LEASE)] = 403
    for _ in range(5):
        place.now += DURATION_S
        with pytest.raises(module.Failed):
            place.look()
    assert place.untouched


def test_a_workload_of_every_kind_is_waited_for_until_it_is_whole(place: Place):
    """A drain arms every workload of the stack, a node cache's DaemonSet among them."""
    cache = MX.replace("statefulsets/mx", "daemonsets/node-local-dns")
    place.api.put(cache, {"metadata": {"name": "node-local-dns"}, "spec": {}, "status": {"desiredNumberScheduled": 3, "numberReady": 2}})
    place.mirror.armed(4, {"op": "whole", "workload": "DaemonSet/node-local-dns"})
    place.look()
    place.look(DURATION_S + 1)
    assert set(ended(place.cluster, NAMESPACE)) == {1, 2, 3}, "a cache was missing"
    place.api.objects[cache]["status"]["numberReady"] = 3
    place.look(10)
    assert ended(place.cluster, NAMESPACE)[4] == "undone by the janitor"


@pytest.mark.parametrize("entry", [{"op": "whole", "workload": "CronJob/x"}, {"op": "scale", "workload": "StatefulSet/mx"}, {"op": "uncordon"}, {"op": "whole", "workload": 3}])
def test_an_entry_that_does_not_read_is_left_to_the_host_and_keeps_no_other_waiting(place: Place, entry: dict[str, Any]):
    place.mirror.armed(4, entry)
    place.look()
    place.look(DURATION_S + 1)
    assert ended(place.cluster, NAMESPACE) == {1: "undone by the janitor", 2: "undone by the janitor", 3: "needs the host", 4: "needs the host"}


def test_an_undo_that_does_not_take_is_tried_again_and_not_marked(place: Place):
    place.api.failures[("PATCH", MX)] = 500
    place.look()
    place.look(DURATION_S + 1)
    assert set(ended(place.cluster, NAMESPACE)) == {2, 3}
    place.api.failures.clear()
    place.look(1)
    assert set(ended(place.cluster, NAMESPACE)) == {2, 3}, "it did not wait"
    place.look(10)
    assert set(ended(place.cluster, NAMESPACE)) == {1, 2, 3}


def test_what_the_host_has_undone_is_not_the_janitors(place: Place):
    place.mirror.undone(1)
    place.look()
    place.look(DURATION_S + 1)
    assert set(ended(place.cluster, NAMESPACE)) == {2, 3}
    place.mirror.undone(2)
    assert set(ended(place.cluster, NAMESPACE)) == {2, 3}, "the janitor's mark is its record"


def test_an_entry_is_data_and_names_nothing_else(place: Place):
    raw: dict[str, Any] = place.api.objects[RECORD]["data"]
    assert json.loads(raw["entry-000001"]) == {"entry": {"op": "scale", "workload": "StatefulSet/mx", "replicas": 2}}
    assert raw["holder"] == HOLDER


def test_nothing_may_be_done_where_it_cannot_be_mirrored(place: Place):
    place.api.failures[("PATCH", RECORD)] = 403
    with pytest.raises(GuardRefused, match="cannot be mirrored for the janitor"):
        Mirror(Gateway(place.cluster, "aaaa1111", "r1"), NAMESPACE, HOLDER)

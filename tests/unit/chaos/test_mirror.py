"""What must be undone is in the cluster before the act, and gone from it once it is undone; what the janitor has ended stays as its record."""

from __future__ import annotations

import json

import pytest

from harness.chaos.mirror import NAME, Mirror, ended
from harness.errors import GuardRefused, MailgaleError
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway
from tests.servers.fake_api import FakeApi
from tests.unit.kube.conftest import NAMESPACE, api, cluster, gateway, recorded

__all__ = ["api", "cluster", "gateway", "recorded"]
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"


def data(api: FakeApi) -> dict[str, str]:
    return api.objects[PATH]["data"]


def test_an_entry_is_there_until_it_is_undone(api: FakeApi, gateway: Gateway):
    mirror = Mirror(gateway, NAMESPACE, "host/boot/1/2")
    mirror.armed(7, {"op": "uncordon", "node": "w1"})
    assert data(api) == {"holder": "host/boot/1/2", "entry-000007": json.dumps({"entry": {"op": "uncordon", "node": "w1"}})}
    mirror.armed(8, {"op": "scale"})
    mirror.undone(7)
    assert sorted(data(api)) == ["entry-000008", "holder"]


def test_what_the_janitor_has_ended_is_told_and_stays(api: FakeApi, gateway: Gateway, cluster: Cluster):
    mirror = Mirror(gateway, NAMESPACE, "h")
    for number in (1, 2):
        mirror.armed(number, {"op": "scale"})
    assert ended(cluster, NAMESPACE) == {}
    data(api)["entry-000002"] = json.dumps({"entry": {"op": "scale"}, "state": "undone by the janitor"})
    assert ended(cluster, NAMESPACE) == {2: "undone by the janitor"}
    mirror.undone(2)
    assert "entry-000002" in data(api)


@pytest.mark.parametrize("record", [None, {}, {"data": None}, {"data": {"entry-000001": "no JSON"}}, {"data": {"entry-x": '{"state": "s"}'}},
                                    {"data": {"other": '{"state": "s"}'}}])
def test_a_mirror_that_says_nothing_ends_nothing(api: FakeApi, cluster: Cluster, record: dict[str, object] | None):
    if record is not None:
        api.put(PATH, dict(record))
    assert ended(cluster, NAMESPACE) == {}


def test_without_a_mirror_nothing_may_be_done(api: FakeApi, gateway: Gateway):
    mirror = Mirror(gateway, NAMESPACE, "h")
    api.failures[("PATCH", PATH)] = 500
    with pytest.raises(GuardRefused, match="cannot be mirrored for the janitor"):
        Mirror(gateway, NAMESPACE, "h")
    with pytest.raises(MailgaleError):
        mirror.armed(1, {"op": "scale"})
    mirror.undone(1)

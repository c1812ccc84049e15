"""After a run the cluster is as before, or exit 10 names each difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import CleanupIncomplete, ClusterFailed, GuardRefused, Interrupted
from harness.rehearse import footprint
from harness.support.checkout import Checkout
from tests.servers.fake_api import FakeApi, fake_api

NODE = "/api/v1/nodes/n1"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        made.put(NODE, node())
        yield made


def node(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def hold(api: FakeApi, folder: Path) -> object:
    return footprint.as_before(api.target(folder), Checkout(folder), settles_s=0.2)


def test_what_is_put_back_is_no_difference(api: FakeApi, tmp_path: Path):
    with hold(api, tmp_path):
        api.put(NODE, node(unschedulable=True))
        api.put(NODE, node())


CHANGES = {
    "cordoned": (lambda api: api.put(NODE, node(unschedulable=True)), "node n1: ready, cordoned, taints: none .before: ready, schedulable"),
    "tainted": (lambda api: api.put(NODE, node(taints=[{"key": "x", "effect": "NoExecute"}])), "taints: x"),
    "node gone": (lambda api: api.objects.pop(NODE), "node n1: gone"),
    "namespace": (lambda api: api.put("/api/v1/namespaces/mailgale-aaaa1111-x", {"metadata": {"name": "mailgale-aaaa1111-x"}}), "Namespace mailgale-aaaa1111-x: there .before: not there"),
    "role": (lambda api: api.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/r", {"metadata": {"name": "r"}}), "ClusterRole r: there"),
    "volume": (lambda api: api.put("/api/v1/persistentvolumes/v", {"metadata": {"name": "v"}}), "PersistentVolume v: there"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("ending", ["well", "interrupted"])
def test_each_thing_that_is_left_is_named(api: FakeApi, tmp_path: Path, what: str, ending: str):
    act, said = CHANGES[what]

    def leave() -> None:
        with hold(api, tmp_path):
            act(api)
            if ending == "interrupted":
                raise Interrupted("aborted")

    with pytest.raises(CleanupIncomplete, match=said) as left:
        leave()
    assert left.value.exit_code == 10


def test_it_hides_no_error_that_says_more(api: FakeApi, tmp_path: Path):
    def lose() -> None:
        with hold(api, tmp_path):
            api.put(NODE, node(unschedulable=True))
            raise ClusterFailed("the cluster is gone")

    with pytest.raises(ClusterFailed):
        lose()


def test_what_cannot_be_read_before_refuses_and_after_is_left(api: FakeApi, tmp_path: Path):
    with pytest.raises(CleanupIncomplete, match="cannot be read"), hold(api, tmp_path):
        api.failures["GET", "/api/v1/nodes"] = 500
    with pytest.raises(GuardRefused, match="before cannot be read"), hold(api, tmp_path):
        raise AssertionError("it began")

"""What a foreign cluster lacks is said before anything is deployed there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NotReady
from harness.kube.client import Cluster
from harness.model.target import Node
from harness.stack import foreign
from harness.stack.images import Image
from harness.support.progress import SilentProgress
from tests.servers.fake_api import FakeApi, fake_api

IMAGES = [Image("mx", "mailgale/mx:1", "sha256:1"), Image("edge", "mailgale/edge:2", "sha256:2")]
HELD = ("docker.io/mailgale/mx:1", "docker.io/mailgale/edge:2")
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        node(made, "n1", HELD)
        node(made, "n2", HELD)
        made.put(f"{CLASSES}/slow", {"metadata": {"name": "slow", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}})
        made.put(f"{CLASSES}/fast", {"metadata": {"name": "fast"}})
        yield made


def node(api: FakeApi, name: str, held: tuple[str, ...], *, more: int = 5, taint: str = "") -> None:
    images = [{"names": [f"{h.partition(':')[0]}@sha256:0", h]} for h in held] + [{"names": [f"other/x:{i}"]} for i in range(more)]
    status = {"conditions": [{"type": "Ready", "status": "True"}], "images": images}
    spec = {"taints": [{"key": "dedicated", "effect": taint}]} if taint else {}
    api.put(f"/api/v1/nodes/{name}", {"metadata": {"name": name}, "spec": spec, "status": status})


def cluster(api: FakeApi, folder: Path, **changes: Any) -> Cluster:
    nodes = (Node("n1", "worker", ("127.0.0.1",), edge=True), Node("n2", "worker", ("127.0.0.2",)))
    return Cluster(api.target(folder, kind="context", **{"nodes": nodes, **changes}))


def test_a_cluster_with_everything_is_taken(api: FakeApi, tmp_path: Path):
    progress = Notes()
    foreign.check(cluster(api, tmp_path))
    foreign.have_images(cluster(api, tmp_path), IMAGES, progress)
    assert progress.said == []
    assert api.mutations == []


def test_a_node_that_lacks_an_image_is_named_with_it_and_ends_with_8(api: FakeApi, tmp_path: Path):
    node(api, "n2", HELD[:1])
    with pytest.raises(NotReady, match=r"nodes lack images.*mailgale/edge:2 on n2 .*image_registry") as caught:
        foreign.have_images(cluster(api, tmp_path), IMAGES, Notes())
    assert "mx:1" not in caught.value.what
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("count", [0, 50])
def test_a_list_that_may_have_been_cut_is_unknown_not_missing(api: FakeApi, tmp_path: Path, count: int):
    node(api, "n2", (), more=count)
    progress = Notes()
    foreign.have_images(cluster(api, tmp_path), IMAGES, progress)
    assert progress.said == ["unknown whether n2 hold mailgale/edge:2, mailgale/mx:1: a kubelet reports 50 images at most"]


def test_another_tag_is_another_image(api: FakeApi, tmp_path: Path):
    node(api, "n1", ("docker.io/mailgale/mx:9", HELD[1]))
    assert foreign.examine(cluster(api, tmp_path), IMAGES).missing == {"mailgale/mx:1": ["n1"]}


def test_nodes_that_take_no_pods_need_none_but_a_tainted_edge_its_own(api: FakeApi, tmp_path: Path):
    node(api, "n1", (), taint="NoSchedule")
    node(api, "n3", (), taint="NoExecute")
    assert foreign.examine(cluster(api, tmp_path), IMAGES).missing == {"mailgale/edge:2": ["n1"]}
    node(api, "n1", (), taint="PreferNoSchedule")
    assert set(foreign.examine(cluster(api, tmp_path), IMAGES).missing) == {"mailgale/edge:2", "mailgale/mx:1"}


def test_the_edge_must_be_one_node_and_none_is_labelled_for_it(api: FakeApi, tmp_path: Path):
    one, two = cluster(api, tmp_path).target.nodes
    with pytest.raises(NotReady, match=r"no node is marked.*'edge_node'"):
        foreign.check(cluster(api, tmp_path, nodes=(replace(one, edge=False), two)))
    with pytest.raises(NotReady, match="several nodes are marked as the edge: n1, n2"):
        foreign.check(cluster(api, tmp_path, nodes=(one, replace(two, edge=True))))
    assert api.mutations == []


def test_the_storage_class_must_exist(api: FakeApi, tmp_path: Path):
    foreign.check(cluster(api, tmp_path, storage_class="fast"))
    with pytest.raises(NotReady, match=r"no StorageClass 'quick'.*fast, slow"):
        foreign.check(cluster(api, tmp_path, storage_class="quick"))
    del api.objects[f"{CLASSES}/slow"]
    with pytest.raises(NotReady, match="no default StorageClass"):
        foreign.check(cluster(api, tmp_path))
    foreign.check(cluster(api, tmp_path, volumes_dir="/var/lib/x"))

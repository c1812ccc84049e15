"""What node caches leave on nodes, on a real node: found, told apart by owner, removed; a second cache is refused and never touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import GuardRefused
from harness.model.target import Target
from harness.stack import nodecache
from harness.support.shell import run

MINE, OTHER = "mailgale-test-mine", "mailgale-test-other"
MANIFESTS = [{"kind": "DaemonSet", "metadata": {"name": "node-local-dns", "labels": {nodecache.LABEL: "yes"}}}]


def on_node(node: str, script: str) -> str:
    return run(["docker", "exec", node, "sh", "-c", script], timeout_s=30).stdout


@pytest.fixture
def node(cluster: Target) -> Iterator[str]:
    name = cluster.nodes[-1].name
    yield name
    on_node(name, f"ip address del {nodecache.ADDRESS}/32 dev lo 2>/dev/null; nft delete table ip {nodecache.TABLE} 2>/dev/null; true")


def leave(node: str, owner: str) -> None:
    """As a cache does that was killed."""
    on_node(node, f"nft 'add table ip {nodecache.TABLE} {{ comment \"{owner}\"; }}' && ip address add {nodecache.ADDRESS}/32 dev lo")


def there(node: str) -> bool:
    return bool(on_node(node, f"ip -o address show to {nodecache.ADDRESS}; nft list tables | grep {nodecache.TABLE} || true").strip())


def test_what_a_killed_cache_left_is_removed(cluster: Target, node: str) -> None:
    leave(node, MINE)
    nodecache.allow(cluster, MANIFESTS, MINE)  # the same stack once more
    assert nodecache.clear(cluster, MINE) == [node]
    assert not there(node)
    assert nodecache.clear(cluster, MINE) == []


def test_a_second_cache_is_named_and_left_alone(cluster: Target, node: str) -> None:
    leave(node, OTHER)
    assert nodecache.clear(cluster, MINE) == []
    with pytest.raises(GuardRefused, match=f"second DNS cache on this node: that of {OTHER}"):
        nodecache.allow(cluster, MANIFESTS, MINE)
    nodecache.allow(cluster, [], MINE)  # a stack without a node cache may be deployed beside it
    assert there(node)


def test_an_address_without_an_owner_is_a_second_cache_too(cluster: Target, node: str) -> None:
    on_node(node, f"ip address add {nodecache.ADDRESS}/32 dev lo")
    with pytest.raises(GuardRefused, match="is on lo already"):
        nodecache.allow(cluster, MANIFESTS, MINE)
    assert nodecache.clear(cluster, MINE) == []
    assert there(node)

"""A fake API server and a gateway on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Mutation
from tests.servers.fake_api import FakeApi, fake_api

OURS = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": "aaaa1111", "mailgale.dev/run": "r1"}
NAMESPACE = "mailgale-aaaa1111-t"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        made.namespace(NAMESPACE, **OURS)
        yield made


@pytest.fixture
def cluster(api: FakeApi, tmp_path: Path) -> Cluster:
    return Cluster(api.target(tmp_path))


@pytest.fixture
def recorded() -> list[Mutation]:
    return []


@pytest.fixture
def gateway(cluster: Cluster, recorded: list[Mutation]) -> Gateway:
    return Gateway(cluster, "aaaa1111", "r1", recorded.append)

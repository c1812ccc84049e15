"""Which pods are captured: a pod on its node's network is refused by name, a component without pods too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.dns import counting
from harness.dns.counting import subjects
from harness.errors import NotReady, NotSupported
from harness.kube.client import Cluster
from tests.servers.fake_api import FakeApi, fake_api

PODS = "/api/v1/namespaces/n/pods/"


def put(api: FakeApi, name: str, **spec: Any) -> None:
    labels = {"app.kubernetes.io/component": "mx"}
    api.put(f"{PODS}{name}", {"metadata": {"name": name, "namespace": "n", "labels": labels}, "spec": spec, "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}]}})


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every pod's process."""
    (tmp_path / "root" / "etc" / "postfix").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "resolv.conf").write_text("nameserver 10.96.0.53\n")
    monkeypatch.setattr(counting, "process_of", lambda engine, pod: tmp_path)
    return tmp_path


def found(api: FakeApi, folder: Path) -> list[counting.Subject]:
    return subjects(Cluster(api.target(folder)), None, "n", ["mx"])  # type: ignore[arg-type]


def test_a_pod_on_its_nodes_network_is_refused(api: FakeApi, process: Path, tmp_path: Path):
    put(api, "mx-0")
    put(api, "mx-1", hostNetwork=True)
    with pytest.raises(NotSupported, match="pod mx-1 is on its node's network"):
        found(api, tmp_path)


def test_a_component_without_pods_is_refused(api: FakeApi, process: Path, tmp_path: Path):
    with pytest.raises(NotReady, match="component 'mx' has no running pod"):
        found(api, tmp_path)


def test_a_postfix_in_a_chroot_with_an_old_resolv_conf_is_named(api: FakeApi, process: Path, tmp_path: Path):
    put(api, "mx-0")
    assert [s.chroot for s in found(api, tmp_path)] == [""]
    (process / "root" / "etc" / "postfix" / "master.cf").write_text("smtp unix - - y - - smtp\n")
    assert [s.chroot for s in found(api, tmp_path)] == ["Postfix (smtp) runs in a chroot without a resolv.conf"]

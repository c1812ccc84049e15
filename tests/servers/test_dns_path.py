"""A second DNS cache in the path, planted for real: an unbound that answers in the server's place, as kindnet's cache does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.dns.lookups import Asker
from harness.dns.netns import Lab, inside
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.kube.client import Cluster
from harness.rehearse import dnswatch
from harness.store.dns import path_problems
from tests.servers.dnslab import network, unbound
from tests.servers.fake_api import fake_api
from tests.servers.test_dns_flow import upstream
from tests.servers.test_dns_remote import NAMESPACE, PODS, mx_pod


@contextmanager
def direct(net: Lab, responder: Responder, folder: Path) -> Iterator[None]:
    with serving(responder, *net.listen()):
        yield


@contextmanager
def cached(net: Lab, responder: Responder, folder: Path) -> Iterator[None]:
    """What is sent to the server's address comes to a cache first."""
    with serving(responder, *inside(net.client, lambda: upstream(net))):
        with unbound(folder, 53, namespace=net.server, address=net.server4, port=53, upstream=net.client4):
            yield


@pytest.mark.parametrize(("way", "arrived", "said"), [(direct, 20, []), (cached, 1, ["mx-0 asked 20 times, 1 arrived at coredns-0: a second DNS cache is in the path"])])
def test_a_cache_in_between_is_seen(way: Any, arrived: int, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    responder = Responder({})
    monkeypatch.setattr(dnswatch, "counters_of", lambda cluster, pod: {"requests": {"udp/SRV/.": float(sum(n for (_, t, _), n in responder.asked.items() if t == "SRV"))}})
    with fake_api() as api, network() as net, way(net, responder, tmp_path):
        api.put(f"{PODS}mx-0", mx_pod())
        api.put(f"{PODS}coredns-0", {"metadata": {"name": "coredns-0", "namespace": NAMESPACE, "labels": {"mailgale.dev/part": "coredns"}}, "spec": {"nodeName": "n1"}})
        stack: Any = SimpleNamespace(cluster=Cluster(api.target(tmp_path)), namespace=NAMESPACE)
        found = dnswatch.path_of(stack, Asker("mx-0", str(net.client), net.server4))
    assert (found["asked"], found["answered"], found["arrived"], found["host_network"], found["chroot"]) == (20, 20, arrived, [], "")
    arm: Any = SimpleNamespace(events=lambda kind: [found])
    assert path_problems(arm) == said

"""A server's own counters beside its capture: read through the API server, compared between the two readings, and never taken for zero."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.dns.joined import Reading, joined, read_all
from harness.kube.client import Cluster
from harness.kube.objects import Pod, pod_of
from tests.servers.fake_api import FakeApi, fake_api
from tests.unit.dns.test_flow import CLIENTS, COREDNS, Wire, exchange

METRICS = "/api/v1/namespaces/n/pods/coredns-0:9153/proxy/metrics"
PAGE = """# HELP coredns_dns_requests_total x
coredns_dns_requests_total{{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."}} {requests}
coredns_proxy_request_duration_seconds_count{{proxy_name="forward",rcode="NOERROR",to="10.96.0.7:53"}} {forwarded}
"""


def dns_pod(part: str, started: str = "abc123") -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "dns", "mailgale.dev/part": part}
    status = {"phase": "Running", "containerStatuses": [{"name": part, "containerID": f"containerd://{started}", "state": {"running": {}}, "restartCount": 0}]}
    meta = {"name": f"{part}-0", "namespace": "n", "uid": "uid-0123456789", "labels": labels}
    return {"metadata": meta, "spec": {"nodeName": "w1", "containers": [{"name": part}]}, "status": status}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        for part in ("coredns", "nsd"):
            made.put(f"/api/v1/namespaces/n/pods/{part}-0", dns_pod(part))
        yield made


def pods() -> list[Pod]:
    return [pod_of(dns_pod(part)) for part in ("coredns", "nsd")]


def reading(api: FakeApi, folder: Path, requests: int, forwarded: int) -> Reading:
    api.texts[METRICS] = PAGE.format(requests=requests, forwarded=forwarded).encode()
    found = read_all(Cluster(api.target(folder)), pods())
    assert set(found) == {"coredns-0"}  # nsd counts nothing
    return found["coredns-0"]


def traffic() -> Wire:
    """Before, between and after the readings of :func:`between`: 1, 4 and 1 queries; of the four two are sent on, one of them twice, and a probe."""
    wire = Wire()
    exchange(wire, "before.example.net.", ("before.example.net.", "A"))
    exchange(wire, "a.example.net.", ("a.example.net.", "A"))
    exchange(wire, "a.example.net.")
    exchange(wire, "b.example.net.", ("b.example.net.", "A"), ("b.example.net.", "A"))
    wire.sent(".", "NS")
    exchange(wire, "x.svc.cluster.local.")
    wire.t += 50_000_000
    exchange(wire, "after.example.net.", ("after.example.net.", "A"))
    return wire


def between(first: Reading, last: Reading) -> dict[str, Any]:
    wire = traffic()
    ends = (4_500_000, wire.records[-4].t_ns - 1_000_000)
    return joined(COREDNS, wire.records, *(Reading(t, r.instance, r.counters, r.why) for t, r in zip(ends, (first, last), strict=True)), CLIENTS)


def test_what_was_counted_between_two_readings_stands_beside_what_was_captured(api: FakeApi, tmp_path: Path):
    found = between(reading(api, tmp_path, 100, 40), reading(api, tmp_path, 104, 42))
    assert found["why"] == ""
    assert found["captured"] == {"received": 4, "sent": 4, "health probes": 1, "retries": 1}
    assert found["counted"] == {"received": 4, "sent": 2}


def test_a_server_that_does_not_answer_has_no_numbers(api: FakeApi, tmp_path: Path):
    first = reading(api, tmp_path, 100, 40)
    del api.texts[METRICS]
    last = read_all(Cluster(api.target(tmp_path)), pods())["coredns-0"]
    found = between(first, last)
    assert "it did not say" in found["why"]
    assert "counted" not in found


def test_a_server_that_was_started_again_has_no_numbers(api: FakeApi, tmp_path: Path):
    first = reading(api, tmp_path, 100, 40)
    api.put("/api/v1/namespaces/n/pods/coredns-0", dns_pod("coredns", "other"))
    assert between(first, reading(api, tmp_path, 3, 1))["why"] == "it was started again meanwhile"


def test_of_what_unbound_sends_every_query_is_in_its_counter():
    first, last = (Reading(t, "x", {"requests": {"udp": n}, "sent": {"udp": n}}) for t, n in ((0, 0.0), (10**12, 7.0)))
    found = joined(COREDNS, traffic().records, first, last, CLIENTS)
    assert (found["captured"], found["counted"]) == ({"received": 6, "sent": 6, "health probes": 0, "retries": 0}, {"received": 7, "sent": 7})


def test_a_server_that_does_not_count_what_it_sends_has_one_number():
    first, last = (Reading(t, "x", {"requests": {"udp": n}}) for t, n in ((0, 1.0), (10**12, 9.0)))
    assert joined(COREDNS, [], first, last, CLIENTS)["counted"] == {"received": 8}


def test_unbound_is_asked_by_the_rights_of_who_may_run_commands_in_pods(api: FakeApi, tmp_path: Path):
    """Who watches may not: its own token would be refused, and the account would lack unbound's side without a word."""
    (tmp_path / "other").mkdir()
    api.put("/api/v1/namespaces/n/pods/unbound-0", dns_pod("unbound"))
    with fake_api() as other:
        found = read_all(Cluster(api.target(tmp_path)), [pod_of(dns_pod("unbound"))], inside=Cluster(other.target(tmp_path / "other")))
        assert [p for _, p, _ in other.requests if p.endswith("/unbound-0/exec")]
    assert not [p for _, p, _ in api.requests if p.endswith("/exec")]
    assert found["unbound-0"].why.startswith("it did not say")

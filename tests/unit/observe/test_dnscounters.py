"""Counters of CoreDNS and unbound as the programs print them (1.13.2, 1.26.2), and the defects that make a sample a missed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.kube.client import Cluster
from harness.kube.objects import Pod, pod_of
from harness.model.dnscounters import parse_coredns, parse_unbound
from harness.observe.dnscounters import DnsSampler
from harness.observe.sink import Sink
from harness.store.log import read_events
from tests.servers.fake_api import FakeApi, fake_api

COREDNS = """# HELP coredns_build_info A metric with a constant '1' value.
coredns_build_info{goversion="go1.26.8",revision="",version="1.13.2"} 1
coredns_cache_hits_total{server="dns://:53",type="denial",view="",zones="."} 2
coredns_cache_hits_total{server="dns://:53",type="success",view="",zones="."} 5
coredns_cache_misses_total{server="dns://:53",view="",zones="."} 4
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="cluster.local."} 30
coredns_dns_requests_total{family="2",proto="udp",server="dns://:53",type="A",view="",zone="cluster.local."} 3
coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="MX",view="",zone="."} 7
coredns_dns_responses_total{plugin="cache",rcode="NOERROR",server="dns://:53",view="",zone="."} 4
coredns_forward_max_concurrent_rejects_total 1
coredns_proxy_conn_cache_hits_total{proto="tcp",proxy_name="forward",to="10.96.0.7:53"} 8
coredns_proxy_conn_cache_hits_total{proto="tcp",proxy_name="forward",to="10.96.0.8:53"} 2
coredns_proxy_request_duration_seconds_bucket{proxy_name="forward",rcode="NOERROR",to="10.96.0.7:53",le="+Inf"} 9
coredns_proxy_request_duration_seconds_count{proxy_name="forward",rcode="NOERROR",to="10.96.0.7:53"} 9
go_goroutines 20
"""
UNBOUND = """thread0.num.queries=9
total.num.queries=20
total.num.cachehits=8
total.num.cachemiss=12
total.num.prefetch=0
total.requestlist.exceeded=0
total.recursion.time.avg=0.000812
total.tcpusage=3
num.query.type.MX=11
num.query.type.PTR=9
num.query.tcp=5
num.query.udpout=14
num.query.tcpout=0
num.answer.rcode.NOERROR=18
num.answer.rcode.SERVFAIL=2
"""


def test_metrics_of_coredns_are_summed_by_what_tells_queries_apart() -> None:
    assert parse_coredns(COREDNS) == {
        "cache_hits": {".": 7.0}, "cache_misses": {".": 4.0}, "requests": {"udp/A/cluster.local.": 33.0, "tcp/MX/.": 7.0}, "responses": {"NOERROR/.": 4.0},
        "rejected": {"all": 1.0}, "reused": {"tcp": 10.0}, "forwarded": {"NOERROR": 9.0},
    }


def test_statistics_of_unbound() -> None:
    assert parse_unbound(UNBOUND) == {
        "requests": {"udp": 15.0, "tcp": 5.0}, "cache_hits": {"all": 8.0}, "cache_misses": {"all": 12.0}, "prefetch": {"all": 0.0}, "exceeded": {"all": 0.0},
        "tcpusage": {"now": 3.0}, "types": {"MX": 11.0, "PTR": 9.0}, "sent": {"udp": 14.0, "tcp": 0.0}, "answers": {"NOERROR": 18.0, "SERVFAIL": 2.0},
    }


@pytest.mark.parametrize("text", ["", "error: connect: Connection refused for 127.0.0.1 port 8953", "total.num.cachehits=3\n"])
def test_what_is_no_statistics_is_no_zero(text: str) -> None:
    with pytest.raises(ValueError, match="no statistics"):
        parse_unbound(text)


def test_a_page_of_something_else_is_no_metrics() -> None:
    with pytest.raises(ValueError, match="no metrics"):
        parse_coredns("<html>not here</html>")


def dns_pod(part: str, *, ready: bool = True) -> Pod:
    labels = {"app.kubernetes.io/component": "dns", "mailgale.dev/part": part}
    status: dict[str, Any] = {
        "phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": part, "containerID": "containerd://abc123", "state": {"running": {}}, "restartCount": 0}],
    }
    meta = {"name": f"{part}-0", "namespace": "n", "uid": "uid-0123456789", "labels": labels}
    return pod_of({"metadata": meta, "spec": {"nodeName": "w1", "containers": [{"name": part}]}, "status": status})


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


def sampled(api: FakeApi, folder: Path, *pods: Pod) -> list[dict[str, Any]]:
    path = folder / "observe.log"
    sink = Sink(path, "observe")
    sampler = DnsSampler(sink, Cluster(api.target(folder)), lambda: pods)
    sampler.sample()
    sampler.close()
    sink.close()
    return [e for e in read_events(path) if isinstance(e, dict) and e["kind"] in ("dns_counters", "sample_missed")]


def test_a_server_that_does_not_answer_is_a_missed_sample(api: FakeApi, tmp_path: Path) -> None:
    (found,) = sampled(api, tmp_path, dns_pod("coredns"))
    assert (found["kind"], found["what"]) == ("sample_missed", "dns coredns-0")


def test_a_server_that_is_only_starting_is_none(api: FakeApi, tmp_path: Path) -> None:
    assert sampled(api, tmp_path, dns_pod("coredns", ready=False), dns_pod("nsd")) == []

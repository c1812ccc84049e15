"""Watches go on after breaks and miss nothing that a new list shows."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.kube.watch import Change, Watch
from tests.servers.fake_api import FakeApi
from tests.unit.kube.conftest import NAMESPACE

PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"


def pod(name: str, version: str = "1") -> dict[str, object]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": version}}


def run(watch: Watch, wanted: int) -> list[Change]:
    timer = threading.Timer(10, watch.stop)
    timer.start()
    seen = []
    for change in watch:
        seen.append(change)
        if len(seen) == wanted:
            break
    watch.stop()
    timer.cancel()
    return seen


def words(seen: list[Change]) -> list[tuple[str, str]]:
    return [(c.type, c.object["metadata"]["name"]) for c in seen]


def test_begins_with_what_is_there_and_goes_on(api: FakeApi, cluster: Cluster):
    api.put(f"{PATH}/a", pod("a"))
    api.emit(PATH, "ADDED", pod("b"))
    api.emit(PATH, "DELETED", pod("a"))
    assert words(run(Watch(cluster, PATH), 3)) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_after_a_break_it_tells_what_went_away_meanwhile(api: FakeApi, cluster: Cluster):
    api.put(f"{PATH}/a", pod("a"))
    breaks: list[ApiFailed] = []
    watch = Watch(cluster, PATH, on_break=breaks.append, retry_s=0.1)

    def act() -> None:
        time.sleep(0.3)
        del api.objects[f"{PATH}/a"]
        api.put(f"{PATH}/c", pod("c"))
        api.failures[("GET", PATH)] = 500
        api.cut(PATH)
        time.sleep(0.5)
        del api.failures[("GET", PATH)]

    threading.Thread(target=act).start()
    assert words(run(watch, 3)) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "c")]
    assert breaks
    assert breaks[0].status == 500


def test_an_expired_version_lists_again_without_a_word(api: FakeApi, cluster: Cluster):
    breaks: list[ApiFailed] = []
    api.put(f"{PATH}/a", pod("a"))
    api.streams.setdefault(PATH, __import__("queue").Queue()).put(b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n')
    api.cut(PATH)
    threading.Timer(0.5, lambda: api.emit(PATH, "ADDED", pod("z"))).start()
    assert words(run(Watch(cluster, PATH, on_break=breaks.append), 2)) == [("ADDED", "a"), ("ADDED", "z")]
    assert breaks == []


def test_stop_wakes_a_blocked_read(api: FakeApi, cluster: Cluster):
    watch = Watch(cluster, PATH)
    thread = threading.Thread(target=lambda: list(watch), daemon=True)
    thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    watch.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 2


def test_a_stop_while_the_request_is_on_its_way_ends_the_watch(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    watch, raw = Watch(cluster, PATH), cluster.api.raw

    def stopped_meanwhile(*words: Any, **options: Any) -> Any:
        response = raw(*words, **options)
        if options.get("query", {}).get("watch"):
            watch.stop()
        return response

    monkeypatch.setattr(cluster.api, "raw", stopped_meanwhile)
    thread = threading.Thread(target=lambda: list(watch), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()

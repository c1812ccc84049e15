"""A cluster that goes away in mid-run, refusing or hanging: every step ends in time, with a clear error, and what is left is listed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from harness.census.quiet import wait_for_quiet
from harness.census.spec import CensusSpec, Server
from harness.errors import CleanupIncomplete
from harness.kube.api import ApiFailed
from harness.kube.client import Cluster
from harness.model.target import Target
from harness.observe.spec import ObserveSpec
from harness.rehearse import arm as arm_module
from harness.rehearse.arm import ArmRun
from harness.rehearse.children import Child
from harness.rehearse.order import Options, arms_in_order
from harness.stack import lifecycle
from harness.stack.clearing import taking_down
from harness.store.log import Damage, read_events
from harness.store.sessions import unfinished
from harness.support.clock import wait_for
from tests.servers.fake_api import UID, fake_api
from tests.servers.load_sink import Sink
from tests.servers.rig import Rig, recorded

pytestmark = pytest.mark.timeout(300)
#: Longest time limit of one call to the API server, twice (one retry), and some.
CALL_S = 35.0


@pytest.fixture(params=["refusing", "hanging"])
def dead(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """A target whose API server is gone: nobody listens, or somebody who takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, fake_api() as api:
        target = api.target(tmp_path)
        port = server.getsockname()[1]
        config = yaml.safe_load(Path(target.kubeconfig).read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{port}"
        Path(target.kubeconfig).write_text(yaml.safe_dump(config))
        if request.param == "refusing":
            server.close()
        yield target


def took(act: Callable[[], object]) -> float:
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


def test_a_call_ends(dead: Target):
    def call() -> None:
        with pytest.raises(ApiFailed, match="did not answer"):
            Cluster(dead).uid()

    assert took(call) < CALL_S


def test_the_observer_goes_on_and_closes_its_log_when_told(dead: Target, tmp_path: Path):
    spec = tmp_path / "observe.json"
    ObserveSpec(dead.kubeconfig, dead.context, "n", str(tmp_path), "r", interval_s=0.2, queues={"mx": 8080}).write(spec)
    with Child("harness.observe", [spec], tmp_path / "observe.out") as child:
        log = tmp_path / "observe.log"
        wait_for(lambda: log.is_file() and any(e["kind"] == "host" for e in read_events(log) if not isinstance(e, Damage)), deadline_s=30, what="a sample")
        assert took(lambda: child.stop()) < 14
        assert child.stop(), (tmp_path / "observe.out").read_text()
    found = list(read_events(log))
    assert not any(isinstance(e, Damage) for e in found)
    assert found[-1]["kind"] == "log_closed"  # type: ignore[index]


def test_settling_ends_and_says_what_could_not_be_read(dead: Target, tmp_path: Path):
    spec = CensusSpec("r", "1-a", str(tmp_path), "n", Server("127.0.0.1", 1), 1, "x", target=asdict(dead))
    begin = time.monotonic()
    quiet = wait_for_quiet(spec, deadline_s=1)
    assert time.monotonic() - begin < 2 * CALL_S + 1
    assert not quiet.quiet
    assert "did not answer" in quiet.errors[0]


@pytest.mark.parametrize("dead", ["refusing"], indirect=True)  # a hanging one takes minutes of time limits, one after the other
def test_the_census_ends_and_calls_every_place_unread(dead: Target, tmp_path: Path):
    spec = CensusSpec("r", "1-a", str(tmp_path), "n", Server("127.0.0.1", 1), 2, "x", target=asdict(dead), deadline_s=10)
    spec.save(tmp_path / "census.json")
    with Child("harness.census", [tmp_path / "census.json"], tmp_path / "census.out") as child:
        child.wait(deadline_s=spec.longest_s)
    scopes = [e for e in read_events(tmp_path / "census.log") if not isinstance(e, Damage) and e["kind"] == "scope"]
    assert {s["source"] for s in scopes} >= {"queue", "mailbox", "sink"}
    assert not any(s["complete"] for s in scopes)


def test_taking_down_ends_and_names_the_namespace(dead: Target):
    def down() -> None:
        with pytest.raises(CleanupIncomplete, match=r"mailgale-12345678-1-a.*mailgale recover"), taking_down("mailgale-12345678-1-a"):
            lifecycle.down("mailgale-12345678-1-a", target=dead, checkout_id="12345678")

    assert took(down) < CALL_S


def test_a_second_ctrl_c_while_taking_down_names_the_namespace():
    with pytest.raises(CleanupIncomplete, match="interrupted before it was taken down"), taking_down("mailgale-12345678-1-a"):
        raise KeyboardInterrupt


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with fake_api() as api, Sink() as sink:
        monkeypatch.setattr(arm_module, "CLUSTER_BACK_S", 3.0)
        yield Rig(tmp_path, api, sink, monkeypatch)


def in_load(rig: Rig, act: Callable[[], None], *, arm: str = "") -> None:
    """Do ``act`` once the load of an arm (the first, unless named) has brought some mail."""

    def wait_and_act() -> None:
        before = len(rig.sink.acknowledged)
        wait_for(lambda: len(rig.sink.acknowledged) > before + 20, deadline_s=60, what="mails", every_s=0.01)
        act()

    def on_up(one: ArmRun) -> None:
        if arm in ("", one.arm.name):
            rig.on_up = lambda _: None
            threading.Thread(target=wait_and_act, daemon=True).start()

    rig.on_up = on_up


def test_without_a_disaster_the_rig_runs_both_arms(rig: Rig):
    """The control: what the other tests see comes of their disasters."""
    ended = rig.run()
    assert ended.problem is None
    assert unfinished(ended.run) == ()
    code, out, _ = rig.told(ended)
    assert code == 5, out  # nothing was delivered anywhere, so the census cannot be complete


def test_a_cluster_that_vanishes_in_mid_load(rig: Rig):
    in_load(rig, rig.api.die)
    begin = time.monotonic()
    ended = rig.run()
    assert time.monotonic() - begin < 120
    assert isinstance(ended.problem, CleanupIncomplete)
    said = str(ended.problem)
    first = ended.run.arm_dirs()[0]
    assert rig.checkout.namespace(f"1-{first.name}") in said
    assert "the cluster is gone" in said
    assert ended.seal
    assert ended.run.verify() == []
    code, out, err = rig.told(ended)
    assert code == 10
    assert "INCONCLUSIVE" in out
    assert "Traceback" not in "\n".join((out, err, *rig.notes.lines))
    assert json.loads((ended.run.path / "verdict.json").read_text())["status"] == "INCONCLUSIVE"
    ledger = rig.ledger(ended.run, first.name)
    recorded(rig.sink, [ledger], ended.run.run_id)
    assert ledger.events[-1]["kind"] == "log_closed", "the load was not the one that was struck"
    assert ledger.end["accepted"] > 0


def test_a_cluster_that_comes_back_as_another_one(rig: Rig):
    before: list[int] = []

    def swap() -> None:
        rig.api.objects["/api/v1/namespaces/kube-system"]["metadata"].update(uid=UID.replace("1", "9"))
        before.append(len(rig.api.mutations))

    in_load(rig, swap)
    ended = rig.run()
    assert isinstance(ended.problem, CleanupIncomplete)
    assert "another cluster answers since the load" in str(ended.problem)
    # One renewal of the lease may have passed its guard just before the swap.
    assert [m for m in rig.api.mutations[before[0] :] if "/leases/" not in m[1]] == [], "another cluster was touched"


def test_an_outage_that_is_over_by_the_end_of_the_load_ends_nothing(rig: Rig):
    def out() -> None:
        rig.api.failures["GET", "/api/v1"] = 503
        time.sleep(1.0)
        rig.api.failures.clear()

    in_load(rig, out)
    assert rig.run().problem is None


def test_a_stopped_cluster_is_gone_on_with_when_it_is_back(rig: Rig):
    order = [name for _, name in arms_in_order(rig.plan, Options())]
    in_load(rig, lambda: rig.api.failures.update({("GET", "/api"): 503, ("DELETE", "/api"): 503}), arm=order[1])
    stopped = rig.run()
    assert isinstance(stopped.problem, CleanupIncomplete)
    assert [name for _, name in unfinished(stopped.run)] == order[1:]
    rig.api.failures.clear()
    sent = len(rig.sink.acknowledged)
    again = rig.run()
    assert again.problem is None
    assert again.run.path == stopped.run.path
    assert unfinished(again.run) == ()
    fresh = rig.sink.acknowledged[sent:]
    assert fresh
    assert all(f".1-{order[1]}." in trace for trace in fresh), "an arm that was finished was loaded again"
    assert [p for p in rig.api.objects if p.startswith("/api/v1/namespaces/mailgale-")] == []

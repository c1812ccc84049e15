"""The control plane is killed in the middle of the load: the run ends in time, is sealed, and lists what is left; then it is put back.

The last one of its folder by name, since it hurts the cluster of the session; its fixture brings that back whatever happens.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.cluster import kind
from harness.cluster.engine import answering
from harness.model.target import Target
from harness.stack import lifecycle
from harness.store.log import Damage, read_events
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress
from tests.cluster.test_whole_path_again import MAILGALE, loading, newest, small_plan

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
NAME = "small-disaster"
#: Load to its deadline, a minute for the API to come back, faults and stack that cannot be undone, and some.
END_S = 700


@dataclass
class Disaster:
    code: int
    said: str
    took_s: float
    run: RunDir
    recovered: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def disaster(cluster: Target, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disaster]:
    lifecycle.down_all(cluster, checkout, SilentProgress())
    engine = answering()
    assert engine is not None
    victim = next(n.name for n in cluster.nodes if n.role == "control-plane")
    assert checkout.cluster_name in victim, "a node that is not of this checkout"
    plan = small_plan(checkout, tmp_path_factory.mktemp("plan"), NAME)
    output = (plan.parent / "out").open("w+")
    earlier = frozenset(checkout.runs.glob(f"*-{NAME}-*"))
    process = subprocess.Popen([str(MAILGALE), "run", str(plan), "--fresh"], stdout=output, stderr=subprocess.STDOUT, text=True)

    def in_load() -> RunDir | None:
        assert process.poll() is None, "the run ended before it was loaded"
        run = newest(checkout, NAME, earlier)
        return run if run is not None and any(loading(a) for a in run.arm_dirs()) else None

    try:
        run = wait_for(in_load, deadline_s=600, what="the load of the first arm", every_s=0.5)
        engine.docker("kill", victim, timeout_s=60)
        begin = time.monotonic()
        code = process.wait(END_S)
        took = time.monotonic() - begin
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        engine.docker("start", victim, timeout_s=120, check=False)
        with checkout.lock("cluster"):
            kind.up(checkout, "single", SilentProgress())
    recovered = subprocess.run([str(MAILGALE), "recover", run.run_id], capture_output=True, text=True, check=False, timeout=600)
    output.seek(0)
    yield Disaster(code, output.read(), took, RunDir.open(run.path), recovered)
    output.close()
    lifecycle.down_all(cluster, checkout, SilentProgress())


def test_it_ends_with_clean_up_incomplete_and_names_what_is_left(disaster: Disaster, checkout: Checkout):
    assert disaster.code == 10, disaster.said[-3000:]
    assert checkout.namespace(f"1-{disaster.run.arm_dirs()[0].name}") in disaster.said
    assert "Traceback" not in disaster.said


def test_what_was_acknowledged_is_on_record(disaster: Disaster):
    events = list(read_events(disaster.run.arm_dirs()[0].load_log()))
    assert not any(isinstance(e, Damage) for e in events)
    end = next(e for e in events if not isinstance(e, Damage) and e["kind"] == "load_end")
    assert end["accepted"] > 20


def test_it_is_sealed_and_never_a_pass(disaster: Disaster):
    assert disaster.run.verify() == []
    assert json.loads((disaster.run.path / "verdict.json").read_text())["status"] in ("INCONCLUSIVE", "FAIL")


def test_recover_puts_back_what_was_left(disaster: Disaster, cluster: Target, checkout: Checkout):
    assert disaster.recovered.returncode == 0, disaster.recovered.stdout + disaster.recovered.stderr
    assert lifecycle.deployed(cluster, checkout) == []

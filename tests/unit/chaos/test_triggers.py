"""Triggers, on the files that load, observer and queues really write."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from harness.chaos.spec import ChaosSpec
from harness.chaos.tail import LoadTail, Tail
from harness.chaos.triggers import queued_numbers, wait_for_trigger
from harness.chaos.world import FaultFailed
from harness.errors import GuardRefused, StoreDamaged
from harness.kube.objects import Pod
from harness.model.outcome import Outcome
from harness.store.log import LogWriter
from harness.store.ops import DONE
from tests.unit.census.mails import ARM, PREFIX, RUN, mail
from tests.unit.census.queuefiles import queue_file, spool
from tests.unit.chaos.plans import target

CLAIM = {"spec": {"volumes": [{"name": "spool", "persistentVolumeClaim": {"claimName": "spool-mx-0"}}]}}


class World:
    """What a trigger asks of the world: the spec, the victim, whether to go on. The files are real."""

    def __init__(self, root, deadline_s=1.0):
        plain = {**target().__dict__, "volumes_dir": str(root / "volumes"), "nodes": []}
        self.spec = ChaosSpec(RUN, ARM, str(root), "id", "ns", plain, {}, (), deadline_s)
        self.began = time.monotonic()
        self.stopped = False

    def pod(self, name):
        return Pod(name, "ns", "uid", "w1", "mx", "Running", True, False, (), (SimpleNamespace(name="postfix", init=False),), {}, CLAIM)

    def check(self):
        if self.stopped:
            raise GuardRefused("the faults were asked to stop")


@pytest.fixture
def place(tmp_path):
    box = spool(tmp_path / "volumes/ns/spool-mx-0")
    load, observe = LogWriter(tmp_path / "load-1.log", "load"), LogWriter(tmp_path / "observe.log", "observe")
    return SimpleNamespace(world=World(tmp_path), box=box, load=load, observe=observe, root=tmp_path)


def accepted(place, numbers, outcome=Outcome.OK):
    rows = np.zeros(len(numbers), DONE)
    rows["mail"], rows["outcome"] = numbers, outcome
    place.load.rows(4, rows.tobytes())


def sampled(place, depth):
    place.observe.event("queue", pod="mx-0", component="mx", incoming=0, active=depth, deferred=0, hold=0, corrupt=0, oldest_s=1)
    place.observe.flush()


def queue(place, *numbers, name="active"):
    for n in numbers:
        (place.box / name / f"Q{n}").write_bytes(queue_file(mail(n), ["user1@example.org"]))


def fires(place, wanted=3):
    return wait_for_trigger(place.world, {"queue_acked": wanted}, ["mx-0"])


def test_acknowledged_mails_in_the_queue_are_counted(place):
    queue(place, 1, 2, name="active")
    queue(place, 3, 9, name="deferred")
    accepted(place, [1, 2, 3, 4, 5])
    sampled(place, 4)
    assert fires(place) == {"acknowledged_in_queue": {"mx-0": 3}}


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INFO])
def test_mails_that_were_not_acknowledged_do_not_count(place, outcome):
    queue(place, 1, 2, 3)
    accepted(place, [1, 2])
    accepted(place, [3], outcome)
    sampled(place, 3)
    with pytest.raises(FaultFailed, match="did not come"):
        fires(place)


def test_a_sample_alone_does_not_fire(place):
    """The sampler says 500, the files have moved on: the queue itself is what counts."""
    queue(place, 1, 2)
    accepted(place, [1, 2, 3])
    sampled(place, 500)
    with pytest.raises(FaultFailed):
        fires(place)


def test_another_arms_mails_do_not_count(place):
    (place.box / "active/Q1").write_bytes(queue_file(mail(1).replace(PREFIX.encode(), b"other.1-a."), ["x@example.org"]))
    queue(place, 2)
    assert queued_numbers(place.world, place.world.pod("mx-0")) == {2}


@pytest.mark.parametrize("number", [1, 48, 999_999_999])
def test_numbers_end_where_the_record_ends(place, number):
    """The next record begins right behind the digits, with a type and a length that can look like anything."""
    raw = queue_file(mail(number), ["x@example.org"])
    for length in range(0x20, 0x7F):
        changed = raw.replace(b"N\x11MIME-Version: 1.0", b"N" + bytes([length]) + b"x" * length)
        (place.box / "active/Q").write_bytes(changed)
        assert queued_numbers(place.world, place.world.pod("mx-0")) == {number}


def test_at_counts_from_the_end_of_the_warm_up(place):
    place.load.event("load_state", phase="warmup", accepted=5, t=1)
    place.load.flush()
    with pytest.raises(FaultFailed, match="did not come"):
        wait_for_trigger(place.world, {"at_s": 0.0}, ["mx-0"])
    place.world.began += 100
    place.load.event("load_state", phase="burst", accepted=5)
    place.load.flush()
    assert wait_for_trigger(place.world, {"at_s": 0.1}, ["mx-0"])["since_burst_s"] >= 0.1


def test_accepted_sums_all_engines(place):
    second = LogWriter(place.root / "load-2.log", "load")
    for log, count in ((place.load, 60), (second, 40)):
        log.event("load_state", phase="burst", accepted=count)
        log.flush()
    assert wait_for_trigger(place.world, {"accepted": 100}, []) == {"accepted": 100}
    with pytest.raises(FaultFailed):
        wait_for_trigger(place.world, {"accepted": 101}, [])


def state(place, t_s, in_flight, phase="burst"):
    place.load.event("load_state", phase=phase, accepted=0, in_flight=in_flight, t=int(t_s * 1e9))
    place.load.flush()


def test_the_peak_of_the_burst_is_where_nothing_rises_any_more(place):
    for t, n in enumerate((50, 3, 9, 20, 18, 20)):
        state(place, t + 1, n, "warmup" if t == 0 else "burst")
    with pytest.raises(FaultFailed, match="did not come"):
        wait_for_trigger(place.world, {"burst_peak": 3.0}, [])
    state(place, 7, 19)
    place.world.began += 100
    assert wait_for_trigger(place.world, {"burst_peak": 3.0}, []) == {"in_flight_at_peak": 20, "since_peak_s": 3.0}
    state(place, 8, 21)
    with pytest.raises(FaultFailed):
        wait_for_trigger(World(place.root), {"burst_peak": 3.0}, [])


def test_a_burst_without_anything_in_flight_has_no_peak(place):
    state(place, 1, 0)
    state(place, 9, 0)
    with pytest.raises(FaultFailed):
        wait_for_trigger(place.world, {"burst_peak": 3.0}, [])


def test_the_sampled_queue_must_be_deeper_than_that(place):
    sampled(place, 500)
    for victims in (["mx-0"], ["a-node"]):
        with pytest.raises(FaultFailed):
            wait_for_trigger(World(place.root), {"queue_depth": 500}, victims)
        assert wait_for_trigger(place.world, {"queue_depth": 499}, victims) == {"queue_depth": {"mx-0": 500}}


def test_then_is_so_many_seconds_later_and_can_be_stopped(place):
    state(place, 1, 0)
    begin = time.monotonic()
    assert wait_for_trigger(place.world, {"accepted": 0, "then_s": 0.5}, []) == {"accepted": 0, "then_s": 0.5}
    assert time.monotonic() - begin >= 0.5
    place.world.stopped = True
    with pytest.raises(GuardRefused):
        wait_for_trigger(place.world, {"accepted": 0, "then_s": 60}, [])


def test_the_end_of_the_load_ends_the_wait(place):
    place.load.close()
    with pytest.raises(FaultFailed, match="load ended"):
        wait_for_trigger(place.world, {"accepted": 1}, [])


def test_asked_to_stop(place):
    place.world.stopped = True
    with pytest.raises(GuardRefused):
        wait_for_trigger(place.world, {"accepted": 1}, [])


def test_a_log_is_followed_block_by_block(tmp_path):
    whole = LogWriter(tmp_path / "whole.log", "x")
    whole.event("one", t=1)
    whole.close()
    raw = (tmp_path / "whole.log").read_bytes()
    tail, kinds = Tail(tmp_path / "part.log"), []
    assert list(tail.events()) == []
    for n in range(1, len(raw) + 1):
        (tmp_path / "part.log").write_bytes(raw[:n])
        kinds += [e["kind"] for e in tail.events()]
    assert kinds == ["log_opened", "one", "log_closed"]


@pytest.mark.parametrize("at", [0, 8, 12, 20])
def test_a_damaged_log_says_so(tmp_path, at):
    LogWriter(tmp_path / "x.log", "x").close()
    raw = bytearray((tmp_path / "x.log").read_bytes())
    raw[at + (3 if at == 8 else 0)] ^= 0xFF
    (tmp_path / "x.log").write_bytes(raw)
    with pytest.raises(StoreDamaged):
        list(Tail(tmp_path / "x.log").blocks())


def test_no_load_log_is_no_end(tmp_path):
    load = LoadTail(tmp_path)
    load.look()
    assert not load.ended

"""What a check says, word for word, and the arithmetic below it: a verdict is read by people, and half a sentence misleads them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from harness.checks import dns_account, dns_capacity, dns_lookups
from harness.checks.common import plural, worst_of
from harness.checks.outages import _outage, windows
from harness.model.dnsaccount import Account, Step
from harness.model.knee import Knee
from harness.model.verdict import Status
from harness.selftest.builder import ArmBuilder, ns
from harness.store.history import SECOND
from tests.checks.conftest import Judge
from tests.checks.test_service import PVC, did_nothing, drop_edge, fault

Spoil = Callable[[ArmBuilder], object]


@pytest.mark.parametrize(("series", "begin", "wanted"), [
    ("10+ 20- 30- 40+ 50+", 15, (30, 25)), ("10+ 20- 30- 40+ 50+", 20, (30, 20)), ("10+ 20- 30- 40+ 50+", 31, (0, 0)), ("10+ 20+", 5, (0, 0)),
    ("10+ 20- 30- 40- 50-", 15, (40, None)), ("20- 30- 50-", 15, (35, None)), ("10- 20+ 30+", 5, (15, 15)), ("10+ 20- 25+ 30- 60+", 15, (35, 45)),
    ("10+ 20- 60+ 70- 75+", 15, (50, 45)), ("10+ 20- 20+ 30+", 15, (10, 15)), ("10+ 20- 25+ 30- 40-", 15, (15, None)),
])
def test_an_outage_is_the_longest_stretch_between_successes_with_a_failure_in_it(series: str, begin: int, wanted: tuple[int, int | None]):
    t = np.array([int(x[:-1]) * SECOND for x in series.split()], dtype=np.int64)
    good = np.array([x.endswith("+") for x in series.split()], dtype=bool)
    found = _outage("f", "smtp", t, good, begin * SECOND)
    assert (found.fault, found.proto, found.outage_s, found.recovery_s) == ("f", "smtp", *wanted)


@pytest.mark.parametrize(("edges", "span"), [
    ("begin:100 end:106 undone:107", (100, 117)), ("begin:100 undone:107 end:106", (100, 117)), ("begin:100", (100, 170)), ("end:90 begin:100", (100, 170)),
    ("begin:100 end:100", (100, 110)), ("other:104 begin:100 end:103", (100, 113)), ("begin:100 evidence:105", (100, 170)),
])
def test_a_window_lasts_to_the_faults_end_and_its_grace(edges: str, span: tuple[int, int]):
    events = [{"name": "k" if e != "other" else "j", "edge": e if e != "other" else "end", "t": int(t) * SECOND} for e, t in (x.split(":") for x in edges.split())]
    arm = SimpleNamespace(events=lambda kind: events, plan=SimpleNamespace(faults=[SimpleNamespace(name="k", deadline_s=60.0)]))
    (found,) = windows(arm, 10.0)  # type: ignore[arg-type]
    assert (found.begin, found.end) == (span[0] * SECOND, span[1] * SECOND)


def test_one_and_many():
    assert [plural(n, "mail") for n in (0, 1, 2)] == ["0 mails", "1 mail", "2 mails"]
    assert worst_of([], "well") == (Status.PASS, "well")
    mixed = [(Status.INCONCLUSIVE, "a"), (Status.FAIL, "b"), (Status.INCONCLUSIVE, "a"), (Status.FAIL, "c")]
    assert worst_of(mixed, "well") == (Status.FAIL, "b; c; a")
    assert worst_of(mixed[:1], "well") == (Status.INCONCLUSIVE, "a")


def unseen_before(a: ArmBuilder) -> None:
    a.events["observe.log"] = [e for e in a.events["observe.log"] if e["kind"] != "pod" or e["t"] >= ns(40)]
    a.drop_events("conductor.log", "pods_at_start")


def scaled_in(a: ArmBuilder) -> None:
    """The pod did not come back, and is not there at the end."""
    a.events["observe.log"] = [e for e in a.events["observe.log"] if e["kind"] != "pod" or e["t"] < ns(40)]
    at_end = a.of("conductor.log", "pods_at_end")[0]
    at_end["pods"] = [p for p in at_end["pods"] if p["name"] != "mx-0"]


def failed(detail: object) -> Spoil:
    return lambda a: fault(a, "end").update(edge="failed", detail=detail)


def stranger(a: ArmBuilder) -> None:
    a.event("faults.log", "fault", 44, name="other", fault="kill_pod", edge="begin", targets=["mx-0"], detail={})


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda a: drop_edge(a, "begin"), ["kill-mx: no 'begin' on record"]),
    (lambda a: a.events["faults.log"].clear(), [f"kill-mx: no '{e}' on record" for e in ("begin", "evidence", "end", "undone")]),
    (failed({"why": "no such pod"}), ["kill-mx: failed (no such pod)"]), (failed({"error": "gone"}), ["kill-mx: failed (gone)"]), (failed("boom"), ["kill-mx: failed (boom)"]),
    (lambda a: fault(a, "evidence").update(detail={}), ["kill-mx: its evidence is empty"]),
    (did_nothing, ["kill-mx: mx-0 has the same UID before and after: nothing happened to it"]),
    (unseen_before, ["kill-mx: the samplers did not see mx-0 before it"]),
    (stranger, ["other: struck this arm without having been planned"]),
    (lambda a: [fault(a, e).update(targets=[]) for e in ("begin", "evidence")], ["kill-mx: it had no target"]),
    (lambda a: fault(a, "begin").update(targets=[]), []), (scaled_in, []), (lambda a: None, []),
])
def test_what_is_said_of_a_fault(judged: Judge, spoil: Spoil, said: list[str]):
    v = judged("faults-happened", spoil, arm=PVC)
    assert list(v.evidence) == said
    assert v.reason == ("; ".join(said[:3]) or "kill-mx seen on the cluster inside the load, against mx-0")
    assert v.figures == {"planned": 1, "shown": float(not said or said[0].startswith("other"))}


def test_what_is_said_where_none_was_planned(judged: Judge):
    v = judged("faults-happened")
    assert (v.reason, v.figures) == ("none was planned, none struck", {"planned": 0, "shown": 0})
    v = judged("faults-happened", arm=PVC, attempts_min=1e6)
    assert v.reason.startswith("kill-mx: only ")
    assert v.reason.endswith(" attempts while it lasted")




@pytest.mark.parametrize(("spoil", "reason", "also"), [
    (lambda a: a.drop_events("conductor.log", "expected_writers"), "the conductor did not say which logs there must be", ()),
    (lambda a: setattr(a, "scopes", [s for s in a.scopes if s["round"] == 1]), "round 2 of the census is not on record", ()),
    (lambda a: setattr(a, "scopes", []), "round 1 of the census is not on record, and 1 more", ("round 2 of the census is not on record",)),
    (lambda a: a.drop_events("load-1.log", "load_end"), "the load did not say how it ended", ()),
    (lambda a: a.of("conductor.log", "expected_writers")[0].update(names=[*a.expected, "other.log"]), "other.log is missing", ()),
    (lambda a: a.unclosed.add("observe.log"), None, ("observe.log has no end mark: its writer was cut off",)),
    (lambda a: a.drop_events("observe.log", "queue"), None, ("30 s of the load without a 'queue' event",)),
])
def test_what_is_said_of_missing_evidence(judged: Judge, spoil: Spoil, reason: str | None, also: tuple[str, ...]):
    v = judged("evidence-complete", spoil)
    assert v.status == Status.INCONCLUSIVE
    assert reason is None or v.reason == reason
    assert v.figures["gaps"] == len(v.evidence)
    assert set(also) <= set(v.evidence)


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda a: a.saturate_generator(), "the generator was 900 ms behind its schedule, limit 250 ms: it was the limit"),
    (lambda a: a.saturate_host(), "the host's CPUs were used up (p95 97%, limit 80%): the machine was the limit"),
    (lambda a: a.drop_events("observe.log", "host"), "the host's CPU was not sampled during the load"),
    (lambda a: a.drop_events("load-1.log", "load_end"), "the load did not come to its end"),
    (lambda a: a.of("load-1.log", "load_end")[0].update(reason="stopped"), "the load was ended early (stopped)"),
    (lambda a: a.of("load-1.log", "load_end")[0].update(reason="deadline"), None),
    (lambda a: [e.pop("lag_p99_ms") for e in a.of("load-1.log", "load_state")], "the generator did not say whether it kept its schedule"),
    (lambda a: a.event("load-1.log", "not_offered", 30, proto="smtp", extension="DSN"), "the server offers no DSN (smtp), so the load was without it"),
])
def test_what_is_said_of_the_load(judged: Judge, spoil: Spoil, said: str | None):
    v = judged("load-was-real", spoil)
    assert (v.status, v.reason if said else None) == ((Status.INCONCLUSIVE, said) if said else (Status.PASS, None))


def test_a_fault_needs_no_more_attempts_than_it_says(judged: Judge):
    count = float(judged("faults-happened", arm=PVC, attempts_min=1e6).reason.split()[2])
    assert count > 0
    assert judged("faults-happened", arm=PVC, attempts_min=count).status == Status.PASS
    assert judged("faults-happened", arm=PVC, attempts_min=count + 1).status == Status.INCONCLUSIVE


@pytest.mark.parametrize(("knee", "more", "status", "said"), [
    (Knee(200.0, 100.0, 300.0, 500.0), {}, None, ""), (Knee(200.0, 99.0, 300.0, 500.0), {}, Status.INCONCLUSIVE, "c: 200/s (99 – 300) does not tell whether it bears 100/s"),
    (Knee(80.0, 60.0, 100.0, 500.0), {}, Status.INCONCLUSIVE, "c: 80/s (60 – 100) does not tell whether it bears 100/s"),
    (Knee(80.0, 60.0, 99.0, 500.0), {}, Status.FAIL, "c: failures pass the share at 80/s (60 – 99)"),
    (Knee(80.0, 60.0, 99.0, 500.0), {"waiting_max": 3, "slots_max": 10}, Status.FAIL,
     "c: failures pass the share at 80/s (60 – 99), up to 3 connections waited for one of 10 slots"),
    (Knee(None, 60.0, None, 60.0), {}, Status.INCONCLUSIVE, "c: none up to 60/s does not tell whether it bears 100/s"),
    (None, {}, Status.INCONCLUSIVE, "c: not measured to its end"), (Knee(200.0, 100.0, 300.0, 500.0), {"whole": False}, Status.INCONCLUSIVE, "c: not measured to its end"),
])
def test_what_a_knee_says_of_100_queries_a_second(knee: Knee | None, more: dict[str, object], status: Status | None, said: str):
    cell = SimpleNamespace(**{"cell": SimpleNamespace(name="c"), "knee": knee, "whole": True, "waiting_max": 0, "slots_max": 0, **more})
    assert dns_capacity._problem(cell, 100.0) == (None if status is None else (status, said))  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "said"), [
    ((), ["the applications asked 0 queries, 50 are needed"]), ((Step("a", "b", None, 1),), ["the applications asked 0 queries, 50 are needed"]),
    ((Step("a", "b", 49, 1), Step("b", "c", 90, 1)), ["the applications asked 49 queries, 50 are needed"]), ((Step("a", "b", 50, 1),), []),
])
def test_what_is_said_of_a_load_that_asked_little(steps: tuple[Step, ...], said: list[str]):
    assert dns_account._load(Account(steps, Status.PASS, ()), {"queries_min": 50}) == said


@pytest.mark.parametrize(("step", "said"), [
    (Step("pods", "cache", 100, 105, {"retries": 10, "hits": -3}), "pods → cache: 100 +10 retries -3 hits = 107, seen 105, residual -2 (1.87 %)"),
    (Step("pods", "cache", None, 105), "pods → cache: not counted"), (Step("pods", "cache", 0, 0), "pods → cache: 0 = 0, seen 0, residual +0"),
])
def test_a_step_of_the_account_as_a_line(step: Step, said: str):
    assert dns_account.line(step).startswith(said)


@pytest.mark.parametrize(("count", "failed", "p99_ms", "limits", "status", "said"), [
    (100, 1, 50.0, {}, Status.PASS, "100 look-ups, 1 failed, p50 1.0 ms, p99 50.0 ms"),
    (100, 2, 50.0, {}, Status.FAIL, "2 of 100 look-ups failed (98 ok, 2 timeout), limit 1.00%"),
    (99, 0, 50.0, {}, Status.INCONCLUSIVE, "only 99 look-ups, 100 are needed"), (100, 0, 50.0, {"p99_ms_max": 50.0}, Status.PASS, "100 look-ups, 0 failed, p50 1.0 ms, p99 50.0 ms"),
    (100, 0, 51.0, {"p99_ms_max": 50.0}, Status.FAIL, "look-ups took 51 ms at p99, limit 50 ms"),
])
def test_what_is_said_of_look_ups(
    monkeypatch: pytest.MonkeyPatch, count: int, failed: int, p99_ms: float, limits: dict[str, float], status: Status, said: str
):
    outcomes = {k: n for k, n in (("ok", count - failed), ("timeout", failed)) if n}
    found = SimpleNamespace(count=count, failed=failed, p50_ms=1.0, p99_ms=p99_ms, outcomes=outcomes)
    monkeypatch.setattr(dns_lookups, "lookups", lambda arm: found)
    arm = SimpleNamespace(label="1x")
    v = dns_lookups.check(arm, {"failed_share_max": 0.01, "p99_ms_max": 0.0, "lookups_min": 100.0, **limits})  # type: ignore[arg-type]
    assert (v.status, v.reason) == (status, said)
    assert v.figures == {"lookups": count, "failed": failed, "failed_share": pytest.approx(failed / count), "p50_ms": 1.0, "p99_ms": p99_ms}

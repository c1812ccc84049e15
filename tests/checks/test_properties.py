"""Properties of every check over generated histories: planted is counted exactly, limits cut where they say, less evidence never helps."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.outcome import Deferral, Outcome, Population, Stage
from harness.model.verdict import Status, Verdict
from harness.selftest.builder import ArmBuilder, HistoryBuilder, ns
from harness.selftest.friday import kill_plan, limited_plan, plant_kill
from harness.selftest.good import BURST
from harness.store.history import load
from tests.checks.conftest import MODULES

EXAMPLES = settings(max_examples=8, deadline=None)
NUMBERS = st.sets(st.integers(1, BURST), max_size=12)
Spoil = Callable[[ArmBuilder], object]


def judged(check: str, spoil: Spoil, *, arm: str = "1x", **limits: float) -> Verdict:
    """The verdict of one check on one small arm after ``spoil``."""
    kill = arm == "queue-on-pvc"
    with tempfile.TemporaryDirectory() as root:
        b = HistoryBuilder(Path(root), kill_plan() if kill else limited_plan(), arms=[arm], burst=BURST)
        if kill:
            plant_kill(b.arms[0], 30.0)
        spoil(b.arms[0])
        module = MODULES[check]
        given_limits = {k: v for k, v in {**module.LIMITS, "p99_ms_max": 60000.0, **limits}.items() if k in module.LIMITS and v is not None}
        with load(b.write()) as history:
            return module.check(history.arms[0], given_limits)


def each(numbers: set[int], act: Callable[[ArmBuilder, int], object]) -> Spoil:
    return lambda arm: [act(arm, n) for n in sorted(numbers)]


@given(NUMBERS, st.integers(0, 6))
@EXAMPLES
def test_no_loss_counts_what_was_planted(lost: set[int], allowed: int):
    v = judged("no-loss", each(lost, lambda a, n: a.lose(n)), lost_max=allowed)
    assert v.figures["lost"] == len(lost)
    assert v.status == (Status.FAIL if len(lost) > allowed else Status.PASS)
    assert len(v.evidence) == (len(lost) if len(lost) > allowed else 0)


@given(NUMBERS, st.sampled_from([("mailbox", "user1@example.org/INBOX"), ("queue", "mx-0:deferred"), ("quarantine", "user2@example.org/Junk")]), st.sampled_from([(1,), (2,), (1, 2)]))
@EXAMPLES
def test_no_loss_with_less_read_never_loses_more_and_never_passes(lost: set[int], place: tuple[str, str], rounds: tuple[int, ...]):
    def spoil(a: ArmBuilder):
        each(lost, lambda a, n: a.lose(n))(a)
        a.unread(*place, rounds)

    v = judged("no-loss", spoil)
    assert v.figures["lost"] <= len(lost)
    assert v.figures["lost"] + v.figures["undetermined"] >= len(lost)
    assert v.status == (Status.FAIL if v.figures["lost"] else Status.INCONCLUSIVE if v.figures["undetermined"] else Status.PASS)


@given(st.dictionaries(st.integers(1, BURST), st.integers(1, 3), max_size=10))
@EXAMPLES
def test_duplicates_are_counted_by_copy(extra: dict[int, int]):
    v = judged("no-unexplained-duplicates", lambda a: [a.duplicate(n) for n, k in extra.items() for _ in range(k)])
    assert v.figures["unexplained"] == sum(extra.values())
    assert v.status == (Status.FAIL if extra else Status.PASS)


@given(st.integers(0, 4), st.integers(0, 4))
@EXAMPLES
def test_attempts_in_doubt_explain_as_many_copies_and_no_more(doubts: int, copies: int):
    def spoil(a: ArmBuilder):
        for _ in range(doubts):
            a.end_attempt(9, Outcome.INFO, Stage.DOT, 0)
            a.retry(9)
        for _ in range(copies):
            a.duplicate(9)

    v = judged("no-unexplained-duplicates", spoil, explained_share_max=1.0)
    assert (v.figures["explained"], v.figures["unexplained"]) == (min(doubts, copies), max(0, copies - doubts))


KINDS: dict[str, Callable[[ArmBuilder, int], object]] = {
    "corrupted": lambda a, n: a.corrupt(n), "misdelivered": lambda a, n: a.misdeliver(n), "bounced": lambda a, n: a.bounce(n),
    "quarantined": lambda a, n: a.quarantine(n), "rejected_but_delivered": lambda a, n: a.end_attempt(n, Outcome.FAIL, Stage.DOT, 554),
}


@given(st.dictionaries(st.integers(1, BURST), st.sampled_from(sorted(KINDS)), max_size=10))
@EXAMPLES
def test_integrity_counts_each_kind_by_itself(planted: dict[int, str]):
    v = judged("integrity", lambda a: [KINDS[kind](a, n) for n, kind in planted.items()])
    assert {k: int(v.figures[k]) for k in KINDS} == {k: sum(p == k for p in planted.values()) for k in KINDS}
    assert v.status == (Status.FAIL if planted else Status.PASS)


@given(st.dictionaries(st.sampled_from(["incoming", "active", "deferred", "hold", "corrupt"]), st.integers(1, 50), max_size=3), st.integers(0, 60))
@EXAMPLES
def test_what_is_left_in_queues_is_summed(left: dict[str, int], allowed: int):
    def spoil(a: ArmBuilder):
        for s in a.scopes:
            if s["round"] == 2 and s["where"].startswith("mx-0:"):
                s["found"] = left.get(s["where"].partition(":")[2], 0)

    v = judged("queue-drained", spoil, left_max=allowed)
    assert v.figures["left"] == sum(left.values())
    assert v.status == (Status.FAIL if sum(left.values()) > allowed else Status.PASS)


@given(st.integers(0, 60), st.floats(0.01, 0.3))
@EXAMPLES
def test_availability_cuts_at_its_share(failed: int, allowed: float):
    v = judged("availability", lambda a: [a.end_attempt(n, Outcome.FAIL, Stage.RCPT, 451, Deferral.SYSTEM) for n in range(20, 20 + failed)], failed_share_max=allowed)
    share = failed / v.figures["smtp_operations"]
    assert v.figures["smtp_failed_share"] == pytest.approx(share, abs=1e-6)
    assert (v.status == Status.FAIL) == (share > allowed)


@given(st.floats(0, 1000), st.floats(0, 1))
@EXAMPLES
def test_a_load_is_real_only_within_both_limits(lag_ms: float, cpu: float):
    def spoil(a: ArmBuilder):
        for e in a.of("load-1.log", "load_state"):
            e["lag_p99_ms"] = lag_ms
        for e in a.of("observe.log", "host"):
            e["cpu_share"] = cpu

    assert judged("load-was-real", spoil).status == (Status.PASS if lag_ms <= 250 and cpu <= 0.8 else Status.INCONCLUSIVE)


@given(st.sampled_from(["host", "queue"]), st.integers(1, 6), st.integers(3, 12))
@EXAMPLES
def test_a_hole_in_the_samples_counts_by_its_length(kind: str, begin: int, allowed: int):
    def spoil(a: ArmBuilder):
        low, high = ns(26 + begin), ns(26 + begin + 7)
        a.events["observe.log"] = [e for e in a.events["observe.log"] if not (e["kind"] == kind and low <= e["t"] <= high)]

    v = judged("evidence-complete", spoil, gap_s_max=allowed)
    assert v.status == (Status.PASS if v.figures[f"{kind}_gap_s"] <= allowed else Status.INCONCLUSIVE)
    assert 7 < v.figures[f"{kind}_gap_s"] <= 11


@given(st.sampled_from(["load-1.log", "observe.log"]), st.floats(-30, -3.5), st.floats(28, 36))
@EXAMPLES
def test_a_clock_that_goes_back_is_seen(log: str, by_s: float, at: float):
    v = judged("evidence-complete", lambda a: a.jumps.update({log: (at, by_s)}))
    assert v.status == Status.INCONCLUSIVE


@given(st.sets(st.sampled_from(["begin", "evidence", "end", "undone"]), min_size=1), st.booleans())
@EXAMPLES
def test_a_fault_without_all_its_edges_is_not_shown(dropped: set[str], stranger: bool):
    def spoil(a: ArmBuilder):
        a.events["faults.log"] = [e for e in a.events["faults.log"] if e.get("edge") not in dropped]
        if stranger:
            a.event("faults.log", "fault", 31, name="other", fault="kill_pod", edge="begin", targets=["mx-0"], detail={})

    assert judged("faults-happened", spoil, arm="queue-on-pvc").status == Status.INCONCLUSIVE


@given(st.floats(-60, 60))
@EXAMPLES
def test_a_fault_counts_only_inside_the_load(offset_s: float):
    def spoil(a: ArmBuilder):
        for e in a.of("faults.log", "fault"):
            e["t"] += round(offset_s * 1e9)

    v = judged("faults-happened", spoil, arm="queue-on-pvc")
    load_end = 26 + BURST / 20 * 1.03 + 6
    if not 26 <= 30 + offset_s <= load_end:
        assert v.status == Status.INCONCLUSIVE


@given(st.lists(st.floats(0.1, 200), min_size=1, max_size=12), st.floats(1, 100))
@EXAMPLES
def test_latency_is_the_nearest_rank_of_what_was_planted(late_s: list[float], limit_s: float):
    seen: list[float] = []

    def spoil(a: ArmBuilder):
        steady = [m for m in a.mails if m.population == Population.STEADY and m.t_due >= 26]
        for m, late in zip(steady, late_s, strict=False):
            m.sight = m.t_due + late
        seen.extend(m.sight - m.t_due for m in steady)

    v = judged("delivery-latency", spoil, p99_ms_max=limit_s * 1000)
    expected = sorted(seen)[math.ceil(0.99 * len(seen)) - 1] * 1000
    assert v.figures["p99_ms"] == pytest.approx(expected, rel=0.02, abs=20)
    if abs(v.figures["p99_ms"] - limit_s * 1000) > 50:
        assert (v.status == Status.FAIL) == (expected > limit_s * 1000)


@given(st.sets(st.integers(0, 30), max_size=8), st.sets(st.integers(31, 60), max_size=8))
@EXAMPLES
def test_rate_control_counts_the_late_and_the_refused(late: set[int], refused: set[int]):
    def spoil(a: ArmBuilder):
        limited = [m for m in a.mails if m.attempts[0].deferral]
        for n in late:
            limited[n].attempts, limited[n].copies = limited[n].attempts[:1], []
        for n in refused:
            first = limited[n].attempts[0]
            first.code, first.deferral = 554, Deferral.NONE
            limited[n].attempts, limited[n].copies = [first], []

    v = judged("rate-control", spoil, arm="1x-limit")
    assert (v.figures["late"], v.figures["refused"]) == (len(late | refused), len(refused))
    assert v.status == (Status.FAIL if late or refused else Status.PASS)


@given(st.integers(1, 12), st.floats(1, 20))
@EXAMPLES
def test_the_fastest_client_is_counted_over_its_window(allowed: int, window_s: float):
    times: dict[int, list[float]] = {}

    def spoil(a: ArmBuilder):
        for m in a.mails:
            times.setdefault(m.sender, []).append(m.t_ok)

    v = judged("rate-control", spoil, arm="2x-limit", client_mails_max=allowed, client_window_s=window_s)
    most = max(sum(t - window_s <= other <= t for other in mine) for mine in times.values() for t in mine)
    assert abs(v.figures["client_mails"] - most) <= 1  # two acknowledgements just one window apart
    if abs(most - allowed) > 1:
        assert (v.status == Status.FAIL) == (most > allowed)

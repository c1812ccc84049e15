"""Comparing two runs: a change is told with its interval, chance is not called a regression, a broken promise always is."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.claims.stats import t_quantile
from harness.claims.student import quantile, share_at_most, welch, within
from harness.cli import compare as command
from harness.cli.main import cli
from harness.errors import StoreDamaged, UsageError
from harness.judge.compare import (
    BETTER,
    OTHER,
    REGRESSION,
    SAME,
    UNKNOWN,
    VARYING,
    WORSE,
    Comparison,
    LossBound,
    _verdict,
    compare,
)
from harness.judge.extract import ArmExtract, Extract, extract, read_extract
from harness.model.outcome import Population
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import kill_plan, plant_kill
from harness.support.checkout import Checkout


def run(blocks: list[dict[str, float]], **more) -> Extract:
    return Extract(more.pop("run_id", "r"), more.pop("plan", "p"), "", more.pop("conditions", {}), {"1x": ArmExtract(tuple(blocks), **more)})


def spread(rng: random.Random, n: int, factor: float = 1.0, sigma: float = 0.1, figures=("goodput_per_s", "ordinary_p99_ms")) -> list[dict[str, float]]:
    return [{f: factor * 100 * math.exp(rng.gauss(0, sigma)) for f in figures} for _ in range(n)]


def verdicts(a: Extract, b: Extract, **more) -> dict[str, str]:
    return {d.figure: d.verdict for d in compare(a, b, **more).differences}


def test_a_large_change_for_the_worse_is_a_regression_and_for_the_better_is_none():
    rng = random.Random(1)
    found = compare(run(spread(rng, 8)), run(spread(rng, 8, 2.0)))
    by = {d.figure: d for d in found.differences}
    assert (by["goodput_per_s"].verdict, by["ordinary_p99_ms"].verdict) == (BETTER, REGRESSION)
    one = by["ordinary_p99_ms"]
    assert one.low < one.ratio < one.high
    assert 1.7 < one.ratio < 2.3
    assert found.exit_code == 6
    assert "ordinary_p99_ms in 1x × 2." in found.sentence


def test_the_same_twice_is_no_difference():
    blocks = spread(random.Random(2), 7)
    found = compare(run(blocks), run(blocks))
    assert {d.verdict for d in found.differences} == {SAME}
    assert (found.exit_code, found.intervals) == (0, 2)


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (5, 6), (6, 5), (5, 40)])
def test_below_six_blocks_there_is_no_interval_and_no_verdict(n_a: int, n_b: int):
    rng = random.Random(3)
    found = compare(run(spread(rng, n_a)), run(spread(rng, n_b, 3.0)))
    assert {d.verdict for d in found.differences} == {UNKNOWN}
    assert all("too small, no interval" in d.text for d in found.differences)
    assert found.exit_code == 5
    assert "6 blocks" in found.sentence


def test_a_change_that_is_sure_but_small_is_told_and_no_regression():
    rng = random.Random(4)
    a, b = run(spread(rng, 9, sigma=0.001)), run(spread(rng, 9, 1.03, sigma=0.001))
    assert verdicts(a, b)["ordinary_p99_ms"] == WORSE
    assert verdicts(a, b, effect_min=0.01)["ordinary_p99_ms"] == REGRESSION


def test_a_figure_without_a_better_side_only_changes():
    rng = random.Random(5)
    a, b = (run(spread(rng, 8, f, figures=("intake_per_s",))) for f in (1.0, 3.0))
    assert verdicts(a, b) == {"intake_per_s": OTHER}
    assert compare(a, b).exit_code == 0


def test_a_broken_promise_is_a_regression_with_one_block():
    assert verdicts(run([{"lost": 0.0}]), run([{"lost": 3.0}])) == {"lost": REGRESSION}
    assert compare(run([{"lost": 0.0}]), run([{"lost": 3.0}])).exit_code == 6
    assert verdicts(run([{"lost": 3.0}]), run([{"lost": 0.0}])) == {"lost": BETTER}
    assert verdicts(run([{"lost": 3.0}]), run([{"lost": 5.0}])) == {"lost": OTHER}
    assert verdicts(run([{"lost": 0.0}]), run([{"lost": 0.0}])) == {}


def test_a_a_runs_are_rarely_called_a_regression():
    """What the Bonferroni level promises: at most 5 % of comparisons, whatever the number of figures."""
    rng = random.Random(6)
    figures = tuple(f for f, sense in VARYING.items() if sense)
    false = sum(compare(run(spread(rng, 6, figures=figures)), run(spread(rng, 6, figures=figures)), effect_min=0.0).exit_code == 6 for _ in range(200))
    assert false / 200 <= 0.05


def test_losses_are_bounded_per_fault():
    a = run([{"lost": 0.0}] * 5, faults=5, with_loss=0, custody=1234)
    bound = compare(a, a).bounds[0]
    assert bound.at_most == pytest.approx(0.4507, abs=1e-4)
    assert bound.text == "A 1x: 0 of 5 faults lost mail, 1234 mails in the victims' custody: at most 45% per fault at 95 %"
    assert compare(run([{}]), run([{}])).bounds == ()


def test_what_is_not_the_same_and_what_was_left_out_is_told():
    a, b = run([{}], conditions={"commit": "a", "seed": "7"}), run([{}], conditions={"commit": "b", "seed": "7"}, left_out=2)
    found = compare(a, b)
    assert found.differs == ("commit",)
    assert found.left_out == ("B 1x: 2 blocks without sound evidence left out",)


def test_other_plans_and_other_arms_cannot_be_compared():
    with pytest.raises(UsageError, match="two plans"):
        compare(run([]), run([], plan="q"))
    with pytest.raises(UsageError, match="no arm in common"):
        compare(run([]), Extract("r", "p", "", {}, {"2x": ArmExtract()}))


@given(st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_students_t_agrees_with_the_table(degrees: int):
    t = quantile(degrees, 0.95)
    assert within(t, degrees) == pytest.approx(0.95, abs=1e-9)
    if degrees <= 30 or degrees in (40, 60, 120):
        assert t == pytest.approx(t_quantile(degrees), abs=6e-5)


@pytest.mark.parametrize(("degrees", "level", "t"), [(1, 0.99, 63.6567), (5, 0.998, 5.8934), (10, 0.999, 4.5869), (29, 0.99, 2.7564)])
def test_students_t_at_other_levels(degrees: int, level: float, t: float):
    """Source: NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2."""
    assert quantile(degrees, level) == pytest.approx(t, abs=1e-4)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.lists(st.floats(-5, 5), min_size=2, max_size=9))
@settings(max_examples=60, deadline=None)
def test_welchs_interval_holds_its_middle_and_turns_with_its_sides(a: list[float], b: list[float]):
    middle, low, high = welch(a, b, 0.95)
    assert low <= middle <= high
    assert welch(b, a, 0.95) == pytest.approx((-middle, -high, -low), abs=1e-9)
    wide = welch(a, b, 0.999)
    assert wide[1] <= low + 1e-12
    assert wide[2] >= high - 1e-12


@given(st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_bounds_on_a_share(n: int, hits: int):
    bound = share_at_most(hits, n)
    assert hits / n <= bound + 1e-9 if hits < n else bound == 1.0
    assert share_at_most(hits + 1, n) >= bound
    if hits == 0:
        assert bound == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-9)


@pytest.mark.parametrize("bad", [lambda: quantile(0, 0.95), lambda: quantile(3, 1.0), lambda: welch([1.0], [1.0, 2.0], 0.95)])
def test_too_little_is_refused(bad):
    with pytest.raises(ValueError, match=r"needs"):
        bad()


# -- on real run directories ---------------------------------------------------------------------------------------
def six_blocks(root: Path, *, slower_by_s: float = 0.0, spoil=lambda b: None):
    b = HistoryBuilder(root, blocks=6, arms=["1x"], burst=200)
    rng = random.Random(str(root))
    for arm in b.arms:
        wobble = rng.uniform(0, 0.02)
        for m in arm.mails:
            if m.population == Population.STEADY and m.sight is not None:
                m.sight += slower_by_s + wobble
    spoil(b)
    return b.write()


def test_a_run_says_what_it_measured_and_reads_back(tmp_path: Path):
    made = extract(six_blocks(tmp_path, spoil=lambda b: b.arms[2].saturate_host()))
    arm = made.arms["1x"]
    assert (len(arm.blocks), arm.left_out, arm.faults) == (5, 1, 0)
    path = tmp_path / "b.json"
    path.write_text(made.to_json())
    assert read_extract(path) == replace(made, arms=dict(made.arms))
    for spoilt in ("{", "[]", '{"format": 2}', made.to_json().replace('"blocks"', '"blox"')):
        path.write_text(spoilt)
        with pytest.raises(StoreDamaged, match="no baseline"):
            read_extract(path)


def test_faults_and_what_their_victims_held(tmp_path: Path):
    b = HistoryBuilder(tmp_path, kill_plan(), arms=["queue-on-pvc"])
    plant_kill(b.arms[0])
    arm = extract(b.write()).arms["queue-on-pvc"]
    assert (arm.faults, arm.with_loss) == (1, 0)
    assert arm.custody > 50


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkout = Checkout(tmp_path / "checkout")
    (checkout.runs).mkdir(parents=True)
    monkeypatch.setattr(Checkout, "find", classmethod(lambda cls: checkout))
    good, slow = six_blocks(checkout.runs), six_blocks(checkout.runs, slower_by_s=2.0)

    def mailgale(*words: str):
        return CliRunner().invoke(cli, list(words), standalone_mode=False)

    assert isinstance(mailgale("compare", "baseline", slow.run_id).exception, UsageError)
    assert "n=6" in mailgale("baseline", "set", good.run_id).output
    assert good.run_id in mailgale("baseline", "show", "friday-burst").output
    done = mailgale("compare", "baseline", slow.run_id)
    assert done.return_value == 6, done.output
    assert "REGRESSION: ordinary_p50_ms in 1x" in done.output
    found = json.loads(mailgale("compare", "baseline", slow.run_id, "-o", "json").output)
    assert found["exit_code"] == 6
    assert {d["figure"] for d in found["differences"] if d["verdict"] == REGRESSION} == {"ordinary_p50_ms", "ordinary_p99_ms"}
    assert mailgale("compare", slow.run_id, good.run_id).return_value == 0
    assert mailgale("compare", good.run_id, good.run_id).return_value == 0


def test_a_run_without_sound_evidence_is_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    b = HistoryBuilder(tmp_path, arms=["1x"], burst=200)
    b.arms[0].saturate_host()
    made = b.write()
    done = CliRunner().invoke(cli, ["baseline", "set", str(made.path)], standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    assert command.BASELINE == "baseline"


@pytest.mark.parametrize(("sense", "ratio", "own", "strict", "said"), [
    (-1, 2.0, (1.5, 2.5), (1.2, 3.0), REGRESSION), (-1, 2.0, (1.5, 2.5), (0.9, 3.0), WORSE), (-1, 1.04, (1.02, 1.06), (1.01, 1.07), WORSE),
    (-1, 1.05, (1.02, 1.08), (1.01, 1.09), REGRESSION), (-1, 0.5, (0.4, 0.6), (0.3, 0.7), BETTER), (1, 0.5, (0.4, 0.6), (0.3, 0.7), REGRESSION),
    (1, 2.0, (1.5, 2.5), (1.2, 3.0), BETTER), (0, 2.0, (1.5, 2.5), (1.2, 3.0), OTHER), (-1, 2.0, (0.9, 2.5), (0.8, 3.0), SAME),
    (-1, 1.2, (1.0, 1.5), (0.9, 1.6), SAME), (1, 0.9, (0.8, 1.0), (0.7, 1.1), SAME), (-1, 1.5, (1.1, 2.0), (1.0, 2.2), WORSE), (1, 0.5, (0.3, 0.8), (0.2, 1.0), WORSE),
])
def test_what_an_interval_says(sense: int, ratio: float, own: tuple[float, float], strict: tuple[float, float], said: str):
    """An interval that touches 1 holds it; the effect counts from its bound on."""
    assert _verdict(sense, ratio, own, strict, 0.05) == said


@pytest.mark.parametrize(("custody", "said"), [(-1, "lost mail: at"), (0, "lost mail, 0 mails in the victims' custody: at"), (7, "lost mail, 7 mails in")])
def test_a_bound_of_loss_in_words(custody: int, said: str):
    text = LossBound("A", "1x", 30, 0, custody, 0.0953).text
    assert text.startswith("A 1x: 0 of 30 faults ")
    assert said in text
    assert text.endswith("at most 10% per fault at 95 %")


def test_what_a_broken_promise_is_called():
    def told(before: float, now: float) -> list[tuple[str, float, float]]:
        found = compare(run([{"lost": before}]), run([{"lost": now}, {"lost": 0.0}]))
        return [(d.verdict, d.a, d.b) for d in found.differences if d.figure == "lost"]

    assert told(0, 0) == []
    assert told(0, 1) == [(REGRESSION, 0, 1)]
    assert told(2, 0) == [(BETTER, 2, 0)]
    assert told(2, 3) == [(OTHER, 2, 3)]
    assert compare(run([]), run([{"lost": 1.0}])).differences == ()


def test_conditions_that_differ_and_blocks_left_out_are_named():
    a, b = run(spread(random.Random(3), 6), conditions={"seed": "1", "cores": "2"}, left_out=1), run(spread(random.Random(4), 6), conditions={"seed": "2", "cores": "2"})
    found = compare(a, b)
    assert (found.differs, found.left_out) == (("seed",), ("A 1x: 1 blocks without sound evidence left out",))


@pytest.mark.parametrize(("count", "more"), [(1, ""), (3, ""), (5, ", and 2 more")])
def test_the_sentence_names_three_regressions(count: int, more: str):
    one = next(d for d in compare(run([{"lost": 0.0}]), run([{"lost": 1.0}])).differences if d.verdict == REGRESSION)
    text = Comparison("a", "b", (one,) * count, ()).sentence
    assert text == "REGRESSION: " + "; ".join(["lost in 1x 0 → 1"] * min(count, 3)) + f"{more}."
    assert Comparison("a", "b", (), (), intervals=0).exit_code == 5
    assert Comparison("a", "b", (), (), intervals=1).exit_code == 0

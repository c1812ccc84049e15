"""The run directory: created, sealed, and every later change seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import StoreDamaged, UsageError
from harness.selftest.builder import good_run
from harness.selftest.friday import friday_plan, kill_plan, limited_plan
from harness.store.history import load
from harness.store.plan_json import plan_from_json, plan_to_json
from harness.store.run import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir.create(tmp_path, friday_plan(), {"target": {"kind": "kind"}}, plan_bytes=b"plan: x\n")
    made.arm(1, "1x").spec.write_text("{}")
    return made


@pytest.mark.parametrize("plan", [friday_plan(), kill_plan(), limited_plan()])
def test_a_plan_survives_json(plan):
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


@pytest.mark.parametrize("spoil", [lambda d: d.pop("load"), lambda d: d.pop("name"), lambda d: d.update(arms=5), lambda d: d.update(load=[])])
def test_a_plan_that_does_not_read_is_damage(spoil):
    data = plan_to_json(friday_plan())
    spoil(data)
    with pytest.raises(StoreDamaged):
        plan_from_json(data)


def test_it_opens_as_it_was_created(run: RunDir):
    again = RunDir.open(run.path)
    assert again.plan == friday_plan()
    assert again.run_id == run.path.name
    assert again.planned_arms == ((1, "1x"), (1, "2x"))
    assert [a.label for a in again.arm_dirs()] == ["1-1x"]


def test_an_arm_that_the_plan_lacks_is_refused(tmp_path: Path):
    with pytest.raises(UsageError):
        RunDir.create(tmp_path, friday_plan(), {}, arms=[(1, "3x")])


def test_no_run_there(tmp_path: Path):
    with pytest.raises(UsageError):
        RunDir.open(tmp_path)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"format": 99}', "\x00"])
def test_a_head_that_does_not_read_is_damage(run: RunDir, body: str):
    (run.path / "run.json").write_text(body)
    with pytest.raises(StoreDamaged):
        RunDir.open(run.path)


def test_meta_grows_until_the_seal(run: RunDir):
    run.update_meta(images={"mx": "sha256:1"})
    assert RunDir.open(run.path).meta == {"target": {"kind": "kind"}, "images": {"mx": "sha256:1"}} == run.meta
    run.seal()
    with pytest.raises(StoreDamaged):
        run.update_meta(more=1)


def test_what_was_sealed_verifies(run: RunDir):
    digest = run.seal()
    assert digest == RunDir.open(run.path).seal_digest
    for name in ("verdict.json", "report.html", "summary.md", "junit.xml"):
        (run.path / name).write_text("made later")
    assert run.verify() == []
    with pytest.raises(StoreDamaged):
        run.seal()


@pytest.mark.parametrize("spoil", [
    lambda p: (p / "plan.yaml").write_text("plan: y\n"),
    lambda p: (p / "plan.yaml").write_text("longer than it was\n"),
    lambda p: (p / "plan.yaml").unlink(),
    lambda p: (p / "arms/1-1x/extra.log").write_text(""),
    lambda p: (p / "arms/1-1x/spec.json").unlink(),
    lambda p: (p / "seal.json").unlink(),
    lambda p: (p / "seal.json").write_text("{"),
    lambda p: (p / "seal.json").write_text("{}"),
    lambda p: ((p / "plan.yaml").unlink(), (p / "plan.yaml").symlink_to(p / "run.json")),
])
def test_every_change_after_the_seal_is_seen(run: RunDir, spoil):
    run.seal()
    spoil(run.path)
    assert len(run.verify()) == 1


def test_no_seal_over_what_is_no_file(run: RunDir):
    (run.path / "link").symlink_to("run.json")
    with pytest.raises(StoreDamaged):
        run.seal()
    assert run.seal_digest == ""


def test_history_reads_rows_events_and_phases(tmp_path: Path):
    with load(good_run(tmp_path)) as history:
        assert history.damages == ()
        assert history.missing_arms == ()
        arm = history.arms[0]
        assert arm.label == "1x"
        assert arm.one("SELECT current_setting('enable_progress_bar')") is False
        assert arm.one("SELECT count(*) FROM offers") == arm.one("SELECT count(*) FROM dones") == 552
        assert arm.phase("load") is not None
        assert arm.phase("nap") is None
        assert set(arm.expected_writers) == arm.writers_closed
        assert arm.events("load_state")[0]["log"] == "load-1.log"
        assert arm.one("SELECT lower(printf('%016x%016x', sha_lo, sha_hi)) FROM offers WHERE mail = 1") == arm.one("SELECT sha FROM copies WHERE mail = 1 LIMIT 1")


def test_several_load_logs_are_one_arm(tmp_path: Path):
    import numpy as np

    from harness.store.log import LogWriter
    from harness.store.ops import OFFER

    run = good_run(tmp_path)
    with LogWriter(run.arm(1, "1x").load_log(2), "load") as log:
        log.event("recipients", addresses=["user3@example.org", "new@example.org"], t=1)
        log.event("senders", addresses=["new@example.net"], clients=["203.0.113.9"], t=1)
        row = np.zeros(1, dtype=OFFER)
        row["mail"] = 10_000
        log.rows(2, row.tobytes())
    with load(run) as history:
        found = history.arms[0].sql("SELECT r.address, s.client FROM offers o JOIN recipients r USING (rcpt) JOIN senders s USING (sender) WHERE mail = 10000")
        assert found == [("user3@example.org", "203.0.113.9")]

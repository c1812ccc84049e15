"""The self-test holds; and it can fail: a check that is blinded shows in its table."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.checks import integrity, no_loss
from harness.cli.main import cli
from harness.model.verdict import Status, Verdict
from harness.selftest import table
from harness.selftest.content import LEGAL, contents, found_sha, mislabelled, truncated
from harness.selftest.defects import BIG, HARNESS, NOT_EXPRESSIBLE, PLATFORM
from harness.selftest.live import LIVE, live_row
from harness.selftest.table import Row, Table, judge_good, row_of
from harness.support.progress import SilentProgress

#: The list of known-bad stacks that the self-test must hold.
WANTED = (
    "acknowledged then dropped, all", "acknowledged then dropped, 1 in 100", "acknowledged then dropped, 1 in 10,000",
    "everything refused with 4xx", "duplicated on LMTP retry", "body truncated", "charset damaged", "wrong mailbox", "bounced instead of deferred",
    "unplanted mail quarantined", "flag lost", "UIDVALIDITY changed", "POP UIDL changed", "expunged mail back", "POP DELE ignored",
    "queue on emptyDir", "queue stranded by scale-in", "two masters on one spool", "rate limit off", "permanent 5xx instead of 4xx",
    "rate limit per pod instead of shared", "probe that passes while RCPT hangs", "readiness that fails on a shared dependency", "pod IPs pinned",
    "grace period too short", "fault that did nothing", "drain that skipped pods", "generator saturated", "host saturated", "recorder killed",
    "samples missing", "clock jumped forward", "clock jumped back", "half a history", "a mailbox not read",
)


def test_the_whole_list_is_there():
    named = {d.name for d in (*PLATFORM, *HARNESS, *BIG)} | set(NOT_EXPRESSIBLE)
    assert set(WANTED) - named == set()
    assert len(PLATFORM) + len(BIG) >= 20


@pytest.mark.parametrize("name", [d.name for d in (*PLATFORM, *HARNESS)])
def test_each_defect_is_seen_by_the_named_check(name: str):
    row = row_of(name)
    assert row.well, row


def test_a_loss_of_1_in_10_000_is_seen():
    row = row_of(BIG[0].name)
    assert row.well, row
    assert "3 acknowledged mails of 30" in row.reason


@pytest.mark.slow
def test_good_histories_do_not_fail():
    seen = [judge_good(n) for n in range(40)]
    assert [s for s in seen if s[1] != Status.PASS.name] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_quick_as_the_command_runs_it(tmp_path):
    done = CliRunner().invoke(cli, ["selftest", "quick", "--json", str(tmp_path / "t.json")], standalone_mode=False)
    assert done.return_value == 0, done.output
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["well"]
    assert next(r for r in found["rows"] if r["kind"] == "good")["seen"] == "300 PASS, 0 INCONCLUSIVE, 0 FAIL"


@pytest.mark.slow
@pytest.mark.parametrize("defect", LIVE, ids=lambda d: d.name)
def test_over_real_sockets(defect):
    assert [r for r in live_row(defect) if not r.well] == []


def test_a_blind_check_shows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(no_loss, "check", lambda arm, limits: Verdict("no-loss", arm.label, Status.PASS, "saw nothing"))
    row = row_of("acknowledged then dropped, 1 in 100")
    assert not row.well
    assert row.seen == "PASS"


def test_a_check_that_fails_without_reason_shows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(integrity, "check", lambda arm, limits: Verdict("integrity", arm.label, Status.FAIL, "always"))
    row = row_of("host saturated")
    assert not row.well
    assert "FAIL without reason by integrity" in row.reason
    assert judge_good(0)[1] == "FAIL"


def test_one_bad_line_is_exit_3(monkeypatch: pytest.MonkeyPatch, tmp_path):
    bad = Table("quick", (Row("good", "x", "y", "z", "FAIL", "PASS", False, "because"),), 1.0, {})
    monkeypatch.setitem(__import__("harness.cli.selftest", fromlist=["_MODES"])._MODES, "quick", lambda progress: bad)
    done = CliRunner().invoke(cli, ["selftest", "--json", str(tmp_path / "t.json")], standalone_mode=False)
    assert done.return_value == 3
    assert "because" in done.output


def test_no_lines_are_no_success():
    assert not Table("quick", (), 0.0, {}).well


def test_the_pool_gives_the_same_as_one_process():
    rows = table._defects(PLATFORM[:2], SilentProgress())
    assert [r.name for r in rows] == [d.name for d in PLATFORM[:2]]
    assert all(r.well for r in rows)


@pytest.mark.parametrize("change", LEGAL, ids=lambda f: f.__name__)
def test_legal_re_encoding_keeps_the_hash(change):
    assert [c.raw[:200] for c in contents() if found_sha(change(c.raw)) != c.sha.hex()] == []


@pytest.mark.parametrize("change", [truncated, mislabelled])
def test_damage_changes_it(change):
    touched = [c for c in contents() if change(c.raw) != c.raw]
    assert touched
    wrong = [c for c in touched if found_sha(change(c.raw)) == c.sha.hex()]
    assert wrong == []

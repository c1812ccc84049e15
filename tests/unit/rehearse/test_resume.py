"""A run that stopped half way is gone on with: finished arms stay as they are, and nothing of a half arm is ever judged."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.run import _exit_code, _row
from harness.errors import BudgetExceeded, CleanupIncomplete, ClusterFailed, GuardRefused, MailgaleError
from harness.judge import judge
from harness.model.verdict import Status
from harness.rehearse import leftovers, resume
from harness.rehearse.arm import ArmRun
from harness.rehearse.order import Options, arms_in_order
from harness.report import summary_lines
from harness.report import write as write_report
from harness.stack.images import Image
from harness.store.log import LogWriter
from harness.store.run import RunDir
from harness.store.sessions import finished, put_aside, reopen, sessions, unfinished
from tests.servers.fake_api import UID, fake_api
from tests.unit.rehearse.bench import Bench, half, write


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with fake_api() as api:
        yield Bench(tmp_path, api, monkeypatch)


def stopped(error: BaseException, spoil: Callable = half) -> Callable[[ArmRun], None]:
    def act(arm: ArmRun) -> None:
        write(arm, spoil)
        raise error

    return act


def second(bench: Bench) -> str:
    """Name of the arm that runs second."""
    return arms_in_order(bench.plan, Options())[1][1]


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def interrupted(bench: Bench, error: BaseException | None = None, spoil: Callable = half) -> RunDir:
    bench.acts[second(bench)] = stopped(error or KeyboardInterrupt(), spoil)
    run = bench.run().run
    bench.ran.clear()
    bench.notes.lines.clear()
    return run


def test_ctrl_c_in_the_second_arm_and_the_same_command_again(bench: Bench):
    bench.acts[second(bench)] = stopped(KeyboardInterrupt())
    first = bench.run()
    done, halfway = bench.ran
    assert first.problem is not None
    assert first.problem.exit_code == 2
    assert first.run.meta["unfinished"] == [halfway]
    assert first.run.verify() == []
    assert judge(first.run.path).status == Status.INCONCLUSIVE
    before = digests(first.run.path / "arms" / done)
    bench.ran.clear()

    again = bench.run()
    assert again.problem is None
    assert again.run.path == first.run.path
    assert bench.ran == [halfway], "a finished arm was run again, or an unfinished one was not"
    assert digests(first.run.path / "arms" / done) == before
    assert again.run.verify() == []
    assert again.run.meta["unfinished"] == []
    verdict = judge(again.run.path)
    assert verdict.status == Status.PASS, verdict.sentence
    assert {v.arm for v in verdict.verdicts} == {"1x", "2x"}
    assert _exit_code(verdict, again.problem) == 0
    assert len(bench.runs()) == 1


def test_the_report_says_on_its_first_page_that_and_how_the_run_was_resumed(bench: Bench):
    first = interrupted(bench)
    old_seal, halfway = first.seal_digest, unfinished(first)[0]
    run = bench.run().run
    judge(run.path)
    paths, sheet = write_report(run.path, json.loads((run.path / "verdict.json").read_text()))
    name = f"{halfway[0]}-{halfway[1]}"
    page = paths.html.read_text()
    top = page[: page.index("<nav")]
    assert "Resumed 20" in top
    assert f"begun again: {name}" in top
    assert "interrupted; what was started has been undone" in top
    assert f"2-{name}" in page
    assert old_seal in page
    assert "Resumed" in paths.markdown.read_text()
    assert any(line.startswith("· Resumed") for line in summary_lines(sheet))
    assert sessions(run)[0].seal == old_seal
    assert hashlib.sha256((run.path / "interrupted" / "2-seal.json").read_bytes()).hexdigest() == old_seal


def test_nothing_of_it_is_said_of_a_run_in_one_go(bench: Bench):
    run = bench.run().run
    judge(run.path)
    paths, sheet = write_report(run.path, json.loads((run.path / "verdict.json").read_text()))
    assert sheet.resumed == ()
    assert "Resumed" not in paths.html.read_text()
    assert "one go" not in paths.html.read_text()


def test_a_half_arm_never_enters_the_judgement(bench: Bench):
    """The half arm has lost a mail, by a census that did not come to its end; the arm that was run in its place has not."""

    def lossy(made):
        made.lose(9)
        made.unclosed.add("census.log")

    run = interrupted(bench, spoil=lossy)
    assert judge(run.path).status != Status.PASS
    again = bench.run().run
    verdict = judge(again.path)
    assert verdict.status == Status.PASS, verdict.sentence
    assert put_aside(again) == (f"2-{bench.ran[0]}",)
    assert sorted(p.name for p in (again.path / "arms").iterdir()) == ["1-1x", "1-2x"]


def test_an_arm_that_finished_with_a_failure_is_not_run_again(bench: Bench):
    first = next(name for name in bench.plan.arm_names if name != second(bench))
    bench.acts = {first: lambda arm: write(arm, lambda made: made.lose(9)), second(bench): stopped(KeyboardInterrupt())}
    bench.run()
    bench.ran.clear()
    run = bench.run().run
    assert bench.ran == [f"1-{second(bench)}"]
    assert judge(run.path).status == Status.FAIL


@pytest.mark.parametrize("error", [ClusterFailed("gone"), MailgaleError("a fault"), BudgetExceeded("used up"), OSError(28, "No space left on device")])
def test_other_ends_are_gone_on_with_as_well(bench: Bench, error: Exception):
    run = interrupted(bench, error)
    assert run.seal_digest
    assert bench.run().run.path == run.path
    assert len(bench.ran) == 1


def test_a_killed_conductor_is_gone_on_with(bench: Bench):
    pid = os.fork()
    if pid == 0:
        def kill(arm: ArmRun) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        bench.acts[second(bench)] = kill
        try:
            bench.run()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    run = bench.runs()[0]
    assert run.seal_digest == ""
    assert _row(run.path)["verdict"] == "unfinished"
    again = bench.run().run
    assert again.path == run.path
    assert bench.ran == [f"1-{second(bench)}"]
    verdict = judge(again.path)
    assert verdict.status == Status.PASS, verdict.sentence
    assert sessions(again)[0].why == "its conductor was killed"
    assert [p.name for p in again.conductor_logs] == ["conductor.log", "conductor-2.log"]
    assert list(bench.checkout.state.glob("secrets-*")) == []


def test_a_killed_last_conductor_is_still_damage(bench: Bench):
    """That a cut log of an earlier session is explained does not hold for the last one."""
    interrupted(bench)
    run = bench.run().run
    path = run.conductor_logs[-1]
    path.write_bytes(path.read_bytes()[:-3])
    verdict = judge(run.path)
    assert verdict.status == Status.INCONCLUSIVE
    assert "conductor-2.log" in verdict.sentence


def test_a_damaged_log_of_an_earlier_session_is_damage(bench: Bench):
    interrupted(bench)
    run = bench.run().run
    path = run.conductor_logs[0]
    octets = bytearray(path.read_bytes())
    octets[20] ^= 1
    path.write_bytes(octets)
    (run.path / "seal.json").unlink()
    run.seal()
    assert judge(run.path).status == Status.INCONCLUSIVE


def _another_cluster(bench: Bench) -> None:
    uid = UID.replace("1", "2")
    bench.api.put("/api/v1/namespaces/kube-system", {"metadata": {"name": "kube-system", "uid": uid}})
    bench.target = replace(bench.target, uid=uid)


CHANGES: dict[str, Callable[[Bench], None]] = {
    "plan": lambda b: setattr(b, "plan", replace(b.plan, seed=8, sha256="cd" * 32)),
    "images": lambda b: b.images.update(mx=Image("mx", "mailgale/mx:1", "sha256:2")),
    "source": lambda b: (b.checkout.root / "harness" / "a.py").write_text("a = 2\n"),
    "cluster": lambda b: _another_cluster(b),
    "boot": lambda b: b.monkeypatch.setattr(resume, "boot_id", lambda: "another"),
    "versions": lambda b: setattr(b, "target", replace(b.target, versions={"kubernetes": "v9"})),
}


@pytest.mark.parametrize("what", CHANGES)
def test_under_other_conditions_a_new_run_begins_and_says_why(bench: Bench, what: str):
    old = interrupted(bench)
    CHANGES[what](bench)
    run = bench.run().run
    assert run.path != old.path
    assert len(bench.ran) == 2
    assert any("is unfinished and stays so" in line for line in bench.notes.lines), bench.notes.lines
    assert old.verify() == []


def test_other_blocks_or_arms_begin_a_new_run(bench: Bench):
    old = interrupted(bench)
    assert bench.run(blocks=2).run.path != old.path
    assert bench.run(arms="1x").run.path != old.path
    assert bench.run().run.path == old.path, "the run under the same conditions is still the newest of them"


def test_fresh_begins_a_new_run(bench: Bench):
    old = interrupted(bench)
    new = bench.run(fresh=True).run
    assert new.path != old.path
    assert len(bench.ran) == 2
    assert bench.run().run.path not in (old.path, new.path), "the newest run of this plan is finished, so an older one is over"


def test_a_finished_run_is_not_gone_on_with(bench: Bench):
    old = bench.run().run
    assert bench.run().run.path != old.path


def test_a_run_whose_arms_are_all_finished_is_over_whatever_was_left_behind(bench: Bench):
    def left(arm: ArmRun) -> None:
        write(arm)
        raise CleanupIncomplete("left")

    bench.acts[second(bench)] = left
    old = bench.run()
    assert old.problem is not None
    assert old.problem.exit_code == 10
    assert old.run.meta["unfinished"] == []
    assert bench.run().run.path != old.run.path


def test_without_a_finished_arm_a_new_run_begins(bench: Bench):
    bench.acts = {name: stopped(KeyboardInterrupt()) for name in bench.plan.arm_names}
    old = bench.run().run
    bench.acts.clear()
    assert bench.run().run.path != old.path


def test_a_run_that_was_changed_since_its_seal_is_left_alone(bench: Bench):
    old = interrupted(bench)
    path = next(p for p in (old.path / "arms").glob("*/load-1.log") if second(bench) not in p.parent.name.split("-"))
    path.write_bytes(path.read_bytes() + b"x")
    assert bench.run().run.path != old.path
    assert any("load-1.log" in line for line in bench.notes.lines)


def test_notes_that_recover_took_in_a_half_arm_do_not_matter(bench: Bench):
    old = interrupted(bench)
    with LogWriter(old.path / "arms" / f"1-{second(bench)}" / "undo-1.log", "undo"):
        pass
    assert bench.run().run.path == old.path


def test_stopped_twice(bench: Bench):
    interrupted(bench)
    bench.acts[second(bench)] = stopped(KeyboardInterrupt())
    bench.run()
    run = bench.run().run
    assert bench.ran == [f"1-{second(bench)}"] * 2
    assert put_aside(run) == (f"2-1-{second(bench)}", f"3-1-{second(bench)}")
    assert [s.number for s in sessions(run)] == [2, 3]
    assert judge(run.path).status == Status.PASS


@pytest.mark.parametrize("step", [0, 1, 2])
def test_reopening_may_be_cut_short_at_any_step(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: int):
    run = interrupted(bench)
    steps = iter(range(10))
    real_rename, real_head = Path.rename, RunDir.write_head

    def cut() -> None:
        if next(steps) == step:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(Path, "rename", lambda self, to: (cut() if "interrupted" in str(to) else None, real_rename(self, to))[1])
        m.setattr(RunDir, "write_head", lambda self, head: (cut(), real_head(self, head))[1])
        with pytest.raises(OSError, match="No space"):
            reopen(run)
    again = bench.run().run
    assert again.path == run.path
    assert bench.ran == [f"1-{second(bench)}"]
    assert len(put_aside(again)) == 1
    assert judge(again.path).status == Status.PASS


def test_a_census_that_broke_does_not_count_as_taken(tmp_path: Path, bench: Bench):
    run = RunDir.create(tmp_path, bench.plan, {})
    arm = run.arm(1, "1x")
    assert not finished(arm)
    log = LogWriter(arm.census_log, "census")
    log.event("scope", round=2)
    log.flush()
    assert not finished(arm)
    log.close()
    assert finished(arm)
    arm.census_log.write_bytes(arm.census_log.read_bytes()[:-1])
    assert not finished(arm)


def test_a_process_that_still_writes_into_the_run_is_waited_for_and_then_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    run = interrupted(bench)
    file = run.path / "arms" / f"1-{second(bench)}" / "load-1.log"
    code = "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        monkeypatch.setattr(leftovers, "WRITERS_GO_S", 0.5)
        with pytest.raises(GuardRefused, match=rf"{process.pid} \(load-1.log\)"):
            bench.run()
        assert run.verify() == [], "the run was touched"
        assert process.stdin is not None
        process.stdin.close()
    assert bench.run().run.path == run.path


def test_a_process_that_only_reads_does_not_matter(bench: Bench):
    run = interrupted(bench)
    with (run.path / "run.json").open() as handle, subprocess.Popen(["sleep", "30"], stdin=handle) as process:
        assert leftovers.writers(run) == {}
        process.kill()


def test_what_the_stopped_run_left_on_the_cluster_is_taken_down_first_and_nothing_else(bench: Bench):
    run = interrupted(bench)
    labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": bench.checkout.id}
    mine, other = bench.checkout.namespace("1-2x"), bench.checkout.namespace("stack")
    bench.api.namespace(mine, **labels, **{"mailgale.dev/run": run.run_id})
    bench.api.namespace(other, **labels, **{"mailgale.dev/run": "none"})
    bench.run()
    assert ("DELETE", f"/api/v1/namespaces/{mine}") in bench.api.mutations
    assert all(other not in path for _, path in bench.api.mutations)


def test_what_cannot_be_taken_down_keeps_the_run_from_being_resumed(bench: Bench):
    run = interrupted(bench)
    labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": bench.checkout.id, "mailgale.dev/run": run.run_id}
    bench.api.namespace(bench.checkout.namespace("1-2x"), **labels)
    bench.api.failures["DELETE", "/api/v1/namespaces"] = 500
    with pytest.raises(CleanupIncomplete, match=bench.checkout.namespace("1-2x")):
        bench.run()
    assert run.verify() == []


def test_runs_ls_says_unfinished(bench: Bench):
    run = interrupted(bench)
    judge(run.path)
    assert _row(run.path)["verdict"] == "unfinished"
    assert "1 of 2 arms are done" in resume.told(run)
    bench.run()
    judge(run.path)
    assert _row(run.path)["verdict"] == "PASS"
    assert resume.told(RunDir.open(run.path)) == ""

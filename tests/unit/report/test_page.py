"""The whole report: well-formed, the same bytes each time, and nothing in it that is not on record."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.errors import StoreDamaged, UsageError
from harness.selftest.builder import HistoryBuilder, good_run, kill_run
from harness.selftest.friday import limited_plan
from harness.store.run import RunDir
from tests.unit.report.sample import FIGURES, verdict

VOID = {"meta", "br", "link", "img", "input", "hr", "col"}
TEMPLATE = Path(report.__file__).parent / "templates" / "report.html.j2"


class Outline(HTMLParser):
    """Fails on unbalanced tags; collects what accessibility needs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = []
        self.counts: dict[str, int] = {}
        self.scopeless = 0
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.scopeless += tag == "th" and "scope" not in known
        self.ids += [known["id"] or ""] if "id" in known else []
        self.refs += (known.get("aria-labelledby") or "").split() + [h[1:] for h in [known.get("href") or ""] if h.startswith("#")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("style", "title", "desc"):
            self.text += data + "\n"


def page_of(run: RunDir, data: dict[str, Any]) -> tuple[str, report.ReportPaths, report.Sheet]:
    paths, sheet = report.write(run.path, data)
    return paths.html.read_text(), paths, sheet


def passing(root: Path) -> tuple[RunDir, dict[str, Any]]:
    run = good_run(root)
    return run, verdict(run.run_id)


def inconclusive(root: Path) -> tuple[RunDir, dict[str, Any]]:
    b = HistoryBuilder(root)
    b.arm("2x").drop_events("observe.log", "host")
    b.arm("2x").cut_log("load-1.log", 40)
    run = b.write(seal=False)
    return run, verdict(run.run_id, status="INCONCLUSIVE", changes={("load-was-real", "2x"): {"status": "INCONCLUSIVE"}})


def failing(root: Path) -> tuple[RunDir, dict[str, Any]]:
    run = kill_run(root)
    arms = ("queue-on-pvc", "queue-on-emptydir")
    lost = {"status": "FAIL", "reason": "2 mails are gone", "evidence": ["mail 201 to user3@example.org", "mail 202 to user4@example.org"]}
    return run, verdict(run.run_id, arms, status="FAIL", changes={("no-loss", a): lost for a in arms}, expect_fail={"queue-on-emptydir": ["no-loss"]})


def empty(root: Path) -> tuple[RunDir, dict[str, Any]]:
    """A run that ended before its first arm."""
    b = HistoryBuilder(root)
    b.arms.clear()
    run = b.write(seal=False)
    return run, {"run_id": run.run_id, "status": "INCONCLUSIVE", "sentence": "No arm was run.", "exit_code": 9, "verdicts": []}


def blocks(root: Path) -> tuple[RunDir, dict[str, Any]]:
    run = HistoryBuilder(root, blocks=6).write()
    return run, verdict(run.run_id, [f"{a}#{n}" for n in range(1, 7) for a in ("1x", "2x")])


RUNS = [passing, inconclusive, failing, empty, blocks]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each kind of run made once; the report may be written into it any number of times."""
    made: dict[Any, tuple[RunDir, dict[str, Any]]] = {}

    def of(make: Any) -> tuple[RunDir, dict[str, Any]]:
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp("run"))
        return made[make][0], copy.deepcopy(made[make][1])

    return of


@pytest.mark.parametrize("make", RUNS)
def test_the_page_is_well_formed_and_accessible(shared: Any, make: Any):
    text, _, sheet = page_of(*shared(make))
    outline = Outline(text)
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.refs) <= set(outline.ids)
    assert outline.scopeless == 0
    assert outline.counts["table"] == outline.counts["caption"]
    assert outline.counts["h1"] == outline.counts["main"] == 1
    charts = len(sheet.timelines) + bool(sheet.bars) + bool(sheet.ratios)
    assert text.count('role="img"') == charts == text.count("<desc ")
    assert text.count("The same as a table") == charts


@pytest.mark.parametrize("make", RUNS)
def test_the_same_run_gives_the_same_bytes(shared: Any, make: Any):
    run, data = shared(make)
    first = [p.read_bytes() for p in vars(report.write(run.path, data)[0]).values()]
    again = [p.read_bytes() for p in vars(report.write(run.path, data)[0]).values()]
    assert first == again


@pytest.mark.parametrize(("make", "word", "tone"), [(passing, "PASS", "pass"), (inconclusive, "INCONCLUSIVE", "inconclusive"), (failing, "FAIL", "fail")])
def test_the_verdict_stands_on_top_in_word_colour_and_shape(shared: Any, make: Any, word: str, tone: str):
    run, data = shared(make)
    text, paths, sheet = page_of(run, data)
    top = text[text.index("<h1>") : text.index("<h2>")]
    assert f'<section class="verdict t-{tone}"' in top
    assert f'<div class="word">{word}</div>' in top
    assert data["sentence"] in top
    assert {"pass": "<circle", "inconclusive": "<path class=\"shape-fill\" d=\"M12 2.2", "fail": "d=\"M8 2h8"}[tone] in top
    assert f"{word}: " in paths.markdown.read_text().splitlines()[0]
    assert report.summary_lines(sheet)[0].split()[1] == word


def test_the_template_states_no_number_of_its_own():
    text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", TEMPLATE.read_text(), flags=re.S)
    text = re.sub(r"<svg.*?</svg>|<[^>]*>", "", text, flags=re.S)
    assert re.findall(r"\d+", text.replace("sha256:", "")) == []


def test_every_figure_comes_from_the_verdict(shared: Any):
    run, data = shared(passing)
    shown = {}
    for start in (31_001, 52_001):
        for a, arm in enumerate(data["figures"]):
            data["figures"][arm] = {name: start + 50 * a + i for i, name in enumerate(n for n in FIGURES if not n.endswith(("_ms", "_s")))}
        page, paths, _ = page_of(run, data)
        shown[start] = page
        expected = {f"{v:,}".replace(",", "\u202f") for arm in data["figures"].values() for v in arm.values()}
        assert expected <= set(re.findall(r"[\d\u202f]+", page))
        assert expected <= set(re.findall(r"[\d\u202f]+", paths.markdown.read_text()))
    assert "31\u202f0" in shown[31_001]
    assert "31\u202f0" not in shown[52_001]


def test_lost_mails_are_named(shared: Any):
    text, paths, _ = page_of(*shared(failing))
    for name in ("mail 201 to user3@example.org", "mail 202 to user4@example.org"):
        assert name in text
        assert name in "".join(ET.parse(paths.junit).getroot().itertext())


def test_a_planted_failure_is_neither_green_nor_red(shared: Any):
    text, paths, sheet = page_of(*shared(failing))
    assert {r.tone for r in sheet.notable if r.arm == "queue-on-emptydir"} == {"planned"}
    assert "failed as planned" in text
    suites = {s.get("name", "").split()[-1]: s for s in ET.parse(paths.junit).getroot()}
    assert suites["queue-on-emptydir"].get("failures") == "0"
    assert suites["queue-on-pvc"].get("failures") == "1"


def test_a_planted_failure_that_did_not_come_is_red(tmp_path: Path):
    run = kill_run(tmp_path)
    data = verdict(run.run_id, ("queue-on-pvc", "queue-on-emptydir"), status="FAIL", expect_fail={"queue-on-emptydir": ["no-loss"]})
    text, paths, _ = page_of(run, data)
    assert "PASS, should have failed" in text
    assert ET.parse(paths.junit).getroot().get("failures") == "1"


def test_inconclusive_is_an_error_in_junit_never_green(shared: Any):
    _, paths, _ = page_of(*shared(inconclusive))
    root = ET.parse(paths.junit).getroot()
    assert (root.get("errors"), root.get("failures"), root.get("tests")) == ("1", "0", "14")
    assert [e.get("type") for e in root.iter("error")] == ["INCONCLUSIVE"]


def test_the_validity_box_says_what_was_not_recorded(shared: Any):
    _, _, sheet = page_of(*shared(inconclusive))
    answers = {v.question: v for v in sheet.validity}
    assert answers["Was the load real?"].word == "not shown in 2x"
    assert answers["Is the record sealed?"].tone == "inconclusive"
    _, _, nothing = page_of(*shared(empty))
    assert {v.tone for v in nothing.validity if "generator" in v.question or "host" in v.question} == {"inconclusive"}


def test_what_is_left_behind_is_red(tmp_path: Path):
    run = HistoryBuilder(tmp_path, meta={"cleanup": {"complete": False, "left": ["namespace mailgale-x"]}}).write()
    text, _, sheet = page_of(run, verdict(run.run_id))
    assert [v.tone for v in sheet.validity if v.question == "Was everything put back?"] == ["fail"]
    assert "namespace mailgale-x" in text


def test_one_block_says_so_and_one_host_says_so(shared: Any):
    text, _, sheet = page_of(*shared(passing))
    assert any("n=1, no interval" in x for x in sheet.limits)
    assert any("One host: ratios, no capacity claim" in x for x in sheet.limits)
    assert "n=1, no interval" in text


def test_several_blocks_show_median_and_range(shared: Any):
    run, data = shared(blocks)
    for n in range(1, 7):
        data["figures"][f"1x#{n}"]["accepted"] = 100 * n
    text, _, sheet = page_of(run, data)
    row = next(r for r in sheet.arms.rows if r.name == "accepted")
    assert (row.cells[0].text, row.cells[0].range) == ("350", "100 – 600")
    assert not any("n=1" in x for x in sheet.limits)
    assert len(sheet.timelines) == 12
    assert len(text) < 1_500_000


@pytest.mark.slow
def test_a_big_run_stays_small(tmp_path: Path):
    plan = limited_plan()
    run = HistoryBuilder(tmp_path, plan, blocks=6).write()
    text, _, _ = page_of(run, verdict(run.run_id, [f"{a}#{n}" for n in range(1, 7) for a in plan.arm_names]))
    assert len(text.encode()) < 1_500_000


def test_an_interval_of_the_finding_is_drawn(shared: Any):
    run, data = shared(passing)
    data["findings"][0]["figures"] = {"intake_ratio": 2.0, "intake_ratio_low": 1.7, "intake_ratio_high": 2.3}
    text, _, _ = page_of(run, data)
    assert "1.7 – 2.3" in text
    assert 'class="whisker"' in text


@pytest.mark.parametrize("make", RUNS)
def test_the_terminal_summary_fits_one_screen(shared: Any, make: Any):
    _, paths, sheet = page_of(*shared(make))
    lines = report.summary_lines(sheet, paths.html, took_s=754.0)
    assert "this command 12:34 min" in "\n".join(lines)
    assert len(lines) <= 40
    assert all(len(line) <= 100 for line in lines[:-1])
    assert lines[-1].endswith("report.html")
    assert not any("\x1b" in line for line in lines)


def test_the_terminal_summary_fits_with_everything_long(shared: Any):
    run, data = shared(failing)
    data["sentence"] = "a very long sentence " * 60
    data["findings"] *= 20
    for v in data["verdicts"]:
        v.update(status="FAIL", reason="because " * 80)
    for values in data["figures"].values():
        values.update({f"figure_{i}": i for i in range(60)})
    _, paths, sheet = page_of(run, data)
    lines = report.summary_lines(sheet, paths.html)
    assert len(lines) <= 40
    assert all(len(line) <= 100 for line in lines[:-1])
    assert any(line.startswith("Seal") for line in lines)


@pytest.mark.parametrize("spoil", [lambda d: d.pop("status"), lambda d: d.update(status="GREEN"), lambda d: d.update(verdicts=5), lambda d: d.update(figures=[1])])
def test_a_verdict_that_does_not_read_is_refused(shared: Any, spoil: Any):
    run, data = shared(passing)
    spoil(data)
    with pytest.raises(StoreDamaged, match=r"verdict\.json"):
        report.write(run.path, data)


def test_no_run_is_refused(tmp_path: Path):
    with pytest.raises(UsageError):
        report.write(tmp_path, verdict("x"))


def test_a_run_that_ended_early_says_why_and_what_is_left(tmp_path: Path):
    meta = {"cleanup": None, "problem": "namespace mailgale-x is still there", "problem_code": 10}
    run = HistoryBuilder(tmp_path, meta=meta).write()
    _, _, sheet = page_of(run, verdict(run.run_id))
    assert sheet.incidents == ("the run ended before its time: namespace mailgale-x is still there",)
    assert [v.seen for v in sheet.validity if v.question == "Was everything put back?"] == ["left behind: namespace mailgale-x is still there"]


def test_a_run_without_trouble_has_put_everything_back(tmp_path: Path):
    run = HistoryBuilder(tmp_path, meta={"cleanup": None, "problem": "", "problem_code": 0}).write()
    _, _, sheet = page_of(run, verdict(run.run_id))
    assert [v.word for v in sheet.validity if v.question == "Was everything put back?"] == ["yes"]
    assert sheet.incidents == ()


def test_times_are_told_per_arm_and_phase(tmp_path: Path):
    timings = {"setup": 12.5, "images": 3.0, "1-1x/deploy": 40.0, "1-1x/load": 60.0, "1-2x/deploy": 41.0}
    run = HistoryBuilder(tmp_path, meta={"timings_s": {}, "timings": timings}).write()
    text, _, sheet = page_of(run, verdict(run.run_id))
    assert sheet.timings == (("setup", "12.5 s"), ("images", "3 s"), ("arm 1-1x", "1:40 min"), ("arm 1-2x", "41 s"))
    assert sheet.phases is not None
    assert sheet.phases.rows == (("deploy", "40 s", "41 s"), ("load", "1:00 min", "–"))
    assert "Phases of each arm" in text


def test_a_verdict_that_says_a_lot_keeps_the_files_small(shared: Any):
    run, data = shared(blocks)
    for v in data["verdicts"]:
        v.update(status="FAIL", reason="# why " * 400, evidence=["* mail " * 300] * 80)
    _, paths, _ = page_of(run, data)
    assert paths.markdown.stat().st_size < 1 << 20
    assert paths.html.stat().st_size < 3 << 20
    assert "more in the report" in paths.markdown.read_text()

"""The report's DNS section: numbers of the history, in every format; and none of it where DNS was not counted."""

from __future__ import annotations

import json
from pathlib import Path

from harness import report
from harness.judge import judge
from harness.report.terminal import summary_lines
from harness.selftest import dns
from harness.selftest.builder import good_run
from harness.store.run import RunDir


def written(run: RunDir) -> tuple[report.Sheet, str, str]:
    judge(run.path)
    paths, sheet = report.write(run.path, json.loads((run.path / "verdict.json").read_bytes()))
    return sheet, paths.html.read_text(), paths.markdown.read_text()


def test_before_and_after_side_by_side(tmp_path: Path):
    sheet, html, markdown = written(dns.dns_history(tmp_path).write())
    assert sheet.word == "PASS"
    assert sheet.dns is not None
    mails = 2600 / float(sheet.dns.ladder.table.rows[0][1])
    assert sheet.dns.ladder.table.head == ("layer", "ndots-5", "ndots-1")
    assert [r[0] for r in sheet.dns.ladder.table.rows] == ["sent by the mail servers", "reach cluster DNS", "reach unbound", "reach the authoritative server"]
    assert abs(600 / mails - float(sheet.dns.ladder.table.rows[0][2])) < 0.01
    captions = [caption for caption, _ in sheet.dns.tables]
    assert len(captions) == 3
    operations = {row[0]: row[1:] for row in sheet.dns.tables[1][1].rows}
    assert operations["glibc getaddrinfo: look-up, A and AAAA: existing name"] == ("12 (A 12)", "2 (A 2)", "12 and 2")
    assert operations["glibc getaddrinfo: look-up, A and AAAA: missing name"] == ("12 (A 12); no result", "12 (A 12); no result", "")
    assert ("dns", "DNS") in sheet.contents
    assert '<section id="dns">' in html
    assert "## DNS" in markdown
    assert any("DNS queries per mail" in line for line in summary_lines(sheet))


def test_a_residual_and_a_flaw_stand_in_the_tables(tmp_path: Path):
    made = dns.dns_history(tmp_path)
    dns.residual(0.05)(made.arm("ndots-5"))
    made.arm("ndots-5").of(dns.LOG, "dns_look_up")[0]["flaws"] = ["1 packets dropped <by> the kernel"]
    sheet, html, _ = written(made.write())
    assert sheet.dns is not None
    account = {row[0]: row[-1] for row in sheet.dns.tables[2][1].rows}
    assert account["ndots-5: cluster DNS → cluster DNS, upstream"] == "+11 (4.76 %)"
    assert "1 packets dropped &lt;by&gt; the kernel" in html
    assert sheet.word == "INCONCLUSIVE"


def test_no_section_where_dns_was_not_counted(tmp_path: Path):
    sheet, html, markdown = written(good_run(tmp_path))
    assert sheet.dns is None
    assert 'id="dns"' not in html
    assert "## DNS" not in markdown

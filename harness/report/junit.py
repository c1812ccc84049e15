"""``junit.xml``: one suite an arm, one case a check, so that a pipeline shows what it knows how to show.

FAIL is a failure, INCONCLUSIVE an error (never green, never "skipped"); a planted defect that was found is a pass that says so, one
that was not found is a failure. Format: the JUnit schema as Jenkins and GitLab read it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from harness.model.verdict import Status
from harness.report.judged import CheckResult, Judged
from harness.report.text import xml


def render(judged: Judged, *, seed: int) -> str:
    """The XML document."""
    root = ET.Element("testsuites", name=xml(judged.run_id))
    for arm in judged.arms:
        cases = [c for c in judged.checks if c.arm == arm]
        if cases:
            _suite(root, judged, arm, cases, seed)
    _totals(root, list(judged.checks))
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, judged: Judged, arm: str, cases: list[CheckResult], seed: int) -> None:
    suite = ET.SubElement(root, "testsuite", name=xml(f"{judged.run_id} {arm}"))
    _totals(suite, cases)
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="seed", value=str(seed))
    for name, value in judged.figures.get(arm, {}).items():
        ET.SubElement(properties, "property", name=xml(name), value=xml(value))
    for case in cases:
        _case(suite, case)


def _totals(element: ET.Element, cases: list[CheckResult]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(_ending(c) == "failure" for c in cases)))
    element.set("errors", str(sum(_ending(c) == "error" for c in cases)))


def _ending(case: CheckResult) -> str:
    if case.expected:
        return "" if case.status == Status.FAIL else "failure"
    return {Status.PASS: "", Status.FAIL: "failure", Status.INCONCLUSIVE: "error"}[case.status]


def _case(suite: ET.Element, case: CheckResult) -> None:
    element = ET.SubElement(suite, "testcase", classname=xml(f"mailgale.{case.arm}"), name=xml(case.check))
    ending = _ending(case)
    text = xml("\n".join((case.reason, *case.evidence)), lines=True)
    if ending:
        ET.SubElement(element, ending, type=xml(case.word), message=xml(case.reason)).text = text
    else:
        ET.SubElement(element, "system-out").text = xml(f"{case.word}: {case.reason}")

"""``verdict.json`` as the report reads it. The judge writes it; here it is only data, and may be from an older version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import StoreDamaged
from harness.model.verdict import ClaimResult, Status

TONES = {Status.PASS: "pass", Status.INCONCLUSIVE: "inconclusive", Status.FAIL: "fail"}
PLANNED = "failed as planned"


@dataclass(frozen=True)
class CheckResult:
    """One check in one arm. ``expected``: the plan says that it must fail here (a planted defect)."""

    check: str
    arm: str
    status: Status
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    expected: bool = False

    @property
    def tone(self) -> str:
        """CSS name of how it looks: a planned failure that came is neither green nor red."""
        if self.expected:
            return "planned" if self.status == Status.FAIL else "fail"
        return TONES[self.status]

    @property
    def word(self) -> str:
        """The status in words, with what the plan expected."""
        if not self.expected:
            return self.status.name
        return PLANNED if self.status == Status.FAIL else f"{self.status.name}, should have failed"


@dataclass(frozen=True)
class FindingResult:
    """What the run says of one claim."""

    claim: str
    result: ClaimResult
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    conditions: str = ""


@dataclass(frozen=True)
class Judged:
    """The whole verdict. Arms are named ``name`` or, with several blocks, ``name#block``."""

    run_id: str
    status: Status
    sentence: str
    exit_code: int
    checks: tuple[CheckResult, ...]
    findings: tuple[FindingResult, ...]
    figures: Mapping[str, Mapping[str, Any]]

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that was judged or measured, in the judge's order."""
        return tuple(dict.fromkeys((*self.figures, *(c.arm for c in self.checks))))


def read(data: Mapping[str, Any]) -> Judged:
    """The verdict in ``data``.

    :raises StoreDamaged: it is not a verdict: a field is missing or holds something else.
    """
    try:
        expected = _expected(data)
        return Judged(
            run_id=str(data["run_id"]),
            status=Status[str(data["status"])],
            sentence=str(data["sentence"]),
            exit_code=int(data["exit_code"]),
            checks=tuple(_check(c, expected) for c in data["verdicts"]),
            findings=tuple(_finding(f) for f in data.get("findings", ())),
            figures={str(arm): dict(values) for arm, values in data.get("figures", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreDamaged(f"the verdict does not read: {error!r}", where="verdict.json", todo="run 'mailgale judge' again") from error


def _expected(data: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """(arm without block, check) of every planted defect."""
    return frozenset((str(arm), str(check)) for arm, checks in data.get("expect_fail", {}).items() for check in checks)


def _check(item: Mapping[str, Any], expected: frozenset[tuple[str, str]]) -> CheckResult:
    arm = str(item["arm"])
    return CheckResult(
        check=str(item["check"]),
        arm=arm,
        status=Status[str(item["status"])],
        reason=str(item["reason"]),
        figures=dict(item.get("figures", {})),
        evidence=tuple(str(line) for line in item.get("evidence", ())),
        expected=(arm.split("#")[0], str(item["check"])) in expected,
    )


def _finding(item: Mapping[str, Any]) -> FindingResult:
    return FindingResult(
        claim=str(item["claim"]),
        result=ClaimResult[str(item["result"])],
        reason=str(item["reason"]),
        figures=dict(item.get("figures", {})),
        conditions=str(item.get("conditions", "")),
    )

"""The verdict on a whole run, as data: what ``verdict.json`` holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.verdict import Finding, Status, Verdict

EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.INCONCLUSIVE: 5}


@dataclass(frozen=True)
class RunVerdict:
    """What is said of one run.

    :param status: worst of all, planned failures counted as the plan wants them.
    :param sentence: the verdict for a reviewer, in one sentence.
    :param verdicts: every check in every arm, in the run's order.
    :param figures: arm's label → figure → value.
    :param expect_fail: arm → checks that must fail there (planted defects).
    """

    run_id: str
    status: Status
    sentence: str
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    figures: Mapping[str, Mapping[str, Any]]
    expect_fail: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 criteria failed, 5 inconclusive."""
        return EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """The content of ``verdict.json``."""
        return {
            "run_id": self.run_id, "status": self.status.name, "sentence": self.sentence, "exit_code": self.exit_code,
            "verdicts": [
                {"check": v.check, "arm": v.arm, "status": v.status.name, "reason": v.reason, "figures": dict(v.figures), "evidence": list(v.evidence)}
                for v in self.verdicts
            ],
            "findings": [
                {"claim": f.claim, "result": f.result.name, "reason": f.reason, "figures": dict(f.figures), "conditions": f.conditions}
                for f in self.findings
            ],
            "figures": {arm: dict(values) for arm, values in self.figures.items()},
            "expect_fail": {arm: list(checks) for arm, checks in self.expect_fail.items()},
        }  # fmt: skip

    def to_bytes(self) -> bytes:
        """``verdict.json``: the same run gives the same bytes."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"

"""A rolling drain is held to what a drain is: no pod of an emptied node may still be there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.checks import faults_happened
from harness.model.verdict import Status
from harness.selftest.builder import HistoryBuilder
from harness.selftest.friday import drain_plan, plant_drain
from harness.store.history import load


@pytest.mark.parametrize(("skipped", "status"), [(False, Status.PASS), (True, Status.INCONCLUSIVE)])
def test_a_pod_that_was_skipped_is_found(tmp_path: Path, skipped: bool, status: Status):
    plan = drain_plan()
    b = HistoryBuilder(tmp_path, replace(plan, faults=tuple(replace(f, kind="rolling_drain") for f in plan.faults)))
    b.arms = b.arms[:1]
    plant_drain(b.arms[0])
    if skipped:  # planted: the action says that all went well, and a pod is where it was
        before, after = (b.arms[0].of("conductor.log", kind)[0]["pods"] for kind in ("pods_at_start", "pods_at_end"))
        for there, now in zip(before, after, strict=True):
            if there["node"] == "worker":
                now.update(node="worker", uid=there["uid"])
    with load(b.write()) as history:
        found = faults_happened.check(history.arms[0], {"attempts_min": 1.0})
    assert found.status == status, found.reason
    assert not skipped or "never left it" in found.reason

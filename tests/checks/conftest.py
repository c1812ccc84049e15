"""Spoilt histories, judged by one check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checks import (
    all_accepted,
    availability,
    delivery_latency,
    evidence_complete,
    faults_happened,
    integrity,
    load_was_real,
    mailbox_state,
    no_failed_sessions,
    no_loss,
    no_unexplained_duplicates,
    queue_drained,
    rate_control,
    ready_throughout,
)
from harness.model.verdict import Verdict
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import kill_plan, limited_plan, plant_kill
from harness.store.history import load

MODULES = {
    m.__name__.rpartition(".")[2].replace("_", "-"): m
    for m in (
        all_accepted, availability, delivery_latency, evidence_complete, faults_happened, integrity, load_was_real, mailbox_state,
        no_failed_sessions, no_loss, no_unexplained_duplicates, queue_drained, rate_control, ready_throughout,
    )
}
Judge = Callable[..., Verdict]


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    """``judged(check, spoil, arm="1x", **limits)``: the verdict of one check on one arm after ``spoil(arm)``."""

    def run(check: str, spoil: Callable[[ArmBuilder], object] = lambda arm: None, *, arm: str = "1x", **limits: float) -> Verdict:
        plan = kill_plan() if arm.startswith("queue-on") else limited_plan()
        b = HistoryBuilder(tmp_path, plan)
        b.arms = [a for a in b.arms if a.name == arm]
        if arm.startswith("queue-on"):
            plant_kill(b.arms[0])
        spoil(b.arms[0])
        module = MODULES[check]
        given = {k: v for k, v in {**module.LIMITS, "p99_ms_max": 60000.0, **limits}.items() if k in module.LIMITS and v is not None}
        with load(b.write()) as history:
            return module.check(history.arms[0], given)

    return run

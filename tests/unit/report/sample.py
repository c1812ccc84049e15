"""Verdicts as the judge writes them, for runs of harness.selftest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FIGURES: dict[str, Any] = {
    "offered": 500, "accepted": 498, "delivered": 498, "queued": 0, "lost": 0, "duplicated": 0, "corrupted": 0, "undetermined": 0,
    "deferred": 320, "intake_per_s": 19.8, "goodput_per_s": 11.9, "p50_ms": 410.0, "p99_ms": 2210.5, "drain_s": 21.4,
}
CHECKS = ("evidence-complete", "load-was-real", "faults-happened", "no-loss", "no-unexplained-duplicates", "integrity", "queue-drained")


def verdict_of(check: str, arm: str, status: str = "PASS", **more: Any) -> dict[str, Any]:
    """One check's verdict."""
    return {"check": check, "arm": arm, "status": status, "reason": f"{check} says {status}", "figures": {}, "evidence": [], **more}


def verdict(
    run_id: str, arms: Iterable[str] = ("1x", "2x"), *, status: str = "PASS", changes: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A whole ``verdict.json``. ``changes``: (check, arm) → what is other than a plain pass."""
    changes = changes or {}
    verdicts = [verdict_of(c, a, **changes.get((c, a), {})) for a in arms for c in CHECKS]
    codes = {"PASS": 0, "INCONCLUSIVE": 5, "FAIL": 1}
    sentences = {
        "PASS": "No acknowledged mail was lost in any arm; rate control held.",
        "INCONCLUSIVE": "Nothing can be said: the generator fell behind its schedule in arm 2x.",
        "FAIL": "1 acknowledged mail was lost in arm 1x.",
    }
    finding = {
        "claim": "T15", "result": "UNDECIDED", "conditions": "one block",
        "reason": "doubling the mx pods took in 1.98 times the mail and delivered 1.02 times as much; n=1, no interval",
        "figures": {"intake_ratio": 1.98, "goodput_ratio": 1.02},
    }
    return {
        "run_id": run_id, "status": status, "sentence": sentences[status], "exit_code": codes[status], "verdicts": verdicts,
        "findings": [finding], "figures": {a: {**FIGURES} for a in arms}, "expect_fail": {}, **more,
    }

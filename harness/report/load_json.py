"""What a load against endpoints found, as one JSON object: the answer of ``mailgale load -o json``.

Counts are per mail and recipient. What could not be known is ``null``: without a reader nobody knows what was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.model.outcome import Deferral, Outcome, Stage
from harness.store.history import SECOND, ArmHistory, RunHistory

SCHEMA = "mailgale-load/1"
_FATES = ("lost", "duplicated", "corrupted", "misdelivered")
_QUANTILES = ("count", "fails", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99.9_ms", "max_ms")
_LAG = "schedule lag"


def load_json(history: RunHistory, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The object for a run of one arm.

    :param verdict: the content of ``verdict.json``.
    """
    head = {
        "schema": SCHEMA, "run": str(history.run.path), "status": verdict["status"], "sentence": verdict["sentence"],
        "exit_code": verdict["exit_code"], "scenario": history.plan.load.scenario, "seed": history.plan.seed,
    }
    if not history.arms:
        return head
    arm = history.arms[0]
    end = next(iter(arm.events("load_end")), {})
    return {**head, **_counts(arm, next(iter(verdict["figures"].values()), {})), **_times(end), **_cost(arm, end)}


def _counts(arm: ArmHistory, figures: Mapping[str, Any]) -> dict[str, Any]:
    read = not arm.lacks("readers") and bool(arm.events("scope"))
    unknown = int(figures.get("in_doubt", 0)) + (int(figures.get("undetermined", 0)) if read else 0)
    return {
        "offered": figures.get("offered"), "attempted": figures.get("attempts"), "accepted": figures.get("accepted"),
        "deferred": _deferred(arm), "rejected": figures.get("refused"), "undetermined": unknown,
        **{name: figures.get(name) if read else None for name in _FATES},
        "delivered": figures.get("delivered") if read else None,
        "not_accepted": figures.get("never_accepted", 0) + figures.get("refused", 0) + figures.get("in_doubt", 0),
    }


def _deferred(arm: ArmHistory) -> dict[str, Any]:
    """Attempts that a 4xx reply ended: all, by class, and by class, stage and code (``system/rcpt/451 4.3.0``)."""
    rows = arm.sql(
        f"SELECT deferral, stage, code, enhanced, count(*) FROM dones WHERE outcome = {int(Outcome.FAIL)} AND code BETWEEN 400 AND 499"
        " GROUP BY ALL ORDER BY ALL"
    )
    by_class: dict[str, int] = {}
    by_code: dict[str, int] = {}
    for deferral, stage, code, enhanced, n in rows:
        kind = (Deferral(deferral) or Deferral.SYSTEM).name.lower()
        by_class[kind] = by_class.get(kind, 0) + int(n)
        place = f"{kind}/{Stage(stage).name.lower()}/{code}{_dotted(int(enhanced))}"
        by_code[place] = by_code.get(place, 0) + int(n)
    return {"total": sum(by_class.values()), "by_class": by_class, "by_code": by_code}


def _dotted(packed: int) -> str:
    """40701 → `` 4.7.1``; "" for none."""
    return f" {packed // 10000}.{packed // 100 % 100}.{packed % 100}" if packed else ""


def _times(end: Mapping[str, Any]) -> dict[str, Any]:
    steps: Mapping[str, Mapping[str, Any]] = end.get("steps") or {}
    shown = {name: {k: step[k] for k in _QUANTILES if k in step} for name, step in steps.items()}
    lag = shown.pop(_LAG, None)
    return {"latency": shown, "schedule_lag": lag}


def _cost(arm: ArmHistory, end: Mapping[str, Any]) -> dict[str, Any]:
    """What the load took and what it cost the generator. A mail counts once, whatever its recipients."""
    mails = int(arm.one(f"SELECT count(DISTINCT mail) FROM dones WHERE outcome = {int(Outcome.OK)}"))
    first, last = arm.sql(
        f"SELECT (SELECT min(t) FROM invokes), (SELECT max(t) FROM dones WHERE outcome = {int(Outcome.OK)})"
    )[0]
    seconds = (int(last) - int(first)) / SECOND if first is not None and last is not None else None
    cpu = end.get("load_cpu_s")
    return {
        "load_s": round(seconds, 3) if seconds is not None else None,
        "mails_per_s": round(mails / seconds, 1) if seconds else None,
        "client_cpu_s": cpu, "mails_per_client_cpu_s": round(mails / cpu, 1) if cpu else None,
        "peak_rss_bytes": end.get("peak_rss_bytes"), "end": end.get("reason"),
        "readers": bool(arm.one("SELECT count(*) FROM userops")),
    }

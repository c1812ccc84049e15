"""Pods that nobody hurts stay ready: a fault of a shared dependency takes no other component out of service (T17).

Looked at while a fault lasts and ``grace_s`` after it. A pod counts when it was there before the load, ready when the fault began, not a target and not of the
component that was hit, and was then seen not ready while it lived, or restarted.

Limits: ``unready_max`` pods; ``grace_s`` seconds. Without a fault on record INCONCLUSIVE. Known limits: as fine as the observer's watch; a pod
that is deleted is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import faults_begun, plural, verdict
from harness.checks.outages import windows
from harness.model.verdict import Status, Verdict
from harness.store.history import SECOND, ArmHistory, Event

LIMITS: dict[str, float | None] = {"unready_max": 0, "grace_s": 10}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the pods that a fault elsewhere took out."""
    begun = faults_begun(arm)
    if not begun:
        return verdict(arm, "ready-throughout", Status.INCONCLUSIVE, "no fault is on record, so nothing was asked of readiness")
    there = {str(p.get("name")) for e in arm.events("pods_at_start") for p in e.get("pods") or ()}
    pods = [e for e in arm.events("pod") if e.get("pod") in there]
    if not pods:
        return verdict(arm, "ready-throughout", Status.INCONCLUSIVE, "no pod was watched")
    lost = {
        name: text
        for begin, span in zip(begun, windows(arm, limits["grace_s"]), strict=True)
        for name, text in _lost(pods, int(begin["t"]), span.end, _hit(arm, begin))
    }
    watched = {str(e.get("pod")) for e in pods}
    figures = {"watched": len(watched), "unready": len(lost)}
    if len(lost) > limits["unready_max"]:
        reason = f"{plural(len(lost), 'pod')} that no fault aimed at went out of service: {', '.join(sorted(lost)[:3])}"
        return verdict(arm, "ready-throughout", Status.FAIL, reason, figures, [lost[k] for k in sorted(lost)])
    return verdict(arm, "ready-throughout", Status.PASS, f"every pod that no fault aimed at stayed ready, of {len(watched)} watched", figures)


def _hit(arm: ArmHistory, begin: Event) -> set[str]:
    """Names and components that the fault meant."""
    meant = {str(t).rpartition("/")[2] for t in begin.get("targets") or ()}
    return meant | {str(f.target.get("component")) for f in arm.plan.faults if f.name == begin.get("name")}


def _lost(pods: list[Event], begin: int, end: int, hit: set[str]) -> list[tuple[str, str]]:
    found = []
    for name in sorted({str(e.get("pod")) for e in pods}):
        mine = [e for e in pods if e.get("pod") == name]
        before = next((e for e in reversed(mine) if e["t"] <= begin), None)
        if before is None or not before.get("ready") or name in hit or before.get("component") in hit:
            continue
        for e in (e for e in mine if begin < e["t"] <= end and e.get("uid") == before.get("uid")):
            restarted = int(e.get("restarts") or 0) > int(before.get("restarts") or 0)
            if restarted or not e.get("ready"):
                found.append((name, f"{name} {'restarted' if restarted else 'not ready'} {(e['t'] - begin) / SECOND:.1f} s after the fault's begin"))
                break
    return found

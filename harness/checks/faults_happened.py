"""Every planned fault took place on the cluster, inside the load, and ended.

Asks of each fault of the arm: a begin during burst or tail, targets, evidence from the cluster, an end, an undo where one is on record as
due, no failure; and attempts while it lasted. For faults that replace pods the samplers' own view must agree: a UID of the victim that was
not there before; and of a drain, that no pod of the node stayed (those of a DaemonSet do). Never FAIL: a fault that did nothing shows
nothing. An arm without planned faults passes when none struck.

Limits: ``attempts_min`` attempts between the fault's begin and its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checks.common import verdict
from harness.model.plan import FaultSpec
from harness.model.verdict import Status, Verdict
from harness.store.history import SECOND, ArmHistory
from harness.store.spans import load_span

LIMITS: dict[str, float | None] = {"attempts_min": 1}
#: Kinds that replace their victims: the pod comes back with another UID.
REPLACING = frozenset({"kill_pod", "drain", "rolling_drain", "rolling_restart", "attach_refused"})
#: Those after which no pod that was on a victim may still be there.
DRAINS = frozenset({"drain", "rolling_drain"})


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE, with what was not shown."""
    planned = [f for f in arm.plan.faults if not f.arms or arm.name in f.arms]
    names = {f.name for f in planned}
    problems = [f"{f.name}: {text}" for f in planned for text in _problems(arm, f, limits)]
    strangers = sorted({str(e.get("name")) for e in arm.events("fault") if e.get("edge") == "begin"} - names)
    problems += [f"{name}: struck this arm without having been planned" for name in strangers]
    figures = {"planned": len(planned), "shown": len(planned) - len({p.split(":")[0] for p in problems} & names)}
    if problems:
        return verdict(arm, "faults-happened", Status.INCONCLUSIVE, "; ".join(problems[:3]), figures, problems)
    return verdict(arm, "faults-happened", Status.PASS, _well(arm, planned), figures)


def _well(arm: ArmHistory, planned: list[FaultSpec]) -> str:
    if not planned:
        return "none was planned, none struck"
    targets = sorted({str(t) for e in arm.events("fault") for t in e.get("targets") or ()})
    return f"{', '.join(f.name for f in planned)} seen on the cluster inside the load, against {', '.join(targets)}"


def _problems(arm: ArmHistory, fault: FaultSpec, limits: Mapping[str, float]) -> list[str]:
    mine = [e for e in arm.events("fault") if e.get("name") == fault.name]
    edges = {str(e.get("edge")): e for e in mine}
    if "failed" in edges:
        return [f"failed ({_why(edges['failed'])})"]
    missing = [edge for edge in ("begin", "evidence", "end", "undone") if edge not in edges]
    if missing:
        return [f"no '{edge}' on record" for edge in missing]
    begin, evidence, end = edges["begin"], edges["evidence"], edges["end"]
    found = [] if evidence.get("detail") else ["its evidence is empty"]
    found += [] if evidence.get("targets") or begin.get("targets") else ["it had no target"]
    span = load_span(arm)
    if span is None or not span.begin <= begin["t"] <= span.end:
        found.append("began outside the load")
    attempts = int(arm.one("SELECT count(*) FROM invokes WHERE t BETWEEN ? AND ?", [begin["t"], max(int(end["t"]), begin["t"] + SECOND)]))
    if attempts < limits["attempts_min"]:
        found.append(f"only {attempts} attempts while it lasted")
    found += _unreplaced(arm, evidence, begin) if fault.kind in REPLACING else []
    return found + (_skipped(arm, begin) if fault.kind in DRAINS else [])


def _why(event: Mapping[str, Any]) -> str:
    detail = event.get("detail")
    return str(detail.get("why") or detail.get("error") or detail)[:200] if isinstance(detail, Mapping) else str(detail)[:200]


def _skipped(arm: ArmHistory, begin: Mapping[str, Any]) -> list[str]:
    """Pods that were on a drained node before the load and are there still, whatever the action says of them; DaemonSets stay."""
    nodes = {str(t) for t in begin.get("targets") or ()}
    left = {(str(p.get("name")), str(p.get("uid"))) for e in arm.events("pods_at_end") for p in e.get("pods") or () if p.get("node") in nodes}
    there = [p for e in arm.events("pods_at_start") for p in e.get("pods") or () if p.get("node") in nodes and not p.get("daemonset")]
    names = sorted(str(p.get("name")) for p in there if (str(p.get("name")), str(p.get("uid"))) in left)
    return [f"{name} was on the node and never left it" for name in names]


def _unreplaced(arm: ArmHistory, evidence: Mapping[str, Any], begun: Mapping[str, Any]) -> list[str]:
    """Victims that the samplers saw with the same UID before and after, or not at all."""
    found, begin = [], int(begun["t"])
    for name in _victims(evidence):
        before = {uid for t, uid in _uids(arm, name) if t < begin}
        after = {uid for t, uid in _uids(arm, name) if t >= begin}
        gone = name not in _names(arm, "pods_at_end")
        if not before:
            found.append(f"the samplers did not see {name} before it")
        elif not (after - before or gone):
            found.append(f"{name} has the same UID before and after: nothing happened to it")
    return found


def _victims(evidence: Mapping[str, Any]) -> list[str]:
    """The pods that were to be replaced: of a drain those that its evidence lists, else the targets."""
    left = (evidence.get("detail") or {}).get("left")
    return sorted(left) if isinstance(left, Mapping) else [str(t).rpartition("/")[2] for t in evidence.get("targets") or ()]


def _names(arm: ArmHistory, kind: str) -> set[str]:
    return {str(p.get("name")) for e in arm.events(kind) for p in e.get("pods") or ()}


def _uids(arm: ArmHistory, pod: str) -> list[tuple[int, str]]:
    """(t, UID) of ``pod`` by whoever saw it."""
    seen = [(int(e["t"]), str(e.get("uid"))) for e in arm.events("pod") if e.get("pod") == pod]
    for kind in ("pods_at_start", "pods_at_end"):
        seen += [(int(e["t"]), str(p.get("uid"))) for e in arm.events(kind) for p in e.get("pods") or () if p.get("name") == pod]
    return seen

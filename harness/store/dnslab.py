"""An arm of the DNS laboratory read back: its cells with their steps, knees, and what the sensors saw meanwhile.

Times are those of the record; a query counts for the step in which it was due, once the step's warm-up is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.model.dnslab import OK, Cell, LabLoad
from harness.model.knee import Knee, Step, dispersion, find_knee
from harness.model.plan import Plan

Event = dict[str, Any]


class DnsArm(Protocol):
    """What is read of an arm: ``store.history.ArmHistory`` has it."""

    @property
    def name(self) -> str: ...

    @property
    def block(self) -> int: ...

    @property
    def plan(self) -> Plan: ...

    def events(self, kind: str) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class StepSeen:
    """One rate of a cell. ``how``: letter of ``model.dnslab`` → queries that count; ``took_ms`` of the answered ones, sorted."""

    number: int
    per_s: float
    begin: int
    end: int
    how: Mapping[str, int]
    took_ms: tuple[float, ...]
    dispersion: float

    @property
    def sent(self) -> int:
        return sum(self.how.values())

    @property
    def failed(self) -> int:
        return self.sent - self.how.get(OK, 0)

    @property
    def failed_share(self) -> float:
        return self.failed / self.sent if self.sent else 0.0

    def quantile_ms(self, share: float) -> float | None:
        """By nearest rank; None where nothing was answered."""
        return self.took_ms[min(len(self.took_ms) - 1, int(share * len(self.took_ms)))] if self.took_ms else None


@dataclass(frozen=True)
class CellSeen:
    """One staircase, with the sensors' peaks while it lasted.

    :param whole: it came to its end.
    :param knee: None where no query counts.
    :param slots_max: TCP slots of unbound in use; ``waiting_max``: connections that waited to be accepted.
    :param asked: queries that the generator sent, warm-up included; ``reached``: that unbound got, over ``reached_tcp`` by TCP.
    :param opened: connections that the caches opened to unbound; ``reused``: queries that found one open.
    """

    cell: Cell
    steps: tuple[StepSeen, ...]
    knee: Knee | None
    whole: bool
    slots_max: int = 0
    slots_by_thread: tuple[int, ...] = ()
    waiting_max: int = 0
    overflows: int = 0
    servfail: int = 0
    asked: int = 0
    reached: int = 0
    reached_tcp: int = 0
    opened: int = 0
    reused: int = 0

    @property
    def amplification(self) -> float | None:
        """Queries at unbound for one that was sent."""
        return self.reached / self.asked if self.asked and self.reached else None


@dataclass(frozen=True)
class Settings:
    """unbound as it ran."""

    version: str = ""
    threads: int = 0
    incoming_num_tcp: int = 0

    @property
    def slots(self) -> int:
        """Of all threads together."""
        return self.threads * self.incoming_num_tcp


@dataclass
class _Collected:
    """Everything of one cell, on the way."""

    begin: int
    cell: Cell
    end: int = 0
    steps: list[Event] = field(default_factory=list)
    queries: list[Event] = field(default_factory=list)


def settings(arm: DnsArm) -> Settings:
    """What unbound said of itself; zeros where it is not on record."""
    for e in arm.events("dns_settings"):
        return Settings(str(e.get("version", "")), int(e.get("threads", 0)), int(e.get("incoming_num_tcp", 0)))
    return Settings()


def cells(arm: DnsArm) -> tuple[CellSeen, ...]:
    """Every cell of ``arm`` that began, in the plan's order."""
    load = LabLoad.of(arm.plan.load.params)
    found = {c.cell.name: _seen(arm, load, c) for c in _collected(arm, load)}
    return tuple(found[c.name] for c in load.cells if c.name in found)


def account(arm: DnsArm) -> dict[str, int]:
    """Differences of the two accounts: ``caches`` got so many queries, ``resolver`` so many, ``resolver_tcp`` of them over TCP."""
    before, after = ({str(e["where"]): e for e in arm.events("dns_account") if e["log"] == log} for log in ("account.log", "census.log"))
    both = sorted(set(before) & set(after))
    caches = sum(_grew(before[w], after[w], "requests") for w in both if w != "resolver")
    if "resolver" not in both:
        return {"caches": caches, "places": len(both)}
    grew = {name: _grew(before["resolver"], after["resolver"], key) for name, key in (("resolver", "queries"), ("resolver_tcp", "queries_tcp"))}
    return {"caches": caches, "places": len(both), **grew}


def asked(arm: DnsArm) -> int:
    """Queries that the generator sent, by its own last word."""
    return max((int(e.get("offered") or 0) for kind in ("load_state", "load_end") for e in arm.events(kind)), default=0)


def _grew(before: Event, after: Event, key: str) -> int:
    return int(after.get(key) or 0) - int(before.get(key) or 0)


def _collected(arm: DnsArm, load: LabLoad) -> list[_Collected]:
    known = {c.name: c for c in load.cells}
    open_: dict[str, _Collected] = {}
    for e in arm.events("dns_cell"):
        name = str(e.get("cell"))
        if e.get("edge") == "begin" and name in known:
            open_[name] = _Collected(int(e["t"]), known[name])
        elif name in open_:
            open_[name].end = int(e["t"])
    for kind in ("dns_step", "dns_queries"):
        for e in arm.events(kind):
            if (one := open_.get(str(e.get("cell")))) is not None:
                (one.steps if kind == "dns_step" else one.queries).append(e)
    return list(open_.values())


def _seen(arm: DnsArm, load: LabLoad, one: _Collected) -> CellSeen:
    steps = tuple(s for s in (_step(one, e) for e in one.steps if e.get("edge") == "begin") if s is not None)
    last = one.end or max((s.end for s in steps), default=one.begin)
    knee = find_knee(
        (Step(s.per_s, s.sent, s.failed, s.dispersion) for s in steps), share=load.fail_share, seed=f"{arm.plan.seed}/{arm.block}/{arm.name}/{one.cell.name}"
    )
    return CellSeen(
        one.cell, steps, knee, bool(one.end), **_resolver(arm, one.begin, last), **_caches(arm, one.begin, last),
        asked=sum(len(str(e.get("how", ""))) for e in one.queries),
    )


def _step(one: _Collected, begun: Event) -> StepSeen | None:
    """A step that came to its end."""
    number = begun.get("step")
    end = next((e for e in one.steps if e.get("edge") == "end" and e.get("step") == number), None)
    if end is None:
        return None
    warm_ms = float(begun.get("warm_s") or 0) * 1000
    rows = [row for e in one.queries if e.get("step") == number for row in zip(e["due_ms"], e["took_ms"], str(e["how"]), strict=False)]
    rows = [(due, took, how) for due, took, how in rows if due >= warm_ms]
    seconds: Counter[int] = Counter(int(due // 1000) for due, _, how in rows if how != OK)
    spread = [seconds[s] for s in range(int(warm_ms // 1000), int(max((due for due, _, _ in rows), default=0) // 1000) + 1)]
    return StepSeen(
        int(number or 0), float(begun["per_s"]), int(begun["t"]), int(end["t"]), Counter(how for _, _, how in rows),
        tuple(sorted(took for _, took, how in rows if how == OK)), dispersion(spread),
    )


def _resolver(arm: DnsArm, begin: int, end: int) -> dict[str, Any]:
    """Peaks of unbound's gauges, and what its counters grew by, from the last sample before to the first behind."""
    samples = arm.events("dns_resolver")
    inside = [e for e in samples if begin <= int(e["t"]) <= end]
    if not inside:
        return {}
    first = next((e for e in reversed(samples) if int(e["t"]) <= begin), inside[0])
    last = next((e for e in samples if int(e["t"]) >= end), inside[-1])
    threads = zip(*(e.get("slots_by_thread") or () for e in inside), strict=False)
    grew = {name: _grew(first, last, key) for name, key in (
        ("reached", "queries"), ("reached_tcp", "queries_tcp"), ("overflows", "listen_overflows"), ("servfail", "servfail"))}
    return {
        "slots_max": max(int(e.get("slots") or 0) for e in inside), "slots_by_thread": tuple(max(map(int, t)) for t in threads),
        "waiting_max": max(int(e.get("recv_q") or 0) for e in inside), **grew,
    }


def _caches(arm: DnsArm, begin: int, end: int) -> dict[str, Any]:
    """What the caches' counters of connections grew by. A cache is looked at every few seconds, so the edges are not sharp."""
    by_pod: dict[str, list[Event]] = {}
    for e in arm.events("dns_cache"):
        by_pod.setdefault(str(e.get("pod")), []).append(e)
    opened = reused = 0
    for samples in by_pod.values():
        first = next((e for e in reversed(samples) if int(e["t"]) <= begin), samples[0])
        last = next((e for e in samples if int(e["t"]) >= end), samples[-1])
        opened += sum(_grew(first, last, f"opened_{way}") for way in ("tcp", "udp"))
        reused += sum(_grew(first, last, f"reused_{way}") for way in ("tcp", "udp"))
    return {"opened": opened, "reused": reused}


def knees_by_key(arms: Sequence[DnsArm]) -> dict[tuple[int, str], list[tuple[DnsArm, CellSeen]]]:
    """(block, cell's key) → every arm that has it, so that like is compared with like."""
    found: dict[tuple[int, str], list[tuple[DnsArm, CellSeen]]] = {}
    for arm in arms:
        for cell in cells(arm):
            found.setdefault((arm.block, cell.cell.key), []).append((arm, cell))
    return found

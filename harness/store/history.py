"""A finished run read back for judging: per arm its tables (DuckDB over numpy), events, phases and damages. Needs no cluster.

    with load(RunDir.open(path)) as run:
        for arm in run.arms:
            arm.sql("SELECT count(*) FROM dones WHERE outcome = 1")

Tables: ``offers``, ``invokes``, ``dones``, ``userops`` (columns as in ``store.ops``; ``sha`` as ``sha_lo``, ``sha_hi``),
``copies``, ``scopes`` (as in DESIGN.md; ``where`` is called ``place``), ``recipients``, ``senders``, ``sights``, ``expunged``,
``flagged``, ``faults``, and after :meth:`ArmHistory.fates` also ``fates`` and ``strays``. Columnar: 10 million mails fit into 2 GB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.errors import StoreDamaged
from harness.model.plan import Arm, Plan
from harness.store.copies import CopyFeed
from harness.store.log import Damage
from harness.store.reader import Directory, LogContent, read_log
from harness.store.run import ArmDir, RunDir
from harness.store.tables import Tables

if TYPE_CHECKING:
    from harness.store.fates import Fates

SECOND = 1_000_000_000
Event = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A stretch of time on the run's clock, in ns."""

    begin: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / SECOND


@dataclass
class ArmHistory:
    """One arm in one block, as far as its files read."""

    run_id: str
    plan: Plan
    plan_arm: Arm
    dir: ArmDir
    blocks: int
    tables: Tables
    logs: Mapping[str, LogContent]
    damages: tuple[Damage, ...] = ()
    _by_kind: dict[str, list[Event]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plan_arm.name

    @property
    def block(self) -> int:
        return self.dir.block

    @property
    def label(self) -> str:
        """The arm's name, with ``#block`` when there is more than one block."""
        return f"{self.name}#{self.block}" if self.blocks > 1 else self.name

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of ``query``. Give it an ORDER BY wherever order matters: judging twice must give the same bytes."""
        return self.tables.con.execute(query, list(parameters)).fetchall()

    def one(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row of ``query``."""
        return self.sql(query, parameters)[0][0]

    def events(self, kind: str) -> list[Event]:
        """Every event of ``kind`` from all logs of the arm, by time; ``log`` says which file it stood in."""
        return self._by_kind.get(kind, [])

    def load_states(self) -> dict[str, list[Event]]:
        """``load_state`` of each engine, by its log: they share a load, and each tells of its own part."""
        found: dict[str, list[Event]] = {}
        for event in self.events("load_state"):
            found.setdefault(str(event["log"]), []).append(event)
        return found

    def lacks(self, what: str) -> bool:
        """Whether the conductor said that the target has no ``what`` (``queues``, ``faults``)."""
        return any(e.get("what") == what for e in self.events("not_supported"))

    def phase(self, name: str) -> tuple[int, int] | None:
        """(begin, end) of the conductor's phase ``name`` in ns; None when either edge is not on record."""
        edges = {e.get("edge"): e["t"] for e in self.events("phase") if e.get("name") == name}
        return (edges["begin"], edges["end"]) if {"begin", "end"} <= set(edges) else None

    def load_phase(self, *names: str) -> Span | None:
        """The stretch in which ``load_state`` said one of ``names`` (``warmup``, ``burst``, ``tail``, ``watch``); None = never."""
        times = [e["t"] for e in self.events("load_state") if e.get("phase") in names]
        return Span(min(times), max(times)) if times else None

    @property
    def judged(self) -> Span | None:
        """The load without its warm-up."""
        return self.load_phase("burst", "tail")

    @property
    def writers_closed(self) -> frozenset[str]:
        """Logs that read whole and end with ``log_closed``."""
        return frozenset(n for n, content in self.logs.items() if content.closed)

    @property
    def expected_writers(self) -> tuple[str, ...]:
        """Logs that the conductor said this arm must hold; () when it did not say."""
        return tuple(sorted({str(n) for e in self.events("expected_writers") for n in e.get("names", ())}))

    def fates(self) -> Fates:
        """The final state of every mail and recipient; worked out once (see ``store.fates``)."""
        return self._fates

    @cached_property
    def _fates(self) -> Fates:
        from harness.store.fates import settle

        return settle(self)


@dataclass
class RunHistory:
    """A run read back. Close it, or use it in a ``with``, to give its scratch space back."""

    run: RunDir
    plan: Plan
    arms: tuple[ArmHistory, ...]
    damages: tuple[Damage, ...]
    events: tuple[Event, ...]
    _scratch: tempfile.TemporaryDirectory[str]

    @property
    def missing_arms(self) -> tuple[str, ...]:
        """Arms that were to run and of which there is nothing, as ``<block>-<arm>``."""
        there = {(a.block, a.name) for a in self.arms}
        return tuple(f"{block}-{name}" for block, name in self.run.planned_arms if (block, name) not in there)

    def close(self) -> None:
        for arm in self.arms:
            arm.tables.con.close()
        self._scratch.cleanup()

    def __enter__(self) -> RunHistory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def load(run: RunDir) -> RunHistory:
    """Read ``run`` back. Damage does not stop it: it is listed, and the checks see what is missing.

    :raises StoreDamaged: ``run.json`` does not read, or an arm's directory is none of the plan's.
    """
    scratch = tempfile.TemporaryDirectory(prefix="mailgale-judge-")
    plan = run.plan
    blocks = max((block for block, _ in run.planned_arms), default=1)
    arms = tuple(_arm(run, plan, blocks, d, Path(scratch.name)) for d in run.arm_dirs())
    events, damages = _own_logs(run, Path(scratch.name))
    return RunHistory(run, plan, arms, (*run.verify(), *damages), events, scratch)


def _own_logs(run: RunDir, scratch: Path) -> tuple[tuple[Event, ...], tuple[Damage, ...]]:
    """The conductor's events of all sessions. That a session was cut off is no damage where another took over: run.json tells of it."""
    events: list[Event] = []
    damages: list[Damage] = []
    for path in run.conductor_logs:
        found = _own_log(path, scratch)
        events += found.events
        damages += [d for d in found.damages if path == run.conductor_log or not d.what.startswith(_CUT)]
    return tuple(events), tuple(damages)


#: How the damage of a log begins whose writer was killed: its end is missing, and nothing else.
_CUT = ("cut off", "not closed", "missing")


def _own_log(path: Path, scratch: Path) -> LogContent:
    if not path.is_file():
        return LogContent(path.name, damages=[Damage(path.name, 0, "missing")])
    with (scratch / "none").open("wb") as copies:
        content = read_log(path, Directory(), lambda *_: None, copies)
    if not content.closed:
        content.damages.append(Damage(path.name, 0, "not closed: its writer did not come to its end"))
    return content


def _arm(run: RunDir, plan: Plan, blocks: int, where: ArmDir, scratch: Path) -> ArmHistory:
    if where.name not in plan.arm_names:
        raise StoreDamaged(f"the plan has no arm '{where.name}'", where=str(where.path))
    directory, tables = Directory(), Tables(scratch)
    copies = CopyFeed(tables, scratch, where.label)
    logs = {path.name: read_log(path, directory, tables.add_rows, copies) for path in sorted(where.path.glob("*.log"))}
    damages = [*(d for content in logs.values() for d in content.damages), *copies.close()]
    arm = ArmHistory(run.run_id, plan, plan.arm(where.name), where, blocks, tables, logs, tuple(damages), _kinds(logs))
    _fill(arm, directory)
    return arm


def _kinds(logs: Mapping[str, LogContent]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for content in logs.values():
        for event in content.events:
            found.setdefault(str(event["kind"]), []).append(event)
    for events in found.values():
        events.sort(key=lambda e: (e["t"], str(e["log"])))
    return found


def _fill(arm: ArmHistory, directory: Directory) -> None:
    """The small tables, from events."""
    t = arm.tables
    t.add("recipients", [(i, a) for a, i in directory.recipients.items()])
    t.add("senders", [(i, a, directory.clients.get(a, "")) for a, i in directory.senders.items()])
    t.add("scopes", [
        (int(e.get("round", 0)), str(e.get("source")), str(e.get("where")).lower(), bool(e.get("complete")), str(e.get("why") or ""), int(e.get("found") or 0))
        for e in arm.events("scope")
    ])
    t.add("sights", [
        (int(e["mail"]), str(e.get("mailbox", "")).lower(), e["t"], int(e.get("latency_from_due_ns") or 0), int(e.get("latency_from_ok_ns") or 0))
        for e in arm.events("first_sight")
    ])
    for kind in ("deleting", "expunged", "moving", "moved"):
        t.add(kind, [(int(e["mail"]), str(e.get("mailbox", "")).lower(), str(e.get("uid") or ""), e["t"]) for e in arm.events(kind)])
    t.add("flagged", [
        (int(e["mail"]), str(e.get("mailbox", "")).lower(), str(e.get("uid") or ""), str(f)) for e in arm.events("flagged") for f in e.get("flags") or ()
    ])
    t.add("faults", [(str(e.get("name")), str(e.get("fault")), str(e.get("edge")), e["t"]) for e in arm.events("fault")])

"""Writes real run directories, through the real store, from a small mutable model of what happened.

    run = good_run(root)                            # a friday burst, arms 1x and 2x, everything well, sealed
    b = HistoryBuilder(root, friday_plan())         # the same, to be spoilt first
    b.arm("1x").lose(7)
    run = b.write()

Times are seconds after ``ARM_BEGIN`` of the arm; the store gets nanoseconds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.model.outcome import Deferral, MailFlag, Outcome, Population, Proto, Stage
from harness.model.plan import Plan
from harness.store.log import LogWriter
from harness.store.ops import DONE, INVOKE, OFFER, USEROP
from harness.store.run import ArmDir, RunDir

ARM_BEGIN = 5_000.0
DOMAIN = "example.org"
SECOND = 1_000_000_000
#: Columns of rows that hold the writer's clock.
_TIMES = ("t", "t_start", "t_end")


def ns(t: float) -> int:
    """Seconds of an arm → nanoseconds of the run's clock."""
    return round((ARM_BEGIN + t) * SECOND)


def uidl(mail: int) -> str:
    """What POP3 calls mail ``mail``, as long as its unique ID stays."""
    return f"0000{mail:06d}5e0f"


def sha_of(mail: int) -> bytes:
    """The canonical hash that mail ``mail`` is offered with."""
    return hashlib.sha256(b"mail %d" % mail).digest()[:16]


@dataclass
class Attempt:
    """One attempt for one recipient. ``t_done`` None: cut off, no DONE row."""

    rcpt: int
    t: float
    t_done: float | None
    outcome: Outcome = Outcome.OK
    stage: Stage = Stage.DOT
    deferral: Deferral = Deferral.NONE
    code: int = 250
    enhanced: int = 20000
    proto: Proto = Proto.SMTP


@dataclass
class Copy:
    """One copy that the census finds."""

    source: str
    where: str
    recipient: str
    sha: str
    rounds: tuple[int, ...] = (1, 2)
    queue: str = ""
    uid: int = 1
    mail: int | None = -1  #: -1: the mail it belongs to
    bounce_of: int | None = None
    orphan: bool = False
    failed: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None  #: as the census found them; None: it did not look


@dataclass
class Mail:
    """One mail, its attempts and its copies."""

    number: int
    t_due: float
    sender: int
    population: Population
    rcpts: list[int]
    flags: int = 0
    size: int = 4000
    attempts: list[Attempt] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    sight: float | None = None
    sha: bytes = b""  #: canonical hash it is offered with

    def __post_init__(self) -> None:
        self.sha = self.sha or sha_of(self.number)

    @property
    def t_ok(self) -> float:
        return min(a.t_done for a in self.attempts if a.t_done is not None and a.outcome == Outcome.OK)


@dataclass
class ArmBuilder:
    """What happened in one arm. Everything may be changed before :meth:`HistoryBuilder.write`."""

    name: str
    block: int = 1
    users: int = 20
    mails: list[Mail] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    userops: list[tuple[Any, ...]] = field(default_factory=list)
    scopes: list[dict[str, Any]] = field(default_factory=list)
    expected: list[str] = field(default_factory=lambda: ["conductor.log", "load-1.log", "observe.log", "census.log"])
    unclosed: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    popped: tuple[int, ...] = ()  #: recipients whose INBOX is read by POP3
    renamed: dict[tuple[int, int], str] = field(default_factory=dict)  #: (round, mail) → another unique ID than before
    jumps: dict[str, tuple[float, float]] = field(default_factory=dict)  #: log → (from this second on, its clock is so far off)

    @property
    def recipients(self) -> list[str]:
        return [f"user{i}@{DOMAIN}" for i in range(1, self.users + 1)] + ["someone@example.net"]

    def mail(self, number: int) -> Mail:
        return next(m for m in self.mails if m.number == number)

    def event(self, log: str, kind: str, t: float, **fields: Any) -> dict[str, Any]:
        """Add an event to ``log`` and return it (to be changed)."""
        record = {"kind": kind, "t": ns(t), **fields}
        self.events[log].append(record)
        return record

    def of(self, log: str, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events[log] if e["kind"] == kind]

    def drop_events(self, log: str, kind: str) -> None:
        self.events[log] = [e for e in self.events[log] if e["kind"] != kind]

    def inbox(self, mail: Mail, rcpt: int, **more: Any) -> Copy:
        """Put a copy of ``mail`` into the mailbox of recipient ``rcpt`` and return it."""
        address = self.recipients[rcpt]
        copy = Copy("mailbox", f"{address}/INBOX", address, mail.sha.hex(), uid=1000 + len(mail.copies), flags=(), **more)
        mail.copies.append(copy)
        return copy

    # -- planted defects ------------------------------------------------------------------------------------------
    def lose(self, number: int) -> None:
        """The mail was acknowledged and is nowhere."""
        self.mail(number).copies.clear()
        self.mail(number).sight = None

    def duplicate(self, number: int) -> None:
        """One copy more than acknowledged."""
        mail = self.mail(number)
        self.inbox(mail, mail.rcpts[0])

    def corrupt(self, number: int) -> None:
        for copy in self.mail(number).copies:
            copy.sha = hashlib.sha256(b"other").hexdigest()[:32]

    def misdeliver(self, number: int) -> None:
        mail = self.mail(number)
        other = next(i for i in range(self.users) if i not in mail.rcpts)
        mail.copies.clear()
        self.inbox(mail, other)

    def quarantine(self, number: int, *, planted: bool = False) -> None:
        mail = self.mail(number)
        mail.flags |= int(MailFlag.GTUBE) if planted else 0
        for copy in mail.copies:
            copy.source, copy.where = "quarantine", f"{copy.recipient}/Junk"

    def leave_queued(self, number: int, queue: str = "deferred") -> None:
        mail = self.mail(number)
        mail.copies = [Copy("queue", f"mx-0:{queue}", self.recipients[r], mail.sha.hex(), queue=queue) for r in mail.rcpts]
        mail.sight = None

    def bounce(self, number: int) -> None:
        mail = self.mail(number)
        dsn = Copy("sink", "sink.example.net", self.senders[mail.sender], "0" * 32, mail=None, bounce_of=number, failed=tuple(self.recipients[r] for r in mail.rcpts))
        mail.copies, mail.sight = [dsn], None

    def end_attempt(self, number: int, outcome: Outcome, stage: Stage, code: int, deferral: Deferral = Deferral.NONE) -> None:
        """Let the mail's last attempts end so instead of OK."""
        mail = self.mail(number)
        last = max(a.t for a in mail.attempts)
        for a in mail.attempts:
            if a.t == last:
                a.outcome, a.stage, a.code, a.deferral, a.enhanced = outcome, stage, code, deferral, code // 100 * 10000

    def retry(self, number: int, after_s: float = 2.0) -> None:
        """One more attempt, acknowledged."""
        mail = self.mail(number)
        last = max(a.t_done or a.t for a in mail.attempts) + after_s
        mail.attempts += [Attempt(r, last, last + 0.05) for r in mail.rcpts]

    def unread(self, source: str, where: str, rounds: tuple[int, ...] = (1, 2)) -> None:
        """The census could not read ``where``: its scope is incomplete and none of its copies were seen."""
        for scope in self.scopes:
            if scope["source"] == source and scope["where"] == where and scope["round"] in rounds:
                scope.update(complete=False, why="connection refused", found=0)
        for mail in self.mails:
            for copy in mail.copies:
                if copy.source == source and copy.where.startswith(where):
                    copy.rounds = tuple(r for r in copy.rounds if r not in rounds)

    def saturate_generator(self) -> None:
        for e in self.of("load-1.log", "load_state"):
            e.update(lag_p99_ms=900.0, lag_max_ms=4000.0)

    def saturate_host(self) -> None:
        for e in self.of("observe.log", "host"):
            e["cpu_share"] = 0.97

    def cut_log(self, log: str, after_t: float) -> None:
        """The writer of ``log`` was killed at ``after_t``: nothing later is there, and no end."""
        self.events[log] = [e for e in self.events[log] if e["t"] <= ns(after_t)]
        if log.startswith("load"):
            for m in self.mails:
                m.sight = m.sight if m.sight is not None and m.sight <= after_t else None
            self.mails = [m for m in self.mails if m.t_due <= after_t]
            for m in self.mails:
                m.attempts = [a for a in m.attempts if a.t <= after_t]
                for a in m.attempts:
                    a.t_done = None if a.t_done is not None and a.t_done > after_t else a.t_done
        self.unclosed.add(log)

    # -- writing --------------------------------------------------------------------------------------------------
    def write(self, arm: ArmDir) -> None:
        self._sights()
        self._census()
        arm.spec.write_text("{}\n")
        names = set(self.expected) | set(self.events)
        for log in sorted(names - self.absent):
            self._write_log(arm.path / log, log)

    def _write_log(self, path: Path, log: str) -> None:
        writer = LogWriter(path, log.split(".")[0].split("-")[0])
        events = sorted(self.events[log], key=lambda e: e["t"])
        rows = self._rows() if log == "load-1.log" else {}
        last = -1
        for second in sorted({e["t"] // SECOND for e in events} | set(rows)):
            for e in events:
                if last < e["t"] // SECOND <= second:
                    writer.event(**{**e, "t": self._told(log, e["t"])})
            last = second
            writer.flush()
            for block_type, chunk in rows.get(second, []):
                for name in (n for n in chunk.dtype.names or () if n in _TIMES):
                    chunk[name] = [self._told(log, int(t)) for t in chunk[name]]
                writer.rows(block_type, chunk.tobytes())
        if log in self.unclosed:
            writer.flush()
            writer.abandon()
        writer.close()

    def _told(self, log: str, t: int) -> int:
        """What the clock of ``log``'s writer says at ``t``."""
        at, by_s = self.jumps.get(log, (0.0, 0.0))
        return t + round(by_s * SECOND) if t >= ns(at) else t

    def _rows(self) -> dict[int, list[tuple[int, NDArray[np.void]]]]:
        """Packed rows by second: offers when due, invokes and dones as they happened."""
        out: dict[int, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for m in self.mails:
            for r in m.rcpts:
                row = (m.number, ns(m.t_due), r, m.sender, m.size, m.population, m.flags, 0, m.sha)
                out[ns(m.t_due) // SECOND][2].append(row)
            for r in m.rcpts:
                for n, a in enumerate((a for a in m.attempts if a.rcpt == r), 1):
                    out[ns(a.t) // SECOND][3].append((m.number, ns(a.t), r, n, a.proto, 0))
                    if a.t_done is not None:
                        done = (m.number, ns(a.t_done), r, n, a.proto, a.outcome, a.stage, a.deferral, a.code, a.enhanced)
                        out[ns(a.t_done) // SECOND][4].append(done)
        for op in self.userops:
            out[op[1] // SECOND][5].append(op)
        dtypes = {2: OFFER, 3: INVOKE, 4: DONE, 5: USEROP}
        return {s: [(k, np.array(rows, dtype=dtypes[k])) for k, rows in sorted(kinds.items())] for s, kinds in out.items()}

    def _sights(self) -> None:
        for m in self.mails:
            if m.sight is not None and any(a.t_done and a.outcome == Outcome.OK for a in m.attempts):
                self.event("load-1.log", "first_sight", m.sight, mail=m.number, mailbox=self.recipients[m.rcpts[0]],
                           latency_from_due_ns=ns(m.sight) - ns(m.t_due), latency_from_ok_ns=ns(m.sight) - ns(m.t_ok))

    def _census(self) -> None:
        t = max((e["t"] for e in self.of("conductor.log", "phase") if e["name"] == "census"), default=ns(200)) / SECOND - ARM_BEGIN - 5
        if "census.log" in self.unclosed:
            return
        for m in self.mails:
            for c in m.copies:
                for n in c.rounds:
                    mail = m.number if c.mail == -1 else c.mail
                    more: dict[str, Any] = ({"queue": c.queue} if c.queue else {}) | ({} if c.flags is None else {"flags": list(c.flags)})
                    self.event("census.log", "copy", t + n, round=n, source=c.source, where=c.where, recipient=c.recipient,
                               mail=mail, sha=c.sha, uid=str(c.uid), bounce_of=c.bounce_of, failed=list(c.failed), orphan=c.orphan, **more)
        for scope in [*self.scopes, *self._popped()]:
            self.event("census.log", "scope", t + scope["round"] + 0.5, **scope)

    def _popped(self) -> list[dict[str, Any]]:
        """What the census' POP3 reader saw: unique IDs of our mails."""
        scopes = []
        for n in sorted({s["round"] for s in self.scopes}):
            for address in (self.recipients[r] for r in self.popped):
                copies = [(m.number, i) for m in self.mails for i, c in enumerate(m.copies) if c.where == f"{address}/INBOX" and n in c.rounds]
                uidls = [(mail, self.renamed.get((n, mail), uidl(mail)) + f".{i}") for mail, i in copies]
                scopes.append({"round": n, "source": "mailbox", "where": f"{address}/INBOX by POP3", "complete": True, "why": "", "found": 0, "uidls": uidls})
        return scopes


class HistoryBuilder:
    """One run directory in the making.

    :param root: where the run directory goes.
    :param plan: the plan that was run; the arms it names are made well (see ``harness.selftest.friday``).
    :param arms: only these arms of it. :param burst: mails of the elastic senders in each arm.
    """

    def __init__(
        self, root: Path, plan: Plan | None = None, *, blocks: int = 1, meta: dict[str, Any] | None = None, arms: Sequence[str] = (),
        burst: int = 480,
    ) -> None:
        from harness.selftest.friday import META, friday_arm, friday_plan

        self.root, self.plan, self.meta = root, plan or friday_plan(), {**META, **(meta or {})}
        names = arms or self.plan.arm_names
        self.arms = [friday_arm(self.plan, name, block, burst) for block in range(1, blocks + 1) for name in names]

    def arm(self, name: str, block: int = 1) -> ArmBuilder:
        return next(a for a in self.arms if a.name == name and a.block == block)

    def write(self, *, seal: bool = True) -> RunDir:
        """Write everything, seal it, and return the run."""
        run = RunDir.create(self.root, self.plan, self.meta, arms=[(a.block, a.name) for a in self.arms], plan_bytes=b"# plan\n")
        with LogWriter(run.conductor_log, "conductor") as log:
            log.event("phase", name="run", edge="begin", t=ns(0))
            log.event("phase", name="run", edge="end", t=ns(200))
        for arm in self.arms:
            arm.write(run.arm(arm.block, arm.name))
        if seal:
            run.seal()
        return run


def good_run(root: Path, **more: Any) -> RunDir:
    """A friday burst in which all is well: arms 1x and 2x, sealed, judged PASS."""
    return HistoryBuilder(root, **more).write()


def kill_run(root: Path, *, lossy: bool = True) -> RunDir:
    """``mx-pod-kill``: one mx pod killed at second 40; on the emptyDir its queue is gone with 30 mails (``lossy``)."""
    from harness.selftest.friday import kill_plan, plant_kill

    b = HistoryBuilder(root, kill_plan())
    for arm in b.arms:
        plant_kill(arm)
    if lossy:
        arm = b.arm("queue-on-emptydir")
        for mail in [m for m in arm.mails if m.population == Population.ELASTIC][200:230]:
            arm.lose(mail.number)
    return b.write()

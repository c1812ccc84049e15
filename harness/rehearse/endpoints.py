"""The conductor of a run against endpoints: survey, load, settle, census, seal. No cluster, no faults; judged like any run."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.census.spec import CensusSpec, Server
from harness.census.survey import LOG as SURVEY_LOG
from harness.chaos.tail import Tail
from harness.errors import CommandFailed, Interrupted, MailgaleError, NotReady, RecordLost
from harness.load import runner as load_runner
from harness.load.params import MARKS, Params
from harness.load.runner import LoadProcess
from harness.load.spec import Access
from harness.observe.spec import ObserveSpec
from harness.rehearse.arm import ABORT_SETTLE_S
from harness.rehearse.children import Child
from harness.rehearse.conductor import Ended, private_directory, sealed
from harness.rehearse.load_task import ARM, LoadTask
from harness.rehearse.meta import what_is_used
from harness.store.asking import asked_to_end, mark_stopped
from harness.store.log import LogWriter
from harness.store.run import ArmDir, RunDir
from harness.support.checkout import Checkout
from harness.support.clock import now_ns, wait_for
from harness.support.progress import Progress

CONNECT_S = 5.0
OBSERVE_EVERY_S = 1.0
SURVEY_S = 120.0
LOAD_GRACE_S = 60.0
#: Two rounds of the census, and a look before them.
ROUNDS = 3
#: A round may take so long: a second for each user, and what reading at a slow 50 mails a second takes.
ROUND_S_MIN, MAILS_PER_S = 120.0, 50.0
#: Even without a wait the mailboxes are looked at before the first round.
SETTLE_S_MIN = 0.01
#: Sessions of the census at a time.
READERS = 8


@dataclass
class _Loaded:
    """One load on its way."""

    task: LoadTask
    run: RunDir
    arm: ArmDir
    secrets: Path
    progress: Progress
    log: LogWriter
    timings: dict[str, float] = field(default_factory=dict)
    began_ns: int = 0  #: when the load's phase began
    stopped: MailgaleError | None = None  #: what stopped the load before its time

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase in the arm's history, with progress and its duration."""
        begin = time.monotonic()
        self.log.event("phase", name=name, edge="begin")
        self.log.flush()
        try:
            with self.progress.stage(name):
                yield
        finally:
            self.timings[f"{self.arm.label}/{name}"] = round(time.monotonic() - begin, 1)
            self.log.event("phase", name=name, edge="end")
            self.log.flush()

    def incident(self, what: str, where: str) -> None:
        """An error that did not end the run."""
        self.progress.note(f"incident: {what}")
        self.log.event("incident", what=what, where=where)
        self.log.flush()


def load_endpoints(task: LoadTask, out: Path, checkout: Checkout, progress: Progress, *, command: str) -> Ended:
    """Run the load, take the census where there is something to read, seal. Ctrl-C ends it cleanly: what is there can be judged.

    :param out: the run's directory is made in it.
    :param command: the command line, for the record.
    :raises NotReady: an endpoint does not answer, or (before the first mail) a mailbox cannot be read; there may be no run then.
    """
    reach(task)
    meta = {**what_is_used(task.target, checkout), "command": command, "options": {}, "held_constant": {}}
    run = RunDir.create(out, task.plan, meta, arms=[(1, ARM)], plan_bytes=task.plan_bytes)
    timings: dict[str, float] = {}
    problem: MailgaleError | None = None
    with progress.stage(f"{task.plan.name} against {task.target.name}"):
        try:
            _run(task, run, checkout, progress, timings)
        except MailgaleError as error:
            problem = error
        except OSError as error:
            problem = RecordLost.of(error, run.run_id)
        except KeyboardInterrupt:
            problem = Interrupted("interrupted; what was started has been ended", where=run.run_id)
        return sealed(run, timings, problem, progress, can_go_on=False)


def reach(task: LoadTask) -> None:
    """Connect once to every endpoint.

    :raises NotReady: one that refuses or does not answer within CONNECT_S.
    """
    for role, access in task.spec.endpoints.items():
        host, port = access.hosts[0], access.port
        try:
            socket.create_connection((host, port), CONNECT_S).close()
        except OSError as error:
            raise NotReady(f"{'smtp' if role == 'mx' else role} does not answer: {error}", where=f"{host}:{port}", todo="is the server up?") from error


def _run(task: LoadTask, run: RunDir, checkout: Checkout, progress: Progress, timings: dict[str, float]) -> None:
    arm = run.arm(1, ARM)
    with ExitStack() as scopes:
        own = scopes.enter_context(LogWriter(run.conductor_log, "conductor"))
        own.event("arm", block=1, arm=ARM)
        secrets = scopes.enter_context(private_directory(checkout))
        log = scopes.enter_context(LogWriter(arm.conductor_log, "conductor"))
        one = _Loaded(task, run, arm, secrets, progress, log, timings)
        _announce(one)
        if task.reads:
            with one.phase("survey"):
                _survey(one)
        with _observed(one), one.phase("load"):
            _load(one)
            _host_seen(one)
        if task.reads:
            with progress.stage("settle and census"):
                _census(one, deadline_s=task.options.settle_s + ROUNDS * _round_s(one) + 60)
        if one.stopped is not None:
            raise one.stopped


def _announce(one: _Loaded) -> None:
    names = ["conductor.log", "observe.log", "load-1.log", *((SURVEY_LOG, "census.log") if one.task.reads else ())]
    one.log.event("expected_writers", names=names)
    for what, why in one.task.target.unsupported.items():
        one.log.event("not_supported", what=what, why=why)
    one.log.flush()


@contextmanager
def _observed(one: _Loaded) -> Iterator[None]:
    spec = one.secrets / "observe.json"
    ObserveSpec("", "", "", str(one.arm.path), one.run.run_id, interval_s=OBSERVE_EVERY_S).write(spec)
    with Child("harness.observe", [spec], one.arm.path / "observe.out") as child:
        wait_for(lambda: one.arm.observe_log.exists() or not child.alive, deadline_s=30, what="the observer", every_s=0.05)
        yield
        if not child.stop():
            one.incident("the observer had to be killed: its last samples may be missing", "observe")


def _load(one: _Loaded) -> None:
    one.began_ns, params = now_ns(), one.task.spec.params
    spec = one.task.spec.replace(run_id=one.run.run_id, arm=one.arm.label)
    process = load_runner.start(spec, one.arm.path)
    longest = sum(float(params[k]) for k in ("warmup_s", "burst_max_s", "tail_s"))
    try:
        _follow(one, process, longest + LOAD_GRACE_S)
        process.wait(deadline_s=1)
    except Interrupted as error:
        one.stopped = error
        one.log.event("stopped", why=str(error), code=error.exit_code)
        mark_stopped(one.arm, str(error))
    except (NotReady, CommandFailed) as error:
        one.incident(str(error), "load")
    finally:
        process.stop()


def _host_seen(one: _Loaded) -> None:
    """Wait for a sample of the host taken since the load began, so that a load shorter than the interval has one too."""
    begin, tail = one.began_ns, Tail(one.arm.observe_log)
    try:
        wait_for(
            lambda: any(e["kind"] == "host" and e["t"] > begin for e in tail.events()), deadline_s=5 * OBSERVE_EVERY_S,
            what="a sample of the host", every_s=0.1,
        )
    except NotReady as error:
        one.incident(str(error), "observe")


def _follow(one: _Loaded, process: LoadProcess, deadline_s: float) -> None:
    """Show the ledger's state until the load has ended.

    :raises NotReady: it has not ended in time. :raises Interrupted: somebody asked the run to end.
    """
    tail = Tail(process.log)

    def over() -> bool:
        for event in tail.events():
            if event["kind"] == "load_state":
                counts = ", ".join(f"{event.get(k, 0)} {k}" for k in ("offered", "accepted", "deferred", "rejected"))
                one.progress.waiting(f"the load ({counts})")
        if (asked := asked_to_end(one.run)) is not None:
            raise Interrupted(f"aborted: {asked.why}", where=one.run.run_id)
        return not process.alive

    wait_for(over, deadline_s=deadline_s, what="the load to end", every_s=0.2)


def _round_s(one: _Loaded) -> float:
    options = one.task.options
    meant = options.messages or options.rate_per_s * options.duration_s
    return max(ROUND_S_MIN, len(one.task.accounts) + meant / MAILS_PER_S)


def _census(one: _Loaded, *words: str, deadline_s: float) -> None:
    path = one.secrets / "census.json"
    _census_spec(one).save(path)
    with Child("harness.census", [path, *words], one.arm.path / "census.out") as child:
        child.wait(deadline_s=deadline_s)


def _survey(one: _Loaded) -> None:
    """Nothing is sent unless what becomes of it can be read (exit 8)."""
    try:
        _census(one, "--survey", deadline_s=SURVEY_S + len(one.task.accounts))
    except MailgaleError as error:
        raise NotReady(error.what, where=error.where) from error


def _census_spec(one: _Loaded) -> CensusSpec:
    task, ends = one.task, one.task.spec.endpoints
    ca_file, params = task.options.ca_file, Params.of(task.spec.params)
    settle_s = min(task.options.settle_s, ABORT_SETTLE_S) if one.stopped is not None else task.options.settle_s
    return CensusSpec(
        run=one.run.run_id, arm=one.arm.label, arm_dir=str(one.arm.path), namespace="", imap=_server(ends.get("imap")),
        pop3=_server(ends.get("pop3")), accounts=task.accounts, ca_pem=Path(ca_file).read_text() if ca_file else "", verify=bool(ca_file),
        survey=True, settle_s=max(settle_s, SETTLE_S_MIN), deadline_s=_round_s(one), connections=READERS, sink_components=(), queue_components=(),
        pop3_first=tuple(task.accounts[n][0] for n in params.pop_accounts(len(task.accounts))), flags=MARKS if params.flag_share else (),
    )


def _server(access: Access | None) -> Server | None:
    if access is None:
        return None
    return Server(access.hosts[0], access.port, tls=access.tls == "implicit", starttls=access.tls == "starttls")

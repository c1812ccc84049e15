"""Known-bad platforms over real sockets: the real generator sends, a platform on loopback misbehaves, the real census reads, the checks judge.

Beside them a platform that behaves: there the same checks must say PASS. Limits: the run has no samplers and no cluster, so only the named
check is looked at; queues are an empty spool.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.census.queue_reader import QUEUES
from harness.census.spec import CensusSpec, Server
from harness.census.take import take
from harness.judge import judge_history
from harness.load.params import MARKS, Params
from harness.load.spec import PASSWORD_ENV, Access, LoadSpec
from harness.model.verdict import Status, Verdict
from harness.selftest.content import mislabelled, truncated
from harness.selftest.friday import friday_plan
from harness.selftest.platform import HANG, Behaviour, Copies, Platform
from harness.selftest.platform_boxes import INBOX, JUNK, Forgetful
from harness.selftest.table import Row
from harness.store.history import load
from harness.store.log import LogWriter
from harness.store.run import ArmDir, RunDir
from harness.support.progress import Progress
from harness.support.shell import run

ARM, USERS, PASSWORD = "1x", 20, "selftest"
_ENGINE_S = 90.0
_PARAMS = {
    "elastic_senders": 4, "backlog_per_sender": 60, "recipients_max": 1, "size_max_bytes": 20_000, "steady_rate_per_s": 30, "tail_s": 3,
    "burst_max_s": 5, "min_backoff_s": 30, "max_backoff_s": 120, "deadline_floor_s": 1, "step_wait_s": 60, "ipv6_share": 0,
    "imap_users": 3, "pop_users": 3, "think_s": 0.2, "flag_share": 1,
}


@dataclass(frozen=True)
class LiveDefect:
    """A platform that misbehaves, and the checks that must see it.

    :param params: of the load, where they must be other ones to show it.
    """

    name: str
    planted: str
    behaviour: Behaviour
    expected: tuple[tuple[str, Status], ...]
    params: Mapping[str, float] = field(default_factory=dict)


def _keeping(change: Callable[[int, str, bytes], Copies]) -> Behaviour:
    return Behaviour(keep=change)


def _fail(check: str) -> tuple[tuple[str, Status], ...]:
    return ((check, Status.FAIL),)


def _every(n: int, change: Callable[[str, bytes], Copies]) -> Behaviour:
    """``change`` for every ``n``-th copy, the others kept as they came."""
    return _keeping(lambda i, address, raw: change(address, raw) if i % n == n - 1 else [(address, INBOX, raw)])


GOOD = tuple((check, Status.PASS) for check in ("no-loss", "no-unexplained-duplicates", "integrity", "mailbox-state", "availability"))
LIVE: tuple[LiveDefect, ...] = (
    LiveDefect("live: a platform that behaves", "nothing: the same checks must say PASS", Behaviour(), GOOD),
    LiveDefect("live: acknowledged then dropped, all", "250, and no mail is kept", _every(1, lambda a, r: []), _fail("no-loss")),
    LiveDefect("live: acknowledged then dropped, 1 in 100", "250, and every 100th mail is not kept", _every(100, lambda a, r: []), _fail("no-loss")),
    LiveDefect("live: everything refused with 4xx", "451 to every RCPT", Behaviour(at_rcpt=lambda n: "451 4.3.0 not now"), _fail("availability")),
    LiveDefect("live: RCPT hangs", "every 3rd RCPT gets no answer", Behaviour(at_rcpt=lambda n: HANG if n % 3 == 2 else ""), _fail("availability")),
    LiveDefect("live: delivered twice", "every 50th mail is kept twice", _every(50, lambda a, r: [(a, INBOX, r)] * 2), _fail("no-unexplained-duplicates")),
    LiveDefect("live: body truncated", "every 50th mail is cut in its body", _every(50, lambda a, r: [(a, INBOX, truncated(r))]), _fail("integrity")),
    LiveDefect("live: charset damaged", "octets of UTF-8 relabelled ISO 8859-1", _every(1, lambda a, r: [(a, INBOX, mislabelled(r))]), _fail("integrity")),
    LiveDefect("live: wrong mailbox", "every 50th mail goes to user1", _every(50, lambda a, r: [(f"user1@{a.partition('@')[2]}", INBOX, r)]), _fail("integrity")),
    LiveDefect("live: unplanted mail quarantined", "every 50th mail goes to Junk", _every(50, lambda a, r: [(a, JUNK, r)]), _fail("integrity")),
    LiveDefect("live: rejected but delivered", "554 to every 50th dot, the mail is kept all the same",
               Behaviour(at_dot=lambda n: "554 5.7.1 no" if n % 50 == 49 else ""), _fail("integrity")),
    LiveDefect("live: flags lost", "OK to STORE, and no flag is kept", Behaviour(boxes=Forgetful(drops_flags=True)), _fail("mailbox-state")),
    LiveDefect("live: UIDVALIDITY changed", "another UIDVALIDITY at every SELECT", Behaviour(boxes=Forgetful(uidvalidity=lambda n: 1 + n)), _fail("mailbox-state")),
    LiveDefect("live: POP UIDL changed", "other unique IDs at every login", Behaviour(boxes=Forgetful(uidl=lambda place, n: f"{n:x}-{place}")),
               _fail("mailbox-state")),
    LiveDefect("live: expunged mail back", "OK to EXPUNGE, and the mail stays", Behaviour(boxes=Forgetful(keeps_deleted=True)), _fail("integrity"),
               {"delete_share": 1, "pop_users": 0}),
    LiveDefect("live: POP DELE ignored", "+OK to DELE and QUIT, and the mail stays", Behaviour(boxes=Forgetful(keeps_deleted=True)), _fail("integrity"),
               {"delete_share": 1, "imap_users": 0}),
)


def live_rows(progress: Progress) -> list[Row]:
    """One line for every platform and check."""
    rows = []
    with progress.stage(f"{len(LIVE)} platforms over real sockets"):
        for defect in LIVE:
            progress.waiting(defect.name)
            rows += live_row(defect)
    return rows


def live_row(defect: LiveDefect) -> list[Row]:
    """Run one platform; a line for each check that is expected to say something.

    :raises CommandFailed: the generator did not come to its end.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mailgale-selftest-") as root:
        history = RunDir.create(Path(root), friday_plan(), {}, arms=[(1, ARM)], plan_bytes=b"# self-test\n")
        with Platform(defect.behaviour) as platform:
            _record(history, platform, Path(root), {**_PARAMS, **defect.params})
        with load(history) as read:
            verdicts = {v.check: v for v in judge_history(read).verdicts}
    took = time.monotonic() - begin
    return [_row(defect, check, status, verdicts[check], took) for check, status in defect.expected]


def _row(defect: LiveDefect, check: str, expected: Status, seen: Verdict, took_s: float) -> Row:
    return Row("live", defect.name, defect.planted, check, expected.name, seen.status.name, seen.status == expected, seen.reason, round(took_s, 2))


def _record(history: RunDir, platform: Platform, root: Path, params: Mapping[str, float]) -> None:
    arm = history.arm(1, ARM)
    with LogWriter(arm.conductor_log, "conductor") as log:
        with _phase(log, "deploy"):
            spool = root / "volumes" / "selftest" / "queue-mx-0"
            for queue in QUEUES:
                (spool / queue).mkdir(parents=True)
        with _phase(log, "load"):
            _send(history.run_id, arm, platform, params)
        with _phase(log, "census"):
            take(_census(history.run_id, arm, platform, root, Params.of(params)))


@contextmanager
def _phase(log: LogWriter, name: str) -> Iterator[None]:
    """A phase of the conductor's, in its log."""
    log.event("phase", name=name, edge="begin")
    yield
    log.event("phase", name=name, edge="end")


def _send(run_id: str, arm: ArmDir, platform: Platform, params: Mapping[str, float]) -> None:
    ends = {"mx": platform.smtp, "imap": platform.imap, "pop3": platform.pop3}
    spec = LoadSpec(
        run_id, arm.label, 11, "friday", {role: Access(("127.0.0.1",), port) for role, port in ends.items()}, params, str(arm.path), users=USERS,
        password=PASSWORD, time_scale=100,
    )
    arm.spec.write_text(spec.to_json())
    run([sys.executable, "-m", "harness.load", arm.spec], timeout_s=_ENGINE_S, env={PASSWORD_ENV: PASSWORD})


def _census(run_id: str, arm: ArmDir, platform: Platform, root: Path, params: Params) -> CensusSpec:
    first = tuple(f"user{n + 1}@example.org" for n in params.pop_accounts(USERS))
    return CensusSpec(
        run_id, arm.label, str(arm.path), "selftest", Server("127.0.0.1", platform.imap), USERS, PASSWORD, volumes_dir=str(root / "volumes"),
        pop3=Server("127.0.0.1", platform.pop3), pop3_users=1, pop3_first=first, flags=MARKS,
    )

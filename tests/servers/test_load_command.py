"""`mailgale load` against servers that misbehave over real sockets: the right check fails, names the mail, and the exit code says so."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.support.clock import wait_for
from tests.servers.load_commands import finish, judge, load, start, user_file
from tests.servers.load_sink import Behaviour, Sink
from tests.servers.mailservers import DOMAIN, PASSWORD, Dovecot, dovecot, free_port

USERS = 6
FIELDS = {
    "offered", "attempted", "accepted", "deferred", "rejected", "undetermined", "lost", "duplicated", "corrupted", "misdelivered", "latency",
    "schedule_lag", "client_cpu_s", "mails_per_client_cpu_s", "peak_rss_bytes", "status", "sentence", "exit_code", "run",
}
CLOSED = ("--messages", "300", "--connections", "10")
_TRACE = re.compile(rb"X-Mailgale-Trace: \S+\.(\d+)\r")


def number(message: bytes) -> int:
    found = _TRACE.search(message)
    assert found is not None
    return int(found[1])


@pytest.fixture(scope="module")
def box() -> Iterator[Dovecot]:
    with dovecot(USERS) as running:
        for n in range(40):
            running.deliver(f"user{n % USERS + 1}@{DOMAIN}", b"Subject: here before\r\nX-Mailgale-Trace: other.1-load.%d\r\n\r\nx\r\n" % n)
        yield running


def reading(tmp_path: Path, sink: Sink, box: Dovecot, *words: str) -> tuple[str, ...]:
    return ("--smtp", f"127.0.0.1:{sink.port}", "--imap", f"127.0.0.1:{box.imap}", "--user-file", user_file(tmp_path, USERS), *words)


def test_a_sink_that_takes_everything_passes(tmp_path: Path):
    with Sink() as sink:
        answer = load(tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", *CLOSED)
    assert answer.code == 0, answer
    data = answer.data
    assert set(data) >= FIELDS
    assert (data["offered"], data["attempted"], data["accepted"], data["rejected"], data["undetermined"]) == (300, 300, 300, 0, 0)
    assert [data[k] for k in ("lost", "duplicated", "corrupted", "misdelivered")] == [None] * 4, "nobody looked, so nobody knows"
    assert data["deferred"] == {"total": 0, "by_class": {}, "by_code": {}}
    assert len(sink.acknowledged) == len(set(sink.acknowledged)) == 300
    assert sink.connections <= 11  # one of them asked whether anybody is there
    assert {address for _, address in sink.recipients} == {f"user{n}@{DOMAIN}" for n in range(1, 21)}
    assert data["latency"]["smtp mail"]["count"] == 300
    assert data["peak_rss_bytes"] > 10 << 20
    assert data["client_cpu_s"] > 0
    again = judge(tmp_path)
    assert (again.code, again.data) == (0, json.loads((answer.run / "verdict.json").read_text()))
    assert answer.check("evidence-complete")["status"] == "PASS"


@pytest.mark.slow
def test_everything_arrives_and_what_was_there_before_does_not_count(tmp_path: Path, box: Dovecot):
    with Sink(Behaviour(deliver=box.deliver)) as sink:
        answer = load(tmp_path, "mx", *reading(tmp_path, sink, box, "--pop3", f"127.0.0.1:{box.pop3}", "--rate", "60/s", "--duration", "4s", "--seed", "5"))
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    data = answer.data
    assert 150 < data["accepted"] == data["offered"] == data["delivered"]
    assert [data[k] for k in ("lost", "duplicated", "corrupted", "misdelivered")] == [0] * 4
    assert data["schedule_lag"]["p99_ms"] < 250
    assert data["latency"]["smtp mail from due"]["count"] == data["accepted"]
    assert len({address for _, address in sink.recipients}) == USERS
    copies = [e for e in events(answer.run / "arms/1-load/census.log") if e["kind"] == "copy"]
    assert {c["mail"] for c in copies} == set(range(1, data["offered"] + 1)), "a mail of before, or of another run, was counted"
    assert not any(PASSWORD.encode() in p.read_bytes() for p in answer.run.rglob("*") if p.is_file())
    assert judge(answer.run).code == 0


def events(path: Path) -> list[dict[str, object]]:
    from harness.store.log import Damage, read_events

    return [e for e in read_events(path) if not isinstance(e, Damage)]


def dropping(box: Dovecot) -> Callable[[str, bytes], object]:
    return lambda address, octets: number(octets) % 100 == 7 or box.deliver(address, octets)


def duplicating(box: Dovecot) -> Callable[[str, bytes], object]:
    return lambda address, octets: [box.deliver(address, octets) for _ in range(2 if number(octets) % 100 == 7 else 1)]


def corrupting(box: Dovecot) -> Callable[[str, bytes], object]:
    def deliver(address: str, octets: bytes) -> object:
        head, blank, body = octets.partition(b"\r\n\r\n")
        at = body.index(b"mail 1.") if b"mail 1." in body else len(body) // 2
        spoilt = head + blank + body[:at] + b"?" + body[at + 1 :]
        return box.deliver(address, spoilt if number(octets) % 100 == 7 else octets)

    return deliver


def misdelivering(box: Dovecot) -> Callable[[str, bytes], object]:
    def deliver(address: str, octets: bytes) -> object:
        other = f"user{int(address[4:address.index('@')]) % USERS + 1}@{DOMAIN}"
        return box.deliver(other if number(octets) % 100 == 7 else address, octets)

    return deliver


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "check", "field"),
    [(dropping, "no-loss", "lost"), (duplicating, "no-unexplained-duplicates", "duplicated"), (corrupting, "integrity", "corrupted"),
     (misdelivering, "integrity", "misdelivered")],
)
def test_a_planted_defect_fails_the_right_check(tmp_path: Path, box: Dovecot, plant, check: str, field: str):
    with Sink(Behaviour(deliver=plant(box))) as sink:
        answer = load(tmp_path, "mx", *reading(tmp_path, sink, box, *CLOSED, "--settle", "2s"))
    assert answer.code == 1, (answer.data.get("sentence"), answer.errors)
    assert answer.data[field] == 3
    assert answer.failed() == ({check, "no-loss"} if plant is misdelivering else {check})
    assert {"7", "107", "207"} == {m for line in answer.check(check)["evidence"] for m in re.findall(r"^mail (\d+)", line)}
    assert judge(tmp_path).data["status"] == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
def test_pop3_alone_reads_as_well(tmp_path: Path, box: Dovecot, lost: bool):
    deliver = dropping(box) if lost else box.deliver
    with Sink(Behaviour(deliver=deliver)) as sink:
        answer = load(
            tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", "--pop3", f"127.0.0.1:{box.pop3}", "--user-file", user_file(tmp_path, USERS),
            *CLOSED, "--settle", "2s",
        )
    assert answer.code == (1 if lost else 0), (answer.data.get("sentence"), answer.errors)
    assert answer.data["lost"] == (3 if lost else 0)
    assert answer.failed() == ({"no-loss"} if lost else set())


@pytest.mark.slow
@pytest.mark.parametrize(("settle_s", "code"), [(60, 0), (1, 1)])
def test_absence_after_settling_is_loss(tmp_path: Path, box: Dovecot, settle_s: int, code: int):
    """Every mail is acknowledged at once and reaches its mailbox twenty seconds later."""
    late: list[threading.Timer] = []

    def deliver(address: str, octets: bytes) -> None:
        late.append(threading.Timer(20, box.deliver, (address, octets)))
        late[-1].start()

    with Sink(Behaviour(deliver=deliver)) as sink:
        answer = load(tmp_path, "mx", *reading(tmp_path, sink, box, "--messages", "40", "--connections", "4", "--settle", f"{settle_s}s"))
        for timer in late:
            timer.join()
    assert answer.code == code, (answer.data.get("sentence"), answer.errors)
    assert answer.data["lost"] == (40 if code else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "words", "kind"),
    [
        (Behaviour(at_rcpt=lambda n, a: "550 5.1.1 no such user" if n % 50 == 9 else ""), CLOSED, "refused"),
        (Behaviour(at_rcpt=lambda n, a: "451 4.7.1 come back later" if n % 50 == 9 else ""), (*CLOSED, "--set", "min_backoff_s=60", "--duration", "4s"), "still deferred"),
        (Behaviour(at_banner=lambda n: "421 4.3.2 too busy" if n else ""), (*CLOSED, "--duration", "3s"), "still deferred"),
        (Behaviour(frozen=lambda s: s > 0.2), (*CLOSED, "--duration", "3s", "--set", "drain_s=2"), "without an answer"),
        (Behaviour(frozen=lambda s: s > 0.2), ("--rate", "50/s", "--duration", "3s", "--set", "drain_s=2"), "without an answer"),
    ],
    ids=["5xx", "4xx", "421", "frozen", "frozen-open-loop"],
)
def test_mail_that_is_not_accepted_is_a_failure(tmp_path: Path, behaviour: Behaviour, words: tuple[str, ...], kind: str):
    with Sink(behaviour) as sink:
        behaviour_begins(sink)
        answer = load(tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", *words)
    assert answer.code == 1, (answer.data.get("sentence"), answer.errors)
    assert answer.failed() == {"all-accepted"}
    assert kind in answer.check("all-accepted")["reason"]
    if kind == "still deferred":
        assert answer.data["deferred"]["total"] == sum(answer.data["deferred"]["by_code"].values()) > 0
        assert any(" 4.7.1" in k or " 4.3.2" in k for k in answer.data["deferred"]["by_code"])


def behaviour_begins(sink: Sink) -> None:
    sink.begun = time.monotonic()


def test_mail_deferred_once_is_sent_again_and_accepted(tmp_path: Path):
    seen = itertools.count()
    with Sink(Behaviour(at_rcpt=lambda n, a: "451 4.2.0 greylisted" if next(seen) % 10 == 0 else "")) as sink:
        answer = load(tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", *CLOSED, "--set", "min_backoff_s=0.2", "--set", "max_backoff_s=1")
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    assert answer.data["attempted"] == 300 + answer.data["deferred"]["total"] > 320


@pytest.mark.slow
def test_a_rate_beyond_the_machine_is_the_generators_limit(tmp_path: Path):
    with Sink() as sink:
        answer = load(tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", "--rate", "200000/s", "--duration", "2s", "--set", "drain_s=2")
    assert answer.code == 5, (answer.data.get("sentence"), answer.errors)
    assert answer.check("load-was-real")["status"] == "INCONCLUSIVE"
    assert "it was the limit" in answer.data["sentence"]
    assert answer.data["schedule_lag"]["p99_ms"] > 250


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_is_judged(tmp_path: Path, box: Dovecot):
    with Sink(Behaviour(deliver=box.deliver)) as sink:
        process = start("load", "mx", *reading(tmp_path, sink, box, "--rate", "50/s", "--duration", "60s"), "--out", str(tmp_path), "-o", "json")
        wait_for(lambda: len(sink.acknowledged) > 50, deadline_s=60, what="mail", every_s=0.05)
        process.send_signal(signal.SIGINT)
        answer = finish(process, 60)
    assert answer.code == answer.data["exit_code"] == 2, answer.errors
    assert answer.data["end"] == "stopped"
    assert answer.data["accepted"] == len(sink.acknowledged) > 50
    assert answer.verdict["status"] == "INCONCLUSIVE"
    assert answer.failed() == set()
    assert (answer.run / "seal.json").is_file()
    assert not left_behind(str(answer.run))


@pytest.mark.slow
def test_abort_from_another_terminal_stops_the_load_and_reads_what_arrived(tmp_path: Path, box: Dovecot):
    with Sink(Behaviour(deliver=box.deliver)) as sink:
        process = start("load", "mx", *reading(tmp_path, sink, box, "--rate", "50/s", "--duration", "90s"), "--out", str(tmp_path), "-o", "json")
        wait_for(lambda: len(sink.acknowledged) > 50, deadline_s=60, what="mail", every_s=0.05)
        other = finish(start("abort", str(next(tmp_path.glob("*-mx-*"))), "--why", "the server is needed"), 60)
        answer = finish(process, 60)
    assert other.code == 0, other.errors
    assert answer.code == answer.data["exit_code"] == 2, answer.errors
    assert "aborted: the server is needed" in answer.errors
    assert answer.data["end"] == "stopped"
    assert answer.data["accepted"] == len(sink.acknowledged) == answer.data["delivered"] > 50
    assert answer.failed() == set()
    assert (answer.run / "abort-1.json").is_file()
    assert not left_behind(str(answer.run))


def left_behind(word: str) -> list[str]:
    """Command lines of processes that speak of ``word``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("mx", "--smtp", "192.0.2.1:25", *CLOSED), 7, "neither loopback nor in the allow-list"),
        (("mx", "--smtp", "192.0.2.1:25", "--allow", "198.51.100.0/24", *CLOSED), 7, "neither loopback nor in the allow-list"),
        (("mx", "--smtp", "127.0.0.1:1", "--imap", "192.0.2.1:143", "--user-file", "USERS", *CLOSED), 7, "neither loopback"),
        (("mx", "--smtp", "127.0.0.1:FREE", *CLOSED), 8, "does not answer"),
        (("mx", "--smtp", "127.0.0.1:1"), 4, "either --rate or --messages"),
        (("mx", "--smtp", "127.0.0.1:1", "--rate", "5/s", *CLOSED), 4, "either --rate or --messages"),
        (("mx", "--smtp", "127.0.0.1:1", "--rate", "fast"), 4, "is no rate"),
        (("mx", "--smtp", "127.0.0.1", *CLOSED), 4, "is no HOST:PORT"),
        (("mx", *CLOSED), 4, "nothing to load"),
        (("mxx", "--smtp", "127.0.0.1:1", *CLOSED), 4, "scenarios: mx, submission"),
        (("submission", "--smtp", "127.0.0.1:1", *CLOSED), 4, "needs --submission"),
        (("mx", "--smtp", "127.0.0.1:1", "--imap", "127.0.0.1:1", *CLOSED), 4, "--user-file"),
        (("mx", "--smtp", "127.0.0.1:1", *CLOSED, "--set", "sise_median_bytes=5"), 4, "did you mean 'size_median_bytes'"),
        (("mx", "--smtp", "127.0.0.1:1", *CLOSED, "--set", "submit_internet_share=1"), 4, "would leave a real server"),
        (("mx", "--smtp", "127.0.0.1:1", "--rate", "1000000/s", "--duration", "1h"), 4, "bounded"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_sent(tmp_path: Path, words: tuple[str, ...], code: int, says: str):
    out = tmp_path / "runs"
    given = [user_file(tmp_path, 2) if w == "USERS" else w.replace("FREE", str(free_port())) for w in words]
    answer = load(out, *given)
    assert answer.code == code, answer.errors
    assert says in answer.errors.replace("\n", " ")
    assert not out.exists()


@pytest.mark.slow
def test_mailboxes_that_cannot_be_read_are_said_before_anything_is_sent(tmp_path: Path, box: Dovecot):
    with Sink() as sink:
        answer = load(
            tmp_path, "mx", "--smtp", f"127.0.0.1:{sink.port}", "--imap", f"127.0.0.1:{box.imap}", "--user-file", user_file(tmp_path, USERS, "wrong"), *CLOSED,
        )
    assert answer.code == 8, answer.errors
    assert "cannot be read" in answer.data["problem"]
    assert sink.dots == 0
    assert answer.data["accepted"] in (0, None)


@pytest.mark.slow
def test_a_mailbox_that_goes_unread_is_no_pass(tmp_path: Path):
    """The reader is there for the survey and gone for the census."""
    with dovecot(USERS) as box, Sink(Behaviour(deliver=box.deliver)) as sink:
        process = start("load", "mx", *reading(tmp_path, sink, box, *CLOSED, "--settle", "2s"), "--out", str(tmp_path), "-o", "json")
        wait_for(lambda: len(sink.acknowledged) >= 300, deadline_s=60, what="mail", every_s=0.02)
        os.kill(int((box.root / "run" / "master.pid").read_text()), signal.SIGTERM)
        answer = finish(process)
    assert answer.code == 5, (answer.data.get("sentence"), answer.errors)
    assert answer.data["lost"] == 0
    assert answer.data["undetermined"] == 300
    assert answer.failed() == set()

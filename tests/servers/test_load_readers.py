"""Reading users and watchers against a real Dovecot, mail delivered into its mailboxes by a real SMTP sink."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from harness.census.settle import acknowledged
from harness.census.spec import CensusSpec, Server
from harness.census.take import take
from harness.load.params import MARKS
from harness.load.spec import Access, LoadSpec
from harness.model.outcome import Outcome, Population, Proto, UserOp
from harness.store.log import read_events
from harness.support.clock import wait_for
from tests.servers.load_runs import Ledger, engine, finish, make_spec, run
from tests.servers.load_sink import Behaviour, Sink
from tests.servers.mailservers import PASSWORD, Dovecot, dovecot

OK = int(Outcome.OK)


def spec_for(out: Path, sink: Sink, box: Dovecot, params: dict[str, object]) -> LoadSpec:
    ends = {"mx": Access(("127.0.0.1",), sink.port), "imap": Access(("127.0.0.1",), box.imap), "pop3": Access(("127.0.0.1",), box.pop3)}
    return make_spec(out, sink.port, {"think_s": 0.1, "burst_max_s": 4, **params}, endpoints=ends, users=12, password=PASSWORD)


def test_watchers_see_every_ordinary_mail_once_and_users_read(tmp_path: Path):
    with dovecot(12) as box, Sink(Behaviour(deliver=box.deliver)) as sink:
        ledger = run(spec_for(tmp_path, sink, box, {
            "steady_rate_per_s": 15, "watchers": 8, "imap_users": 3, "pop_users": 2, "idle_users": 2, "tail_s": 3}))
    recipients = ledger.kinds("recipients")[0]["addresses"]
    accepted = {(d["mail"], recipients[d["rcpt"]]) for d in ledger.dones if d["outcome"] == OK}
    sights = ledger.kinds("first_sight")
    seen = [(s["mail"], s["mailbox"]) for s in sights]
    assert len(accepted) > 50
    assert len(seen) == len(set(seen))
    assert set(seen) <= accepted
    arrived_late = ledger.kinds("load_end")[0]["t"] - 2_000_000_000
    due = {o["mail"]: o["t_due"] for o in ledger.offers}
    assert {p for p in accepted if due[p[0]] < arrived_late} <= set(seen)
    assert all(0 <= s["latency_from_ok_ns"] <= s["latency_from_due_ns"] < 5e9 for s in sights)
    done = {(Proto(u["proto"]), UserOp(u["op"])) for u in ledger.userops if u["outcome"] == OK}
    assert done >= {(Proto.IMAP, op) for op in (UserOp.CONNECT, UserOp.LOGIN, UserOp.SELECT, UserOp.FETCH, UserOp.IDLE)}
    assert done >= {(Proto.POP3, op) for op in (UserOp.CONNECT, UserOp.LOGIN, UserOp.UIDL, UserOp.QUIT)}
    assert all(u["outcome"] == OK for u in ledger.userops)
    assert ledger.kinds("reader_lost") == []
    assert ledger.end["steps"]["mail delivery from due"]["count"] == len(seen)


def test_mail_that_waits_in_a_queue_is_seen_arriving_after_the_load(tmp_path: Path):
    """Deliveries take 3 s, the tail ends after 0.5 s: the watchers stay until all is there, and no longer; users have gone."""
    timers: list[threading.Timer] = []

    def later(address: str, octets: bytes) -> None:
        timers.append(threading.Timer(3, box.deliver, (address, octets)))
        timers[-1].start()

    with dovecot(12) as box, Sink(Behaviour(deliver=later)) as sink:
        ledger = run(spec_for(tmp_path, sink, box, {
            "steady_rate_per_s": 10, "watchers": 8, "imap_users": 2, "burst_max_s": 2, "tail_s": 0.5, "watch_max_s": 60}))
    accepted = {d["mail"] for d in ledger.dones if d["outcome"] == OK}
    assert len(accepted) > 10
    assert {s["mail"] for s in ledger.kinds("first_sight")} == accepted
    watch = [e["t"] for e in ledger.kinds("load_state") if e["phase"] == "watch"]
    assert 2e9 < ledger.kinds("load_end")[0]["t"] - watch[0] < 20e9
    assert max(u["t_start"] for u in ledger.userops if u["user"] >= 8) < watch[0] + 100_000_000


def test_watchers_do_not_wait_for_ever(tmp_path: Path):
    with dovecot(12) as box, Sink() as sink:
        ledger = run(spec_for(tmp_path, sink, box, {"steady_rate_per_s": 10, "watchers": 8, "burst_max_s": 1, "tail_s": 0.5, "watch_max_s": 2}))
    watch = [e["t"] for e in ledger.kinds("load_state") if e["phase"] == "watch"]
    assert 1.9e9 < ledger.kinds("load_end")[0]["t"] - watch[0] < 8e9
    assert ledger.kinds("first_sight") == []


def test_a_mail_that_is_never_delivered_is_never_seen(tmp_path: Path):
    """The planted defect: every fifth acknowledged mail is thrown away."""
    lost: set[int] = set()

    with dovecot(12) as box, Sink() as sink:
        count = 0

        def deliver(address: str, octets: bytes) -> None:
            nonlocal count
            count += 1
            if count % 5:
                box.deliver(address, octets)
            else:
                lost.add(int(sink.kept[-1][0].rsplit(".", 1)[1]))

        sink.behaviour.deliver = deliver
        ledger = run(spec_for(tmp_path, sink, box, {"steady_rate_per_s": 15, "watchers": 8, "tail_s": 2}))
    seen = {s["mail"] for s in ledger.kinds("first_sight")}
    assert lost
    assert seen
    assert not seen & lost


def test_readers_notice_a_lost_server_at_once_and_come_back(tmp_path: Path):
    with Sink() as sink, dovecot(12) as box:
        process = engine(spec_for(tmp_path, sink, box, {"watchers": 4, "idle_users": 2, "imap_users": 1, "burst_max_s": 60}))
        log = tmp_path / "load-1.log"
        wait_for(lambda: _logins(log) >= 7, deadline_s=30, what="logins", every_s=0.1)
        master = int((box.root / "run" / "master.pid").read_text())
        kicked = _kick(master)
        wait_for(lambda: len(_kinds(log, "reader_back")) >= 6, deadline_s=30, what="readers to come back", every_s=0.1)
        process.send_signal(signal.SIGTERM)
        assert finish(process, 20)[0] == 0
        ledger = Ledger.read(log)
    assert kicked >= 6
    lost, back = ledger.kinds("reader_lost"), ledger.kinds("reader_back")
    assert {e["user"] for e in back} <= {e["user"] for e in lost}
    assert all(e["proto"] == "imap" and e["why"] for e in lost)
    assert all(0 < e["after_ns"] < 10e9 for e in back)
    assert ledger.end["reason"] == "stopped"


def test_a_wrong_password_is_recorded_as_refused(tmp_path: Path):
    with Sink() as sink, dovecot(12) as box:
        spec = spec_for(tmp_path, sink, box, {"imap_users": 1, "pop_users": 1, "burst_max_s": 3})
        ledger = run(spec.replace(password="wrong"))
    logins = [u for u in ledger.userops if u["op"] == UserOp.LOGIN]
    assert {(Proto(u["proto"]), u["outcome"]) for u in logins} == {(Proto.IMAP, int(Outcome.FAIL)), (Proto.POP3, int(Outcome.FAIL))}
    assert {e["proto"] for e in ledger.kinds("reader_lost")} == {"imap", "pop3"}


def _kinds(log: Path, kind: str) -> list[dict[str, object]]:
    return Ledger.read(log).kinds(kind) if log.exists() else []


def _logins(log: Path) -> int:
    return sum(u["op"] == UserOp.LOGIN and u["outcome"] == OK for u in Ledger.read(log).userops) if log.exists() else 0


def _kick(master: int) -> int:
    """Kill every imap process that the Dovecot of this test started; how many."""
    killed = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (entry / "comm").read_text().strip(), int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if name == "imap" and parent == master:
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
    return killed


def test_marks_and_unique_ids_of_the_load_are_what_the_census_finds(tmp_path: Path):
    """What a real Dovecot said OK to is there afterwards; and a flag that is taken off behind its back is missed."""
    with dovecot(12) as box, Sink(Behaviour(deliver=box.deliver)) as sink:
        spec = spec_for(tmp_path, sink, box, {"steady_rate_per_s": 20, "probe_users": 0, "imap_users": 6, "pop_users": 6, "flag_share": 0.7})
        ledger = run(spec)
        taken = _census(tmp_path, spec.run_id, spec.arm, box)
    marked, popped = ledger.kinds("flagged"), ledger.kinds("uidl")
    assert len(marked) > 10
    assert len(popped) > 10
    copies = {(c["mail"], c["where"]): c for c in taken if c["kind"] == "copy" and c["round"] == 2 and c["source"] == "mailbox"}
    assert {tuple(copies[e["mail"], e["mailbox"]]["flags"]) for e in marked} == {("\\Flagged", "\\Seen")}
    assert any(c["flags"] == [] for c in copies.values())
    validity = {e["where"]: e["uidvalidity"] for e in taken if e["kind"] == "scope" and "uidvalidity" in e}
    assert all(validity[e["mailbox"]] == e["uidvalidity"] for e in (*ledger.kinds("uidvalidity"), *marked))
    uidls = {(mail, e["where"].removesuffix(" by POP3")): uidl for e in taken if e["kind"] == "scope" for mail, uidl in e.get("uidls", ())}
    assert [e for e in popped if uidls[e["mail"], e["mailbox"]] != e["uidl"]] == []


def _census(arm_dir: Path, run_id: str, arm: str, box: Dovecot) -> list[dict[str, Any]]:
    first = tuple(f"user{n}@example.org" for n in range(7, 13))
    take(CensusSpec(run_id, arm, str(arm_dir), "ns", Server("127.0.0.1", box.imap), 12, PASSWORD, pop3=Server("127.0.0.1", box.pop3), pop3_users=1,
                    pop3_first=first, flags=MARKS))
    return [e for e in read_events(arm_dir / "census.log") if isinstance(e, dict)]


CHANGES = {"steady_rate_per_s": 25, "probe_users": 0, "imap_users": 6, "pop_users": 6, "delete_share": 0.3, "move_share": 0.3, "append_share": 0.5}


def test_what_readers_deleted_moved_and_appended_is_what_the_census_meets(tmp_path: Path):
    """A real Dovecot: deleted mail is nowhere, moved mail in its new mailbox alone, appended mail where it was put; all else in the INBOX."""
    with dovecot(12) as box, Sink(Behaviour(deliver=box.deliver)) as sink:
        spec = spec_for(tmp_path, sink, box, CHANGES)
        ledger = run(spec)
        assert not acknowledged(tmp_path) & {(e["mail"], e["mailbox"].partition("/")[0]) for e in ledger.kinds("expunged")}
        taken = _census(tmp_path, spec.run_id, spec.arm, box)
    deleted = {(e["mail"], e["mailbox"]) for e in ledger.kinds("expunged")}
    moved = {(e["mail"], e["mailbox"]) for e in ledger.kinds("moved")}
    by_pop = [e for e in ledger.kinds("expunged") if e["uid"].startswith("pop3:")]
    assert len(by_pop) > 5
    assert len(deleted) - len(by_pop) > 5
    assert len(moved) > 5
    where: dict[int, set[str]] = {}
    for copy in (c for c in taken if c["kind"] == "copy" and c["round"] == 2 and c["source"] == "mailbox"):
        where.setdefault(copy["mail"], set()).add(copy["where"])
    in_doubt = {(e["mail"], e["mailbox"]) for e in (*ledger.kinds("deleting"), *ledger.kinds("moving"))} - deleted - moved
    assert all(mailbox not in where.get(mail, ()) for mail, mailbox in deleted | moved)
    assert all(f"{mailbox.partition('/')[0]}/Archive" in where[mail] for mail, mailbox in moved)
    recipients = ledger.kinds("recipients")[0]["addresses"]
    own = {o["mail"]: recipients[o["rcpt"]] for o in ledger.offers if o["population"] == int(Population.APPENDER)}
    put = {d["mail"] for d in ledger.dones if d["proto"] == Proto.IMAP and d["outcome"] == OK}
    assert len(put) > 5
    assert all(where[mail] == {f"{own[mail]}/Sent"} for mail in put)
    kept = {(d["mail"], f"{recipients[d['rcpt']]}/INBOX") for d in ledger.dones if d["outcome"] == OK and d["mail"] not in own}
    assert all(mailbox in where[mail] for mail, mailbox in kept - deleted - moved - in_doubt)
    done = {UserOp(u["op"]) for u in ledger.userops if u["outcome"] == OK}
    assert done >= {UserOp.STORE, UserOp.EXPUNGE, UserOp.MOVE, UserOp.APPEND, UserOp.DELE}
    assert ledger.kinds("not_offered") == ledger.kinds("reader_lost") == []


def test_every_change_was_on_record_before_its_end(tmp_path: Path):
    with dovecot(12) as box, Sink(Behaviour(deliver=box.deliver)) as sink:
        ledger = run(spec_for(tmp_path, sink, box, CHANGES))
    for begin, end in (("deleting", "expunged"), ("moving", "moved")):
        begun = {(e["mail"], e["mailbox"], e["uid"]): e["t"] for e in ledger.kinds(begin)}
        ended = {(e["mail"], e["mailbox"], e["uid"]): e["t"] for e in ledger.kinds(end)}
        assert ended
        assert all(begun[key] < t for key, t in ended.items())
    assert {m for m, *_ in ledger.outcomes()} == {o["mail"] for o in ledger.offers}


def test_readers_that_share_accounts_may_not_change_them(tmp_path: Path):
    with Sink() as sink, dovecot(12) as box:
        code, errors = finish(engine(spec_for(tmp_path, sink, box, {**CHANGES, "watchers": 1})))
    assert code == 4, errors
    assert "need an account each: 13 with the watchers, but there are 12" in errors

"""Queues, made by hand: damage, orphans, mails that move, waiting for quiet."""

from __future__ import annotations

import base64
import threading

import pytest

from harness.census.canonical import Seen, examine
from harness.census.found import Copy, Scope
from harness.census.queue_file import QueueFileDamaged, parse
from harness.census.queue_reader import DirectoryPlace, read_place, salvage
from harness.census.quiet import wait_for_quiet
from harness.census.spec import CensusSpec, Server
from harness.census.take import merged, take
from harness.store.log import read_events
from tests.servers.mailservers import free_port
from tests.unit.census.mails import ARM, PREFIX, RUN, mail
from tests.unit.census.queuefiles import queue_file, record, spool

TO = ["user1@example.org", "user2@example.org"]


def scopes(root):
    return {s.where.partition(":")[2]: s for s in read_place(DirectoryPlace(root, "mx-0"), PREFIX)}


def test_a_whole_file_and_a_long_line():
    message = mail(1, body=b"x" * 5000 + b"\r\n")
    parsed = parse(queue_file(message, TO[:1], TO[1:]))
    assert (parsed.todo, parsed.done, parsed.sender) == (TO[:1], TO[1:], "a@example.net")
    assert examine(parsed.content, PREFIX) == examine(message, PREFIX)


def test_cut_at_every_octet_it_is_damaged():
    raw = queue_file(mail(1), TO)
    for cut in range(len(raw)):
        with pytest.raises(QueueFileDamaged):
            parse(raw[:cut])


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0" * 50, b"hello", b"N\xff\xff\xff\xff\xff\xff", record("Z", b"x"),
        record("p", b"0000000000000") * 2, record("p", b"-1"), record("p", b"x" * 5), record("p", b"9" * 14),
    ],
)
def test_garbage_is_damage(raw):
    with pytest.raises(QueueFileDamaged):
        parse(raw)


def test_pointers_in_a_circle_end(monkeypatch):
    with pytest.raises(QueueFileDamaged, match="circles"):
        parse(record("T", b"1") + record("p", b"%15d" % 3))


def test_an_unfinished_file_in_incoming_was_never_acknowledged(tmp_path):
    root = spool(tmp_path)
    (root / "incoming/A").write_bytes(queue_file(mail(1), TO, end=False))
    found = scopes(root)["incoming"]
    assert (found.complete, list(found), found.detail["unfinished"]) == (True, [], 1)


@pytest.mark.parametrize(("mode", "copies", "unfinished"), [(0o600, [], 1), (0o700, TO, 0)])
def test_a_file_in_incoming_counts_once_postfix_marks_it_as_whole(tmp_path, mode, copies, unfinished):
    """All octets may be there before the mark is: killed then, the mail is not acknowledged, and qmgr never takes it."""
    root = spool(tmp_path)
    (root / "incoming/A").write_bytes(queue_file(mail(1), TO))
    (root / "incoming/A").chmod(mode)
    found = scopes(root)["incoming"]
    assert ([c.recipient for c in found], found.detail["unfinished"], found.complete) == (copies, unfinished, True)
    assert DirectoryPlace(root, "mx-0").counts()["incoming"] == (1 if copies else 0)


def test_a_damaged_file_elsewhere_is_salvaged_or_makes_the_scope_incomplete(tmp_path):
    root = spool(tmp_path)
    (root / "corrupt/A").write_bytes(queue_file(mail(1), TO)[:-12])
    (root / "corrupt/B").write_bytes(b"\0" * 99 + b"x")
    found = scopes(root)["corrupt"]
    assert [(c.seen.mail, c.recipient) for c in found] == [(1, r) for r in TO]
    assert not found.complete
    assert found.why.startswith("B: ")
    assert scopes(root)["active"].complete


@pytest.mark.parametrize("octets", [b"", b"\0" * 4096])
def test_what_a_power_cut_has_emptied_holds_no_mail_and_was_read(tmp_path, octets):
    root = spool(tmp_path)
    (root / "corrupt/A").write_bytes(octets)
    (root / "deferred/B").write_bytes(octets)  # Postfix has not given this one up yet
    found = scopes(root)
    assert (found["corrupt"].complete, list(found["corrupt"]), found["corrupt"].detail["emptied"]) == (True, [], 1)
    assert not found["deferred"].complete


def test_salvage_keeps_the_hash_of_what_is_left():
    raw = queue_file(mail(1), TO)
    cut = salvage(raw[: raw.index(b"Hello") + 3], PREFIX)
    assert cut is not None
    assert cut[0].sha != examine(mail(1), PREFIX).sha


def test_an_unreadable_spool_is_an_incomplete_scope(tmp_path):
    root = spool(tmp_path)
    (root / "active").rmdir()
    assert not any(s.complete for s in scopes(root).values())


def test_hashed_queues_and_empty_ones(tmp_path):
    root = spool(tmp_path)
    (root / "deferred/A/B").mkdir(parents=True)
    (root / "deferred/A/B/AB12").write_bytes(queue_file(mail(5), TO[:1]))
    found = scopes(root)
    assert [(c.seen.mail, c.uid, c.queue) for c in found["deferred"]] == [(5, "AB12", "deferred")]
    assert found["hold"].complete


def queued(number, queue="active", uid="Q1"):
    return Copy("queue", f"mx-0:{queue}", TO[0], Seen(number, "s"), uid=uid, queue=queue)


def look(*copies, why=""):
    scope = Scope("queue", "mx-0:active", copies=list(copies))
    return [scope.fail(why)] if why else [scope]


def test_two_looks_count_a_mail_once_and_keep_what_either_missed():
    (both,) = merged(look(queued(1)), look(queued(1)), set())
    assert len(both.copies) == 1
    (first_only,) = merged(look(queued(1)), look(), set())
    assert len(first_only.copies) == 1
    (moved,) = merged(look(queued(1)), look(), {(1, TO[0])})
    assert moved.copies == []
    (stayed,) = merged(look(queued(1)), look(queued(1)), {(1, TO[0])})
    assert len(stayed.copies) == 1
    (failed,) = merged(look(why="gone"), look(queued(1)), set())
    assert not failed.complete


@pytest.fixture
def volumes(tmp_path):
    spool(tmp_path / "volumes/ns/spool-mx-0")
    (tmp_path / "volumes/ns/records-internet-0").mkdir()
    return tmp_path / "volumes"


def spec(tmp_path, volumes, **more):
    return CensusSpec(RUN, ARM, str(tmp_path), "ns", Server("127.0.0.1", free_port()), 1, "p", volumes_dir=str(volumes), deadline_s=1.0, **more)


def test_quiet_waits_for_the_queue_and_gives_up_in_time(tmp_path, volumes):
    path = volumes / "ns/spool-mx-0/active/A"
    path.write_bytes(b"x")
    seen = wait_for_quiet(spec(tmp_path, volumes), deadline_s=0.6, stable_s=0.2, every_s=0.1)
    assert (seen.quiet, seen.left, seen.counts) == (False, 1, {"spool-mx-0": {"active": 1}})
    threading.Timer(0.3, path.unlink).start()
    seen = wait_for_quiet(spec(tmp_path, volumes), deadline_s=10, stable_s=0.2, every_s=0.1)
    assert seen.quiet
    assert 0.4 < seen.waited_s < 5


def test_a_volume_that_lost_its_queue_is_neither_quiet_nor_complete(tmp_path, volumes):
    (volumes / "ns/spool-mx-0/active").rmdir()
    seen = wait_for_quiet(spec(tmp_path, volumes), deadline_s=0.3, stable_s=0.1, every_s=0.1)
    assert not seen.quiet
    assert "no such queue directory" in seen.errors[0]
    take(spec(tmp_path, volumes))
    assert not any(e["complete"] for e in read_events(tmp_path / "census.log") if e["kind"] == "scope" and e["source"] == "queue")


def test_a_whole_census_of_volumes_without_a_mail_server(tmp_path, volumes):
    (volumes / "ns/spool-mx-0/deferred/A").write_bytes(queue_file(mail(9), TO))
    line = b'{"kind":"mail","host":"internet-0","client":"10.0.0.9","rcpts":["x@example.net"],"message":"%b"}\n'
    (volumes / "ns/records-internet-0/internet-0.jsonl").write_bytes(
        line % base64.b64encode(mail(8)) + b'{"kind":"refused"}\n' + b'{"kind":"mail","rcpts":["cut'
    )
    take(spec(tmp_path, volumes))
    events = list(read_events(tmp_path / "census.log"))
    copies = [(e["round"], e["source"], e["mail"], e["recipient"]) for e in events if e["kind"] == "copy"]
    one = [("sink", 8, "x@example.net"), ("queue", 9, TO[0]), ("queue", 9, TO[1])]
    assert copies == [(n, *c) for n in (1, 2) for c in one]
    incomplete = {e["where"] for e in events if e["kind"] == "scope" and not e["complete"]}
    assert incomplete == {"user1@example.org/*"}


def test_a_sink_record_that_does_not_read_is_an_incomplete_scope(tmp_path, volumes):
    (volumes / "ns/records-internet-0/internet-0.jsonl").write_bytes(b'{"kind":"mail","rcpts":["x"],"message":"?"}\nnonsense\n')
    take(spec(tmp_path, volumes))
    events = [e for e in read_events(tmp_path / "census.log") if e["kind"] == "scope" and e["source"] == "sink"]
    assert [(e["complete"], e["found"]) for e in events] == [(False, 0)] * 2


def test_a_census_that_breaks_leaves_no_end_mark(tmp_path, monkeypatch):
    """With one, half a census would count as taken, and its arm as finished."""

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("harness.census.take.merged", broken)
    spec = CensusSpec(RUN, ARM, str(tmp_path), "n", Server("127.0.0.1", free_port()), 1, "x", deadline_s=2)
    with pytest.raises(ZeroDivisionError):
        take(spec)
    kinds = [e["kind"] for e in read_events(tmp_path / "census.log")]
    assert "log_opened" in kinds
    assert "log_closed" not in kinds


def test_of_many_reasons_the_first_are_kept():
    scope = Scope("queue", "mx-0:corrupt")
    for n in range(1000):
        scope.fail(f"file {n} is damaged")
    assert scope.why.startswith("file 0 is damaged; file 1 ")
    assert scope.why.endswith("; …")
    assert len(scope.why) < 600

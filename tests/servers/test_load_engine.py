"""The real engine against a real, misbehaving SMTP server: every mail is accounted for, whatever happens."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.census.canonical import examine
from harness.load.spec import Access
from harness.model.outcome import Deferral, Outcome, Stage
from harness.support.clock import wait_for
from tests.servers.load_runs import Ledger, engine, finish, make_spec, run
from tests.servers.load_sink import Behaviour, Sink

OK, FAIL, INFO = int(Outcome.OK), int(Outcome.FAIL), int(Outcome.INFO)


def acknowledged(sink: Sink, ledger: Ledger) -> Counter[tuple[int, int]]:
    """What the server acknowledged, as (mail, recipient index)."""
    index = {a: i for i, a in enumerate(ledger.kinds("recipients")[0]["addresses"])}
    return Counter((int(trace.rsplit(".", 1)[1]), index[address]) for trace, address in sink.recipients)


def agrees(sink: Sink, ledger: Ledger) -> None:
    """Every acknowledgement the server wrote is an OK or in doubt; every OK was written by the server; all counted once."""
    outcomes = ledger.outcomes()
    offered = {(o["mail"], o["rcpt"]) for o in ledger.offers}
    assert set(outcomes) <= offered
    written = acknowledged(sink, ledger)
    for pair, n in written.items():
        found = Counter(outcomes[pair])
        assert found[OK] <= n <= found[OK] + found[INFO], (pair, outcomes[pair], n)
    assert {p for p, found in outcomes.items() if OK in found} <= set(written)
    assert all(OK not in found[:-1] for found in outcomes.values()), "sent again after it was accepted"


AHEAD = pytest.mark.parametrize("ahead", [False, True], ids=["a round trip each", "behind the dot"])


@AHEAD
def test_a_well_behaved_server_gets_everything_once(tmp_path: Path, ahead: bool):
    with Sink() as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 4, "backlog_per_sender": 100, "burst_max_s": 30, "ahead": ahead}))
    agrees(sink, ledger)
    assert {o["mail"] for o in ledger.offers} == set(range(1, 401))
    assert all(found == [OK] for found in ledger.outcomes().values())
    assert set(ledger.outcomes()) == {(o["mail"], o["rcpt"]) for o in ledger.offers}
    end = ledger.end
    assert (end["reason"], end["accepted"], end["offered"], end["in_flight"]) == ("done", len(ledger.offers), len(ledger.offers), 0)
    assert sink.connections <= 4 * (100 / 20 + 2)
    assert ledger.kinds("load_state") == [] or ledger.kinds("load_state")[-1]["lag_p99_ms"] < 1000


@AHEAD
def test_every_mail_is_accounted_for_when_much_goes_wrong(tmp_path: Path, ahead: bool):
    behaviour = Behaviour(
        at_banner=lambda n: "421 4.3.2 too busy" if n % 11 == 3 else "",
        at_rcpt=lambda n, address: "450 4.7.1 Rate limit exceeded" if n % 7 == 2 else "550 5.1.1 no such user" if n % 41 == 5 else "",
        at_dot=lambda n, trace: {4: "cut", 9: "drop", 13: "451 4.3.0 try again"}.get(n % 23, ""),
    )
    with Sink(behaviour) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {
            "elastic_senders": 5, "backlog_per_sender": 40, "steady_rate_per_s": 20, "warmup_s": 0.5, "tail_s": 0.5, "burst_max_s": 25,
            "ahead": ahead}))
    agrees(sink, ledger)
    every = Counter(o for found in ledger.outcomes().values() for o in found)
    assert set(every) == {OK, FAIL, INFO}
    assert every[OK] == ledger.end["accepted"]
    final = Counter(found[-1] for found in ledger.outcomes().values())
    assert final[OK] > 0.9 * len(ledger.outcomes())
    by = {(d["stage"], d["code"], d["deferral"]) for d in ledger.dones}
    assert (Stage.RCPT, 450, Deferral.PLANNED_LIMIT) in by
    assert (Stage.DOT, 451, Deferral.SYSTEM) in by
    assert any(stage == Stage.BANNER and code == 421 for stage, code, _ in by)
    assert any(code == 550 for _, code, _ in by)
    assert {(e["code"], e["stage"]) for e in ledger.kinds("reply")} >= {(450, "rcpt"), (451, "dot"), (550, "rcpt")}


def test_a_mail_in_doubt_is_sent_again_as_the_next_attempt(tmp_path: Path):
    with Sink(Behaviour(at_dot=lambda n, trace: "cut" if n == 0 else "")) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 1, "backlog_per_sender": 1, "recipients_max": 1, "burst_max_s": 20}))
    assert list(ledger.outcomes().values()) == [[INFO, OK]]
    assert [(d["stage"], d["attempt"]) for d in ledger.dones] == [(Stage.DOT, 1), (Stage.DOT, 2)]
    assert len(sink.kept) == 2


def test_a_cut_behind_the_dot_leaves_one_in_doubt_and_one_not_sent(tmp_path: Path):
    """The first mail's dot went out with the second's envelope: the first is in doubt, the second surely was not sent, a third not touched."""
    with Sink(Behaviour(at_dot=lambda n, trace: "cut" if n == 0 else "")) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {
            "elastic_senders": 1, "backlog_per_sender": 3, "connections_per_sender": 1, "recipients_max": 1, "burst_max_s": 20, "ahead": True}))
    agrees(sink, ledger)
    assert {mail: found for (mail, _), found in ledger.outcomes().items()} == {1: [INFO, OK], 2: [FAIL, OK], 3: [OK]}
    first = {d["mail"]: d["stage"] for d in ledger.dones if d["attempt"] == 1}
    assert first == {1: Stage.DOT, 2: Stage.MAIL, 3: Stage.DOT}


def test_a_lost_connection_costs_no_mail_that_was_not_on_it(tmp_path: Path):
    with Sink(Behaviour(at_dot=lambda n, trace: "cut" if n == 0 else "")) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {
            "elastic_senders": 1, "backlog_per_sender": 2, "connections_per_sender": 1, "recipients_max": 1, "burst_max_s": 20}))
    assert sorted(ledger.outcomes().values()) == [[OK], [INFO, OK]]


def test_5xx_is_final_and_4xx_is_not(tmp_path: Path):
    with Sink(Behaviour(at_rcpt=lambda n, address: "550 5.1.1 unknown" if n % 2 else "")) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 1, "backlog_per_sender": 40, "burst_max_s": 20}))
    agrees(sink, ledger)
    assert {tuple(f) for f in ledger.outcomes().values()} == {(OK,), (FAIL,)}
    assert ledger.end["rejected"] > 10


def test_retries_follow_the_schedule(tmp_path: Path):
    with Sink(Behaviour(at_rcpt=lambda n, address: "450 4.7.1 Rate limit" if n < 4 else "")) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {
            "elastic_senders": 1, "backlog_per_sender": 1, "recipients_max": 1, "burst_max_s": 20, "backoff_jitter": 0.0, "max_backoff_s": 60}))
    begun = [i["t"] for i in sorted(ledger.invokes, key=lambda i: i["attempt"])]
    ended = [d["t"] for d in sorted(ledger.dones, key=lambda d: d["attempt"])]
    waits = [(b - e) / 1e9 for e, b in zip(ended, begun[1:], strict=False)]
    assert waits == pytest.approx([0.3, 0.6, 0.6, 0.6], abs=0.1)


def test_a_server_that_refuses_connections_is_left_alone_for_a_while(tmp_path: Path):
    with Sink() as sink:
        port = sink.port
    ledger = run(make_spec(tmp_path, port, {"elastic_senders": 1, "backlog_per_sender": 50, "connections_per_sender": 5, "burst_max_s": 2}))
    assert ledger.end["reason"] == "deadline"
    assert 1 <= len({(i["mail"], i["attempt"]) for i in ledger.invokes}) <= 20
    assert {(d["outcome"], d["stage"], d["code"]) for d in ledger.dones} == {(FAIL, Stage.CONNECT, 0)}
    assert len({o["mail"] for o in ledger.offers}) == 50


@AHEAD
def test_sigkill_loses_no_acknowledged_mail_from_the_record(tmp_path: Path, ahead: bool):
    with Sink() as sink:
        process = engine(make_spec(tmp_path, sink.port, {"elastic_senders": 8, "backlog_per_sender": 2000, "burst_max_s": 60, "ahead": ahead}))
        wait_for(lambda: len(sink.acknowledged) > 400, deadline_s=30, what="mails", every_s=0.01)
        process.kill()
        finish(process)
        ledger = Ledger.read(tmp_path / "load-1.log")
    assert process.returncode == -signal.SIGKILL
    assert not ledger.kinds("log_closed")
    invoked = {(i["mail"], i["rcpt"]) for i in ledger.invokes}
    assert set(acknowledged(sink, ledger)) <= invoked
    agrees(sink, ledger)
    assert {i["mail"] for i in ledger.invokes} >= {int(t.rsplit(".", 1)[1]) for t, _ in sink.kept}


def test_a_ledger_written_too_late_would_be_found(tmp_path: Path):
    """The planted defect of the test above: without one INVOKE row the same comparison turns red."""
    with Sink() as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 1, "backlog_per_sender": 5, "recipients_max": 1, "burst_max_s": 20}))
    lost = ledger.invokes.pop()
    ledger.dones = [d for d in ledger.dones if d["mail"] != lost["mail"]]
    assert not set(acknowledged(sink, ledger)) <= {(i["mail"], i["rcpt"]) for i in ledger.invokes}
    with pytest.raises(AssertionError):
        agrees(sink, ledger)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of input"])
def test_a_stop_closes_the_log(tmp_path: Path, how: str):
    with Sink() as sink:
        spec = make_spec(tmp_path, sink.port, {"steady_rate_per_s": 50, "burst_max_s": 60})
        process = engine(spec, "--steered", stdin=subprocess.PIPE)
        wait_for(lambda: len(sink.acknowledged) > 20, deadline_s=30, what="mails", every_s=0.01)
        if how == "end of input":
            assert process.stdin
            process.stdin.close()
            process.stdin = None
        else:
            process.send_signal(getattr(signal, how))
        assert finish(process, 20)[0] == 0
        ledger = Ledger.read(tmp_path / "load-1.log")
    assert ledger.end["reason"] == "stopped"
    assert ledger.events[-1]["kind"] == "log_closed"
    agrees(sink, ledger)


def test_a_stop_leaves_what_hangs_in_doubt(tmp_path: Path):
    with Sink(Behaviour(frozen=lambda seconds: seconds > 0.5)) as sink:
        process = engine(make_spec(tmp_path, sink.port, {"steady_rate_per_s": 50, "burst_max_s": 60}))
        wait_for(lambda: sink.connections > 40, deadline_s=30, what="connections", every_s=0.01)
        process.send_signal(signal.SIGTERM)
        assert finish(process, 30)[0] == 0
        ledger = Ledger.read(tmp_path / "load-1.log")
    assert len(ledger.dones) < len(ledger.invokes)
    assert ledger.end["in_flight"] > 0
    agrees(sink, ledger)


def test_the_same_seed_offers_the_same_mails(tmp_path: Path):
    offers = []
    for arm, seed in (("1-a", 5), ("2-b", 5), ("3-c", 6)):
        out = tmp_path / arm
        out.mkdir()
        with Sink() as sink:
            ledger = run(make_spec(out, sink.port, {"elastic_senders": 3, "backlog_per_sender": 30, "burst_max_s": 20}, arm=arm, seed=seed))
        offers.append([(o["mail"], o["rcpt"], o["sender"], o["size"], o["flags"], o["sha"]) for o in ledger.offers])
    assert offers[0] == offers[1]
    assert offers[0] != offers[2]


@pytest.mark.slow
def test_a_frozen_server_shows_in_the_latency_from_the_due_time(tmp_path: Path):
    """200/s for 8 s, frozen from 2 s to 5 s: of 1,600 mails 600 wait, the first of them 3 s, so p95 is at least 3 s · (1 − 80/600) = 2.6 s.

    How much more depends on how fast the server digests what waited; it says itself when it acknowledged each mail, which is the truth
    that the engine's figures must match.
    """
    with Sink() as sink:
        process = engine(make_spec(tmp_path, sink.port, {
            "steady_rate_per_s": 200, "steady_arrivals": "constant", "burst_max_s": 8, "size_median_bytes": 500, "size_sigma": 0.1,
            "size_tail_share": 0.0}))
        wait_for(lambda: sink.connections > 0, deadline_s=30, what="the first mail", every_s=0.001)
        sink.begun = time.monotonic()
        sink.behaviour.frozen = lambda seconds: 2 <= seconds < 5
        assert finish(process, 60)[0] == 0
    ledger = Ledger.read(tmp_path / "load-1.log")
    due = {o["mail"]: o["t_due"] for o in ledger.offers}
    measured = sorted((d["t"] - due[d["mail"]]) / 1e9 for d in ledger.dones if d["outcome"] == OK)
    truth = sorted((t - due[int(trace.rsplit(".", 1)[1])]) / 1e9 for trace, t in zip(sink.acknowledged, sink.acknowledged_ns, strict=True))
    assert len(measured) == len(truth) == pytest.approx(1600, abs=10)
    p95 = truth[int(len(truth) * 0.95)]
    assert p95 > 2.6 * 0.95
    assert measured[int(len(measured) * 0.95)] == pytest.approx(p95, rel=0.05)
    assert ledger.end["steps"]["smtp mail from due"]["p95_ms"] == pytest.approx(p95 * 1000, rel=0.05)
    assert p95 > 10 * sum(sorted((d - i) / 1e9 for i, d in _service_times(ledger))[:800]) / 800, "half of the mails saw no freeze"


def _service_times(ledger: Ledger) -> list[tuple[int, int]]:
    begun = {i["mail"]: i["t"] for i in ledger.invokes}
    return [(begun[d["mail"]], d["t"]) for d in ledger.dones]


def test_addresses_outside_the_allow_list_are_refused(tmp_path: Path):
    spec = make_spec(tmp_path, 25, {"steady_rate_per_s": 1}, endpoints={"mx": Access(("192.0.2.1",), 25)}, allow=("198.51.100.0/24",))
    code, errors = finish(engine(spec))
    assert code == 7
    assert "192.0.2.1" in errors
    assert not (tmp_path / "load-1.log").exists()


@pytest.mark.parametrize(("params", "word"), [({"imap_users": 2}, "imap"), ({}, "no population"), ({"steady_rat": 2}, "steady_rate_per_s")])
def test_specs_that_cannot_be_carried_out_are_refused(tmp_path: Path, params, word):
    code, errors = finish(engine(make_spec(tmp_path, 2525, {}).replace(params=params)))
    assert code == 4
    assert word in errors


def test_clients_differ_and_repeat(tmp_path: Path):
    with Sink() as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 8, "backlog_per_sender": 1, "steady_rate_per_s": 20, "burst_max_s": 5}))
    senders = ledger.kinds("senders")[0]
    assert len(senders["addresses"]) == len(senders["clients"]) == 16
    assert len(set(senders["clients"])) == 16
    assert sum(":" in c for c in senders["clients"]) == 4
    assert {o["sender"] for o in ledger.offers if o["population"] == 1} == set(range(8))
    for a, b in itertools.pairwise(sorted(o["t_due"] for o in ledger.offers)):
        assert a <= b


def test_a_full_disk_ends_the_load(tmp_path: Path):
    """Nothing is sent that could not be recorded: the log's file size is limited, as a full disk would limit it."""
    with Sink() as sink:
        spec = make_spec(tmp_path, sink.port, {"elastic_senders": 4, "backlog_per_sender": 2000, "burst_max_s": 60})
        limit = 600_000

        def small() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        code, errors = finish(engine(spec, preexec_fn=small))
        ledger = Ledger.read(tmp_path / "load-1.log")
    assert code == 3, errors
    assert os.path.getsize(tmp_path / "load-1.log") <= limit
    assert set(acknowledged(sink, ledger)) <= {(i["mail"], i["rcpt"]) for i in ledger.invokes}


def test_a_closed_loop_sends_its_number_over_its_connections(tmp_path: Path):
    with Sink() as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"messages": 500, "messages_connections": 12, "mails_per_connection": 1000, "probe_users": 0}))
    agrees(sink, ledger)
    assert {o["mail"] for o in ledger.offers} == set(range(1, 501))
    assert sink.connections == 12
    assert len(set(sink.clients)) <= 12
    assert ledger.end["reason"] == "done"
    assert ledger.end["load_cpu_s"] > 0
    assert ledger.end["peak_rss_bytes"] >= ledger.end["rss_bytes"] > 0
    assert [s["phase"] for s in ledger.kinds("load_state")][:1] == ["burst"]
    due = {o["mail"]: o["t_due"] for o in ledger.offers}
    assert all(0 <= i["t"] - due[i["mail"]] < 1e9 for i in ledger.invokes), "a mail of a closed loop is made when it is sent"


def test_a_closed_loop_retries_and_ends_at_its_deadline(tmp_path: Path):
    flaky = Behaviour(at_rcpt=lambda n, a: "451 4.3.0 later" if n % 9 == 4 else "", at_dot=lambda n, t: "cut" if n % 31 == 8 else "")
    with Sink(flaky) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"messages": 200, "messages_connections": 5, "burst_max_s": 30}))
    agrees(sink, ledger)
    assert ledger.end["reason"] == "done"
    assert all(found[-1] == OK for found in ledger.outcomes().values())
    second = tmp_path / "frozen"
    second.mkdir()
    with Sink(Behaviour(frozen=lambda s: True)) as sink:
        begin = time.monotonic()
        ledger = run(make_spec(second, sink.port, {"messages": 1000, "messages_connections": 5, "burst_max_s": 1, "drain_s": 1}))
    assert time.monotonic() - begin < 15
    assert ledger.end["reason"] == "deadline"
    assert len({o["mail"] for o in ledger.offers}) == 5, "mails are not made before a connection is free"


def test_connections_come_from_a_pool_of_addresses(tmp_path: Path):
    """Each sender keeps to its own, so that a server that counts by address counts by sender."""
    pool = ("127.0.0.7", "127.0.0.8", "127.0.0.9")
    with Sink() as sink:
        load = {"elastic_senders": 4, "backlog_per_sender": 5, "burst_max_s": 20, "reuse": False}
        ledger = run(make_spec(tmp_path, sink.port, load, sources=(*pool, "::1")))
    assert Counter(sink.clients) == {"127.0.0.7": 10, "127.0.0.8": 5, "127.0.0.9": 5}
    agrees(sink, ledger)


def test_a_pool_of_the_other_family_is_refused(tmp_path: Path):
    code, errors = finish(engine(make_spec(tmp_path, 25, {"steady_rate_per_s": 1}, sources=("::1",))))
    assert code == 4
    assert "of the other family" in errors


EXTENDED = {"elastic_senders": 4, "backlog_per_sender": 100, "burst_max_s": 30, "smtputf8_share": 0.5, "dsn_share": 0.5, "dsn_notify": "SUCCESS,DELAY",
            "dsn_ret": "FULL", "recipients_max": 1}


@AHEAD
def test_internationalised_mail_and_notifications_where_they_are_offered(tmp_path: Path, ahead: bool):
    with Sink(Behaviour(extensions=("SMTPUTF8", "DSN"))) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {**EXTENDED, "ahead": ahead}))
    agrees(sink, ledger)
    assert all(found == [OK] for found in ledger.outcomes().values())
    flags = Counter(f for o in ledger.offers for f in (16, 32) if o["flags"] & f)
    mails = [c for c in sink.commands if c.startswith("MAIL")]
    utf8 = [c for c in mails if c.endswith("SMTPUTF8") or " SMTPUTF8 " in c]
    asked = [c for c in mails if " RET=FULL ENVID=run.1-a." in c]
    assert len(utf8) == flags[16] > 150
    assert all(".grüße@" in c and " BODY=8BITMIME" in c for c in utf8)
    assert len(asked) == sum(c.endswith(" NOTIFY=SUCCESS,DELAY") for c in sink.commands) == flags[32] > 150
    assert ledger.kinds("not_offered") == []
    traces = dict(sink.kept)
    assert all(("Jörg" in traces[f"run.1-a.{o['mail']}"].decode()) == bool(o["flags"] & 16) for o in ledger.offers)


@AHEAD
def test_where_they_are_not_offered_the_one_is_refused_for_good_and_the_other_goes_without(tmp_path: Path, ahead: bool):
    with Sink() as sink:
        ledger = run(make_spec(tmp_path, sink.port, {**EXTENDED, "ahead": ahead}))
    agrees(sink, ledger)
    kinds = {(o["mail"], o["rcpt"]): o["flags"] for o in ledger.offers}
    assert ledger.outcomes() == {p: [FAIL] if flags & 16 else [OK] for p, flags in kinds.items()}
    failed = [d for d in ledger.dones if d["outcome"] == FAIL]
    assert {(d["stage"], d["code"], d["enhanced"]) for d in failed} == {(int(Stage.MAIL), 0, 50607)}
    assert not any("SMTPUTF8" in c or "NOTIFY" in c or "RET=" in c for c in sink.commands)
    assert sorted((e["proto"], e["extension"]) for e in ledger.kinds("not_offered")) == [("smtp", "DSN"), ("smtp", "SMTPUTF8")]
    assert [e["enhanced"] for e in ledger.kinds("reply") if not e["code"]] == ["5.6.7"]
    assert (ledger.end["reason"], ledger.end["rejected"]) == ("done", len(failed))


def test_users_with_addresses_in_utf8_get_what_was_meant_for_them(tmp_path: Path):
    users = tmp_path / "users.csv"
    users.write_text("jörg@example.org,x\nuser2@example.org,x\n")
    with Sink(Behaviour(extensions=("SMTPUTF8",))) as sink:
        ledger = run(make_spec(tmp_path, sink.port, {"elastic_senders": 2, "backlog_per_sender": 60, "probe_users": 0, "size_median_bytes": 20_000},
                               user_file=str(users), users=0))
    agrees(sink, ledger)
    assert all(found == [OK] for found in ledger.outcomes().values())
    assert any("<jörg@example.org>" in c for c in sink.commands)
    offered = {f"run.1-a.{o['mail']}": o["sha"].hex() for o in ledger.offers}
    assert {trace: examine(octets.replace(b"\r\n..", b"\r\n."), "run.1-a.").sha for trace, octets in sink.kept} == offered

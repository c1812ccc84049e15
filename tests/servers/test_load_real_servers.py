"""`mailgale load` against Postfix, Exim and Dovecot as Debian ships them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.outcome import MailFlag, Outcome, Proto
from harness.support.clock import wait_for
from tests.servers.certificates import make_certificate
from tests.servers.load_commands import judge, load, user_file
from tests.servers.load_peers import exim, postfix_lmtp
from tests.servers.load_runs import Ledger, make_spec, run
from tests.servers.mailservers import Dovecot, Postfix, dovecot

pytestmark = pytest.mark.slow
USERS = 20


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stack(tls: tuple[Path, Path]) -> Iterator[tuple[Postfix, Dovecot]]:
    with dovecot(USERS, tls, lmtp=True) as box, postfix_lmtp(box, tls) as mx:
        yield mx, box


def words(tmp_path: Path, stack: tuple[Postfix, Dovecot], *more: str) -> tuple[str, ...]:
    mx, box = stack
    return (
        "--smtp", f"127.0.0.1:{mx.port}", "--submission", f"127.0.0.1:{mx.port}", "--imap", f"127.0.0.1:{box.imap}", "--pop3", f"127.0.0.1:{box.pop3}",
        "--user-file", user_file(tmp_path, USERS), *more,
    )


@pytest.mark.parametrize(
    ("scenario", "more"),
    [
        ("mx", ("--rate", "40/s", "--duration", "5s")),
        ("mx", ("--messages", "1000", "--connections", "20", "--tls", "starttls")),
        ("submission", ("--rate", "10/s", "--duration", "5s", "--tls", "starttls")),
        ("submission", ("--messages", "200", "--connections", "10")),
        ("mixed", ("--rate", "30/s", "--duration", "6s")),
        ("friday", ("--rate", "20/s", "--duration", "6s")),
        ("friday", ("--messages", "400", "--connections", "40")),
    ],
    ids=["mx", "mx-closed-starttls", "submission-starttls", "submission-closed", "mixed", "friday-step", "friday-backlog"],
)
def test_postfix_and_dovecot_deliver_everything_once(tmp_path: Path, stack: tuple[Postfix, Dovecot], scenario: str, more: tuple[str, ...]):
    answer = load(tmp_path, scenario, *words(tmp_path, stack, *more))
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    data = answer.data
    assert data["accepted"] == data["offered"] == data["delivered"] > 20
    assert [data[k] for k in ("lost", "duplicated", "corrupted", "misdelivered", "undetermined", "rejected")] == [0] * 6
    proto = "submission" if scenario == "submission" else "smtp"
    assert data["latency"][f"{proto} mail"]["count"] > 20
    if "--tls" in more:
        assert data["latency"][f"{proto} tls"]["count"] > 0
    if scenario == "mixed":
        assert data["latency"]["submission mail"]["count"] > 10
        assert answer.check("availability")["figures"]["imap_operations"] > 10
    again = judge(answer.run)
    assert (again.code, again.data["sentence"]) == (0, data["sentence"])


def test_readers_alone(tmp_path: Path, stack: tuple[Postfix, Dovecot]):
    _, box = stack
    answer = load(
        tmp_path, "users", "--imap", f"127.0.0.1:{box.imap}", "--pop3", f"127.0.0.1:{box.pop3}", "--user-file", user_file(tmp_path, USERS),
        "--connections", "12", "--duration", "4s", "--set", "think_s=0.2",
    )
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    figures = answer.check("availability")["figures"]
    assert figures["imap_operations"] > 50
    assert figures["pop3_operations"] > 10


def test_exim_delivers_everything_once(tmp_path: Path):
    with dovecot(USERS, lmtp=True) as box, exim(box) as port:
        answer = load(
            tmp_path, "mx", "--smtp", f"127.0.0.1:{port}", "--imap", f"127.0.0.1:{box.imap}", "--user-file", user_file(tmp_path, USERS),
            "--messages", "300", "--connections", "10",
        )
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    assert answer.data["accepted"] == answer.data["delivered"] == 300
    assert [answer.data[k] for k in ("lost", "duplicated", "corrupted", "misdelivered")] == [0] * 4


def test_mail_removed_behind_the_servers_back_is_lost(tmp_path: Path, stack: tuple[Postfix, Dovecot]):
    """A recipient that the server takes and throws away: his Maildir is emptied before the census."""
    _, box = stack
    with removing(box, "user3@example.org"):
        answer = load(tmp_path, "mx", *words(tmp_path, stack, "--messages", "200", "--connections", "10", "--settle", "3s"))
    assert answer.code == 1, (answer.data.get("sentence"), answer.errors)
    assert answer.failed() == {"no-loss"}
    assert answer.data["lost"] > 0
    assert all("to user3@example.org: lost" in line for line in answer.check("no-loss")["evidence"])


def removing(box: Dovecot, address: str):
    import threading
    from contextlib import contextmanager

    @contextmanager
    def scope() -> Iterator[None]:
        end = threading.Event()

        def work() -> None:
            while not end.wait(0.002):
                for folder in ("new", "cur"):
                    for path in (box.root / "mail" / address / folder).glob("*"):
                        path.unlink(missing_ok=True)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            end.set()
            worker.join()

    return scope()


CHANGING = ("--rate", "30/s", "--duration", "6s", "--set", "think_s=0.1", "--settle", "30s")


def test_readers_that_delete_move_and_append_lose_nothing(tmp_path: Path, stack: tuple[Postfix, Dovecot]):
    shares = ("--set", "delete_share=0.3", "--set", "move_share=0.3", "--set", "append_share=0.3")
    answer = load(tmp_path, "mixed", *words(tmp_path, stack, *CHANGING, *shares))
    assert answer.code == 0, (answer.data.get("sentence"), answer.errors)
    data = answer.data
    assert data["accepted"] == data["offered"] == data["delivered"] > 150
    assert [data[k] for k in ("lost", "duplicated", "corrupted", "misdelivered", "undetermined", "rejected")] == [0] * 6
    ledger = Ledger.read(next(answer.run.glob("arms/*/load-1.log")))
    deleted, moved = {(e["mail"], e["mailbox"]) for e in ledger.kinds("expunged")}, ledger.kinds("moved")
    appended = [d for d in ledger.dones if d["proto"] == Proto.IMAP and d["outcome"] == Outcome.OK]
    assert min(len(deleted), len(moved), len(appended)) > 5
    assert answer.check("no-loss")["figures"]["deleted"] == len(deleted)
    assert any(e["uid"].startswith("pop3:") for e in ledger.kinds("expunged"))
    assert judge(answer.run).code == 0


def test_deleted_mail_that_comes_back_is_seen(tmp_path: Path, stack: tuple[Postfix, Dovecot]):
    """Whatever is deleted from one Maildir is put back into it."""
    _, box = stack
    with putting_back(box, [f"user{n}@example.org" for n in range(1, 11)]) as back:
        answer = load(tmp_path, "mixed", *words(tmp_path, stack, *CHANGING, "--set", "delete_share=1"))
    assert back
    assert answer.code == 1, (answer.data.get("sentence"), answer.errors)
    assert "integrity" in answer.failed()
    assert answer.check("integrity")["figures"]["resurrected"] > 0
    assert "no-loss" not in answer.failed()


def putting_back(box: Dovecot, addresses: list[str]):
    """Remembers every message file of these users' INBOXes; one that is gone is delivered once more."""
    import threading
    from contextlib import contextmanager, suppress

    @contextmanager
    def scope() -> Iterator[list[str]]:
        end, back = threading.Event(), list[str]()

        def work() -> None:
            known: dict[tuple[str, str], bytes] = {}
            while not end.wait(0.005):
                here = {(a, p.name.partition(":")[0]): p for a in addresses for f in ("new", "cur") for p in (box.root / "mail" / a / f).glob("*")}
                for key, path in here.items():
                    if key not in known:
                        with suppress(OSError):
                            known[key] = path.read_bytes()
                for key in [k for k in known if k not in here and k not in back_keys]:
                    back_keys.add(key)
                    if not [p for f in ("new", "cur") for p in (box.root / "mail" / key[0] / f).glob(f"{key[1]}*")]:
                        box.deliver(key[0], known[key])
                        back.append(key[1])

        back_keys: set[tuple[str, str]] = set()
        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield back
        finally:
            end.set()
            worker.join()

    return scope()


def test_postfix_takes_internationalised_mail_and_wishes_for_notifications(tmp_path: Path):
    """Accepted from us with SMTPUTF8, RET and NOTIFY, as Postfix's own log tells it; what its next hop says to UTF-8 is not the load's matter."""
    with dovecot(USERS, lmtp=True) as box, postfix_lmtp(box) as mx:
        ledger = run(make_spec(tmp_path, mx.port, {
            "elastic_senders": 4, "backlog_per_sender": 30, "burst_max_s": 30, "smtputf8_share": 0.4, "dsn_share": 0.4, "dsn_notify": "SUCCESS"}))
        wanted = sum(bool(o["flags"] & MailFlag.DSN and not o["flags"] & MailFlag.SMTPUTF8) for o in ledger.offers)
        log = Path(f"/var/log/mailgale-test-{mx.port}.log")
        wait_for(lambda: log.read_text().count("sender delivery status notification") > wanted // 3, deadline_s=30, what="Postfix to notify senders")
        said = log.read_text()
    assert {d["outcome"] for d in ledger.dones} == {int(Outcome.OK)}
    assert sum(bool(o["flags"] & MailFlag.SMTPUTF8) for o in ledger.offers) > 20
    assert wanted > 20
    assert ledger.kinds("not_offered") == []
    assert "grüße@example.net" in said
    assert "sender delivery status notification" in said


def test_exim_without_notifications_says_so(tmp_path: Path):
    """Debian's light Exim offers DSN only where dsn_advertise_hosts is set, and the load without it is not the one that was asked for."""
    with dovecot(USERS, lmtp=True) as box, exim(box) as port:
        answer = load(
            tmp_path, "mx", "--smtp", f"127.0.0.1:{port}", "--imap", f"127.0.0.1:{box.imap}", "--user-file", user_file(tmp_path, USERS),
            "--messages", "150", "--connections", "10", "--set", "dsn_share=0.5",
        )
    assert answer.code == 5, (answer.data.get("sentence"), answer.errors)
    assert "offers no DSN (smtp)" in answer.check("load-was-real")["reason"]
    assert answer.data["accepted"] == answer.data["delivered"] == 150

"""`mailgale load` against Postfix, Exim and Dovecot as Debian ships them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.certificates import make_certificate
from tests.servers.load_commands import judge, load, user_file
from tests.servers.load_peers import exim, postfix_lmtp
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

"""What a census is told: one JSON file, so that it can run as a process of its own and be repeated by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.model.target import Node, Target

ROUNDS = (1, 2)
#: What the second reader of a round has at least, when the first one took the round's time.
POP_LEAST_S = 10.0
#: For queues, sinks and what is written, of both rounds.
_BESIDE_S = 60.0


@dataclass(frozen=True)
class Server:
    """Where a reader connects. ``tls``: from the first octet (993, 995); ``starttls``: after STARTTLS or STLS; otherwise in the clear."""

    host: str
    port: int
    tls: bool = False
    starttls: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether a TLS context is needed."""
        return self.tls or self.starttls


@dataclass(frozen=True)
class CensusSpec:
    """Everything a census needs.

    :param run: run id; with ``arm`` (``<block>-<arm>``) it is the prefix of every trace.
    :param arm_dir: directory of the arm; ``census.log`` is written there.
    :param imap: the edge's IMAP port; None = mailboxes are read by POP3 alone, which shows the INBOX only.
    :param pop3: the edge's POP3 port, None = no second reader.
    :param password: of every user; users are ``user1@<mail_domain>`` … ``user<users>@<mail_domain>``; or
    :param accounts: (address, password) of each user instead.
    :param ca_pem: the run's CA. Its chain is verified; the name is not, since the edge is reached by address.
    :param verify: false: certificates are not verified at all.
    :param survey: a survey was taken before the load (``survey.log``): what was in the mailboxes then is not read.
    :param settle_s: longest wait for acknowledged mail to arrive before the first round (0: none). For targets whose queues cannot be
        listed.
    :param volumes_dir: host directory of all volumes, ``<namespace>/<claim>`` beneath it; "" where there is none.
    :param target: the Target as plain JSON (``dataclasses.asdict``): how queues are read in pods and which pods run; None
        where there is no cluster to ask (then ``volumes_dir`` is all that is read, and nothing is called an orphan).
    :param queue_components: components that have a queue. :param queue_path: where a pod of these keeps its queue.
    :param queue_container: the container that the queue is read in.
    :param sink_components: components whose volumes hold records of sinks. :param sink_path: where their pods keep them.
    :param quarantine: mailbox names that are the quarantine.
    :param pop3_users: how many users are read by POP3 as well, spread evenly.
    :param pop3_first: addresses that are read by POP3 beside those, since the load has read them so.
    :param flags: system flags that IMAP is asked for, as ``\\Flagged``; each costs one SEARCH a mailbox.
    :param deadline_s: of each round; what is not read by then is reported as not read.
    :param connections: IMAP and POP3 sessions at a time.
    :param message_bytes_max: a larger message is reported as not read.
    """

    run: str
    arm: str
    arm_dir: str
    namespace: str
    imap: Server | None
    users: int = 0
    password: str = ""
    mail_domain: str = "example.org"
    accounts: tuple[tuple[str, str], ...] = ()
    pop3: Server | None = None
    ca_pem: str = ""
    verify: bool = True
    survey: bool = False
    settle_s: float = 0.0
    volumes_dir: str = ""
    target: Mapping[str, Any] | None = None
    queue_components: tuple[str, ...] = ("mx", "submission", "outbound")
    queue_path: str = "/var/spool/postfix"
    queue_container: str = ""
    sink_components: tuple[str, ...] = ("internet",)
    sink_path: str = "/records"
    quarantine: tuple[str, ...] = ("Junk",)
    pop3_users: int = 10
    pop3_first: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    deadline_s: float = 120.0
    connections: int = 8
    message_bytes_max: int = 32 << 20

    @property
    def prefix(self) -> str:
        """What the trace of every mail of this arm begins with."""
        return f"{self.run}.{self.arm}."

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every user's address."""
        return tuple(self.passwords)

    @property
    def longest_s(self) -> float:
        """Seconds within which both rounds end, whatever the mailboxes do."""
        return len(ROUNDS) * (self.deadline_s + POP_LEAST_S) + _BESIDE_S

    @cached_property
    def passwords(self) -> Mapping[str, str]:
        """Address → password of every user."""
        return dict(self.accounts) or {f"user{n}@{self.mail_domain}": self.password for n in range(1, self.users + 1)}

    def save(self, path: Path) -> None:
        """Write it as JSON, readable by this user only: it holds the run's password."""
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(0o600)
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> CensusSpec:
        """The spec in ``path``.

        :raises UsageError: not readable, an unknown or a missing key.
        """
        try:
            data = json.loads(path.read_text())
            return cls(**{k: _value(k, v) for k, v in data.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"is no spec of a census: {error}", where=str(path)) from None


def _value(name: str, value: Any) -> Any:
    if name in ("imap", "pop3"):
        return None if value is None else Server(**value)
    if name == "accounts":
        return tuple((str(address), str(password)) for address, password in value)
    return tuple(value) if isinstance(value, list) else value


def target_of(data: Mapping[str, Any]) -> Target:
    """The Target in what ``dataclasses.asdict`` made of one, JSON in between or not."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    values["nodes"] = tuple(Node(**{**n, "addresses": tuple(n["addresses"])}) for n in data.get("nodes", ()))
    return Target(**values)

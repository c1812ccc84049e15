"""The parameters of a scenario: names with units last, defaults, and what is refused."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError

#: What an IMAP user marks a mail with.
MARKS = ("\\Flagged", "\\Seen")
#: Where users move mail to, and where they put mail of their own.
ARCHIVE, SENT = "Archive", "Sent"
#: RFC 3461 section 4.1; NEVER stands alone.
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@dataclass(frozen=True)
class Params:
    """What a scenario may be told. Times that a mail server would keep (back-off, deadlines) are those of a real MTA and are
    divided by the plan's ``time_scale``; phases, rates and think times are real.

    :param elastic_senders: outside MTAs with a backlog, each with an own client address.
    :param backlog_per_sender: mails each of them holds when the burst begins.
    :param backlog_total: instead: mails of all of them together.
    :param connections_per_sender: most connections one MTA opens at a time.
    :param messages: instead of senders with backlogs, a closed loop: so many mails, each made when a connection is free for it.
    :param messages_connections: connections of that loop, all together.
    :param messages_by: who it is: ``mx`` (outside MTAs) or ``submission`` (users who log in; they do not retry).
    :param reuse: several mails on one connection, up to ``mails_per_connection``; false: one each.
    :param ahead: where a connection is reused, send the next envelope right behind the final dot of the mail before (RFC 2920 allows it,
        few MTAs do it): one round trip a mail less.
    :param min_backoff_s, max_backoff_s: first and longest wait after a 4xx (postconf(5) minimal_backoff_time,
        maximal_backoff_time), doubling in between.
    :param backoff_jitter: each wait is multiplied by 1 ± this, seeded.
    :param size_median_bytes: of the log-normal body of the size distribution.
    :param size_sigma: of its logarithm.
    :param size_tail_share: mails from the Pareto tail with exponent ``size_tail_alpha``.
    :param recipients_max: a mail has 1 … this many recipients, one most often (shares 1/k²).
    :param gtube_share, eicar_share: mails that a filter must find (0 … 1).
    :param smtputf8_share: of all mails, internationalised ones (RFC 6531, 6532): sender's address and header in UTF-8; recipients are where the
        user file has such. They are sent with SMTPUTF8; where the server does not offer it they are not sent, which is a refusal (5.6.7)
        that is not tried again.
    :param dsn_share: of all mails, those that ask for delivery status notifications (RFC 3461), by ``dsn_notify`` (NEVER, or some of
        SUCCESS,FAILURE,DELAY) and ``dsn_ret`` (FULL or HDRS). Where DSN is not offered they go without, and an event says so.
    :param probe_users: the first users get ordinary mail only, the others all the rest; 0: every mail goes to any user.
    :param steady_rate_per_s: ordinary mail to the probe users, open loop.
    :param steady_arrivals: ``constant``, ``poisson``, ``mmpp``, ``diurnal``, ``step`` or ``replay``.
    :param arrivals: options of the arrival process (see harness.load.arrivals).
    :param submit_rate_per_s: authenticated submission, open loop; ``submit_internet_share`` of it goes outside.
    :param zipf_domains: so many recipient domains of mail that goes outside, drawn by Zipf's law with ``zipf_exponent`` (0: two, evenly).
    :param sender_domains: so many domains of ordinary senders, drawn likewise, a sender keeps its own (0: one).
    :param imap_users, pop_users: closed-loop readers; ``think_s`` is their mean pause.
    :param flag_share: of the mails that IMAP users read, marked with \\Flagged and \\Seen (0 … 1); 0: mailboxes are opened read-only.
    :param delete_share: of the mails that IMAP and POP3 users read, deleted at once (0 … 1): STORE and EXPUNGE, or DELE, which takes effect at
        QUIT.
    :param move_share: of those that IMAP users read, moved to ``ARCHIVE`` (RFC 6851); where MOVE is not offered they stay, and an event says so.
        Whoever changes a mailbox has it for himself: with ``delete_share`` or ``move_share`` every reader needs an account of its own.
    :param append_share: of the looks of IMAP users, those after which they put a mail of their own into ``SENT``: it counts as offered.
    :param watchers: IDLE connections, one on each of the first probe mailboxes.
    :param idle_users: further IDLE connections that only hold on.
    :param ipv6_share: senders with an IPv6 client address (0 … 1).
    :param warmup_s: ordinary mail and users only, before the burst; not judged.
    :param burst_max_s: the burst ends when every backlog is empty, at the latest after this.
    :param tail_s: ordinary mail and users go on after it.
    :param watch_max_s: after the tail the watchers go on until they have seen all ordinary mail that was acknowledged, at most this long.
    :param drain_s: when no more mail comes, deferred mail is retried for so long, or until ``burst_max_s`` is over.
    :param dot_wait_s: longest wait for the reply to the final dot (postconf(5) smtp_data_done_timeout).
    :param step_wait_s: for every other reply (smtp_helo_timeout and its like).
    :param deadline_floor_s: no deadline gets shorter than this by ``time_scale``.
    """

    elastic_senders: int = 0
    backlog_per_sender: int = 0
    backlog_total: int = 0
    messages: int = 0
    messages_connections: int = 1
    messages_by: str = "mx"
    connections_per_sender: int = 2
    reuse: bool = True
    ahead: bool = False
    mails_per_connection: int = 20
    min_backoff_s: float = 300.0
    max_backoff_s: float = 4000.0
    backoff_jitter: float = 0.2
    size_median_bytes: int = 4000
    size_sigma: float = 1.0
    size_tail_share: float = 0.05
    size_tail_alpha: float = 1.2
    size_max_bytes: int = 262_144
    recipients_max: int = 3
    gtube_share: float = 0.0
    eicar_share: float = 0.0
    smtputf8_share: float = 0.0
    dsn_share: float = 0.0
    dsn_notify: str = "FAILURE,DELAY"
    dsn_ret: str = "HDRS"
    probe_users: int = 8
    steady_rate_per_s: float = 0.0
    steady_senders: int = 8
    steady_connections: int = 200
    steady_arrivals: str = "poisson"
    arrivals: Mapping[str, Any] = field(default_factory=dict)
    submit_rate_per_s: float = 0.0
    submit_connections: int = 100
    submit_internet_share: float = 0.5
    zipf_domains: int = 0
    zipf_exponent: float = 1.0
    sender_domains: int = 0
    imap_users: int = 0
    pop_users: int = 0
    think_s: float = 2.0
    flag_share: float = 0.0
    delete_share: float = 0.0
    move_share: float = 0.0
    append_share: float = 0.0
    watchers: int = 0
    idle_users: int = 0
    ipv6_share: float = 0.25
    warmup_s: float = 0.0
    burst_max_s: float = 150.0
    tail_s: float = 0.0
    watch_max_s: float = 0.0
    drain_s: float = 5.0
    dot_wait_s: float = 600.0
    step_wait_s: float = 300.0
    connect_wait_s: float = 30.0
    deadline_floor_s: float = 10.0

    @classmethod
    def of(cls, given: Mapping[str, Any], *, where: str = "load.params") -> Params:
        """From a mapping.

        :raises UsageError: an unknown name (with the nearest valid one), a wrong type, a share outside 0 … 1, shares that exceed 1 together.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        for name, value in given.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise UsageError(
                    f"unknown parameter '{name}'", where=where, todo=f"did you mean '{near[0]}'?" if near else "see the scenario's docstring"
                )
            if wrong := problem(name, value):
                raise UsageError(wrong, where=where)
        made = cls(**given)
        if made.delete_share + made.move_share > 1:
            raise UsageError("'delete_share' and 'move_share' are more than 1 together", where=where)
        return made

    def crowded(self, accounts: int) -> str:
        """Why ``accounts`` are too few for readers that change their mailboxes, as a sentence; "" when they are not."""
        wanted = self.watchers + self.imap_users + self.pop_users
        if not (self.delete_share or self.move_share) or wanted <= accounts:
            return ""
        return f"readers that delete or move need an account each: {wanted} with the watchers, but there are {accounts}"

    def account_of(self, user: int, accounts: int) -> int:
        """Which of ``accounts`` the reading user number ``user`` has."""
        return (self.watchers + user) % accounts

    def pop_accounts(self, accounts: int) -> tuple[int, ...]:
        """Which of ``accounts`` are read by POP3, each once."""
        return tuple(sorted({self.account_of(self.imap_users + i, accounts) for i in range(self.pop_users)})) if accounts else ()

    def seconds(self, wait_s: float, time_scale: float) -> float:
        """A real MTA's deadline divided by the time scale, not below the floor (nor above the deadline itself)."""
        return max(wait_s / time_scale, min(wait_s, self.deadline_floor_s))


def problem(name: str, value: Any) -> str:
    """What is wrong with ``value`` for the parameter ``name``, as a sentence; "" when it is right."""
    default = Params.__dataclass_fields__[name].default
    if isinstance(default, bool):
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        good, wanted = isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a whole number from 0"
    elif isinstance(default, float):
        good, wanted = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0, "a number from 0"
    elif isinstance(default, str):
        good, wanted = isinstance(value, str), "a word"
    else:
        good, wanted = isinstance(value, Mapping), "a mapping"
    if good and (name.endswith("_share") or name == "backoff_jitter"):
        good, wanted = value <= 1, "between 0 and 1"
    if good and name in _WORDS:
        good, wanted = _WORDS[name](value), _WANTED[name]
    return "" if good else f"'{name}' must be {wanted}, not {value!r}"


def _notifies(value: str) -> bool:
    words = value.split(",")
    return value == "NEVER" or (set(words) <= _NOTIFY and len(words) == len(set(words)))


_WORDS: Mapping[str, Callable[[str], bool]] = {"dsn_notify": _notifies, "dsn_ret": lambda value: value in ("FULL", "HDRS")}
_WANTED = {"dsn_notify": "NEVER, or some of SUCCESS,FAILURE,DELAY", "dsn_ret": "FULL or HDRS"}
PARAMETERS = frozenset(f.name for f in dataclasses.fields(Params))

"""From the words of ``mailgale load`` to a plan of one arm, the load engine's task and the census' accounts.

Which parameters a scenario gets is here alone; they are those of harness.load.params, and ``--set`` overrides them. Differences from
a run on a cluster: every mail goes to any user of the user file (no probe users), nothing is submitted to the outside, back-off
after a 4xx is seconds (5 … 60) so that a retry falls into the load, and one size instead of a distribution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from harness.cluster import endpoints
from harness.errors import UsageError
from harness.load.params import Params
from harness.load.spec import Access, LoadSpec
from harness.model.plan import Arm, CheckSpec, Plan
from harness.model.plan import LoadSpec as PlannedLoad
from harness.model.target import Target

ARM = "load"
USERS_OF_A_SINK = 20
MAILS_MAX = 10_000_000
FRIDAY_SENDERS = 20
#: Time for one retry of what was deferred last.
DRAIN_S = 15.0
IMAP_USERS, POP_USERS = 10, 5
ATTEMPTS_MIN = 100
#: There is no schedule in a closed loop, and a server on this host may use all of its CPU: neither is the generator's limit then.
NO_LIMIT = 1e9
_SCENARIOS = ("mx", "submission", "users", "mixed", "friday")


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says. Times in seconds.

    :param endpoints: role (``mx``, ``submission``, ``imap``, ``pop3``) → where.
    :param rate_per_s: open loop; or ``messages`` over ``connections``: closed loop.
    :param user_file: CSV ``address,password``; recipients are drawn from it. "" = ``user1@<mail_domain>`` … for a sink.
    :param allow: networks that may be loaded beside loopback.
    :param sources: local addresses to connect from.
    :param params: parameters of the scenario that override what is worked out here.
    """

    scenario: str
    endpoints: Mapping[str, Access]
    rate_per_s: float = 0.0
    messages: int = 0
    connections: int = 0
    size_bytes: int = 2000
    duration_s: float = 30.0
    settle_s: float = 60.0
    seed: int = 1
    user_file: str = ""
    mail_domain: str = "example.org"
    sender_domain: str = ""
    allow: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ca_file: str = ""
    lag_budget_ms: float = 250.0
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadTask:
    """Everything that a run against endpoints needs, checked. ``spec`` lacks run, arm and directory."""

    options: LoadOptions
    plan: Plan
    plan_bytes: bytes
    spec: LoadSpec
    target: Target
    accounts: tuple[tuple[str, str], ...]

    @property
    def reads(self) -> bool:
        """Whether there is a census."""
        return bool({"imap", "pop3"} & set(self.spec.endpoints))


def task_of(options: LoadOptions) -> LoadTask:
    """The task that ``options`` describe; nothing is touched but the user file, and names are resolved.

    :raises UsageError: options that do not go together, an unknown scenario or parameter, a user file that does not read.
    :raises GuardRefused: an address that is neither loopback nor in the allow-list.
    """
    _agree(options)
    spec = LoadSpec(
        run_id="", arm="", seed=options.seed, scenario=options.scenario, endpoints=options.endpoints, params={}, out="",
        users=USERS_OF_A_SINK, mail_domain=options.mail_domain, user_file=options.user_file, allow=options.allow, ca_file=options.ca_file, sources=options.sources,
        internet_domains=(options.sender_domain,) if options.sender_domain else ("example.net", "example.com"),
    ).guarded()
    accounts = tuple(spec.accounts())
    params = _params(options, len(accounts))
    if crowded := Params.of(params, where="--set").crowded(len(accounts)):
        raise UsageError(crowded, where="--set", todo="fewer readers (--connections), or more users in the user file")
    _stays_inside(params)
    plan, source = _plan(options, params, len(accounts))
    where = {"smtp" if role == "mx" else role: (access.hosts[0], access.port) for role, access in spec.endpoints.items()}
    return LoadTask(options, plan, source, spec.replace(params=params), endpoints.target_of(where), accounts)


def _agree(o: LoadOptions) -> None:
    if o.scenario not in _SCENARIOS:
        raise UsageError(f"'{o.scenario}' cannot be run against endpoints", todo=f"scenarios: {', '.join(_SCENARIOS)}")
    sends = o.scenario != "users"
    if sends and bool(o.rate_per_s) == bool(o.messages):
        raise UsageError(f"the scenario '{o.scenario}' needs either --rate or --messages", todo="e.g. --rate 50/s, or --messages 1000 --connections 10")
    if not sends and (o.rate_per_s or o.messages):
        raise UsageError("the scenario 'users' sends nothing", todo="say how many readers with --connections")
    if not o.user_file and set(o.endpoints) - {"mx"}:
        raise UsageError("submitting and reading need accounts", todo="give --user-file, CSV with address,password")
    if max(o.messages, o.rate_per_s * o.duration_s) > MAILS_MAX:
        raise UsageError(f"a load is bounded at {MAILS_MAX} mails")
    for role in _roles(o):
        if role not in o.endpoints:
            raise UsageError(f"the scenario '{o.scenario}' needs --{'smtp' if role == 'mx' else role}")
    if o.scenario == "users" and not {"imap", "pop3"} & set(o.endpoints):
        raise UsageError("the scenario 'users' needs --imap or --pop3")


def _roles(o: LoadOptions) -> Sequence[str]:
    return {"users": (), "submission": ("submission",)}.get(o.scenario, ("mx",))


def _params(o: LoadOptions, users: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "probe_users": 0, "recipients_max": 1, "submit_internet_share": 0.0, "ipv6_share": 0.0, "min_backoff_s": 5.0, "max_backoff_s": 60.0, "drain_s": DRAIN_S,
        "size_median_bytes": o.size_bytes, "size_sigma": 0.0, "size_tail_share": 0.0, "size_max_bytes": max(o.size_bytes, 200),
        "warmup_s": 0.0, "burst_max_s": o.duration_s, "tail_s": 0.0, "elastic_senders": 0, "backlog_per_sender": 0, "backlog_total": 0,
        "steady_rate_per_s": 0.0, "submit_rate_per_s": 0.0, "watchers": 0, "idle_users": 0, "imap_users": 0, "pop_users": 0,
    }
    makers: Mapping[str, Callable[[LoadOptions, int], dict[str, Any]]] = {
        "mx": _mx, "submission": _submission, "users": _users, "mixed": _mixed, "friday": _friday,
    }
    return {**made, **makers[o.scenario](o, users), **o.params}


def _mx(o: LoadOptions, users: int) -> dict[str, Any]:
    return _closed(o, "mx") if o.messages else _steady(o, o.rate_per_s)


def _submission(o: LoadOptions, users: int) -> dict[str, Any]:
    limit = {"submit_connections": max(o.connections // users, 1)} if o.connections else {}
    return _closed(o, "submission") if o.messages else {"submit_rate_per_s": o.rate_per_s, **limit}


def _users(o: LoadOptions, users: int) -> dict[str, Any]:
    return _readers(o, o.connections or IMAP_USERS + POP_USERS)


def _mixed(o: LoadOptions, users: int) -> dict[str, Any]:
    """Three quarters from outside, a quarter submitted where that is possible; readers beside it."""
    readers = _readers(o, min(IMAP_USERS + POP_USERS, users))
    if o.messages:
        return {**_closed(o, "mx"), **readers}
    inside = o.rate_per_s / 4 if "submission" in o.endpoints else 0.0
    return {**_steady(o, o.rate_per_s - inside), "submit_rate_per_s": inside, **readers}


def _friday(o: LoadOptions, users: int) -> dict[str, Any]:
    """Backlogs that are pushed; or a rate that doubles in the middle third."""
    readers = _readers(o, min(IMAP_USERS + POP_USERS, users))
    if o.messages:
        senders = min(o.connections or 2 * FRIDAY_SENDERS, FRIDAY_SENDERS)
        each = max((o.connections or 2 * FRIDAY_SENDERS) // senders, 1)
        return {"elastic_senders": senders, "backlog_total": o.messages, "connections_per_sender": each, **readers}
    third = o.duration_s / 3
    step = {"steady_arrivals": "step", "arrivals": {"factor": 2.0, "begin_s": third, "end_s": 2 * third}}
    return {**_steady(o, o.rate_per_s), **step, **readers}


def _steady(o: LoadOptions, rate_per_s: float) -> dict[str, Any]:
    senders = min(8, o.connections or 8)
    limit = {"steady_connections": max(o.connections // senders, 1)} if o.connections else {}
    return {"steady_rate_per_s": rate_per_s, "steady_senders": senders, **limit}


def _closed(o: LoadOptions, by: str) -> dict[str, Any]:
    return {"messages": o.messages, "messages_connections": o.connections or 1, "messages_by": by, "mails_per_connection": 100}


def _readers(o: LoadOptions, count: int) -> dict[str, Any]:
    imap, pop3 = "imap" in o.endpoints, "pop3" in o.endpoints
    by_pop = count // 3 if imap and pop3 else count if pop3 else 0
    return {"imap_users": count - by_pop if imap else 0, "pop_users": by_pop}


def _stays_inside(params: Mapping[str, Any]) -> None:
    """Nothing may be addressed to anybody but the users: a real server would deliver it to the world."""
    if params["submit_internet_share"]:
        raise UsageError("mail to the outside would leave a real server", where="--set submit_internet_share", todo="leave it at 0")


def _plan(o: LoadOptions, params: Mapping[str, Any], users: int) -> tuple[Plan, bytes]:
    said = {
        "load": o.scenario, "endpoints": {r: f"{a.hosts[0]}:{a.port} tls={a.tls}" for r, a in o.endpoints.items()}, "seed": o.seed,
        "users": users, "settle_s": o.settle_s, "params": dict(params),
    }
    source = yaml.safe_dump(said, sort_keys=False).encode()
    plan = Plan(
        name=f"load-{o.scenario}", title=f"Load '{o.scenario}' against endpoints",
        question="Does the server take in everything that is offered, and deliver each mail once and unharmed?",
        claims=(), profile="none", topology="none", seed=o.seed, time_scale=1.0, users=users,
        load=PlannedLoad(o.scenario, params, o.duration_s, o.settle_s), arms=(Arm(ARM, ()),), checks=tuple(_checks(o, params)),
        sha256=hashlib.sha256(source).hexdigest(),
    )
    return plan, source


def _checks(o: LoadOptions, params: Mapping[str, Any]) -> list[CheckSpec]:
    """The evidence always; what was taken in where mail is sent; what became of it where it can be read."""
    sends, reads = o.scenario != "users", bool({"imap", "pop3"} & set(o.endpoints))
    lag = NO_LIMIT if o.messages or not sends else o.lag_budget_ms
    meant = o.messages or o.rate_per_s * o.duration_s
    real = {"attempts_min": min(ATTEMPTS_MIN, int(meant / 2) or 1) if sends else 0, "lag_p99_ms_max": lag, "host_cpu_p95_max": NO_LIMIT}
    found = [CheckSpec("evidence-complete", {}), CheckSpec("load-was-real", real), CheckSpec("faults-happened", {})]
    if sends:
        found.append(CheckSpec("all-accepted", {"mails_min": o.messages or 1, "lag_p99_ms_max": lag}))
    if sends and reads:
        found += [CheckSpec(name, {}) for name in ("no-loss", "no-unexplained-duplicates", "integrity")]
    if params["imap_users"] or params["pop_users"]:
        found += [CheckSpec("availability", {"operations_min": 1}), CheckSpec("mailbox-state", {})]
    return found

"""A plan: one question, its arms, load, faults and checks with limits. Parsed by harness.plan, never built by hand
outside tests. Units stand last in names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Checks that need DNS to be watched from inside the pods: look-ups of our own, the servers' counters.
DNS_WATCHED_BY = frozenset({"dns-path", "dns-lookups"})


@dataclass(frozen=True)
class CheckSpec:
    """One check with its limits, e.g. ``CheckSpec("no-loss", {"lost_max": 0})``."""

    name: str
    limits: Mapping[str, float]
    arms: tuple[str, ...] = ()  #: only these arms; () = all


@dataclass(frozen=True)
class FaultSpec:
    """One fault.

    :param kind: name of an action in harness.chaos.actions, e.g. ``kill_pod``.
    :param target: how the victim is chosen: ``component`` and how many (``pods``), resolved with the plan's seed.
    :param when: trigger, one of ``{"at_s": 20}``, ``{"queue_acked": 200}``, ``{"accepted": 2000}``, ``{"burst_peak": 5}``,
        ``{"queue_depth": 500}``, and perhaps ``then_s`` beside it: so many seconds later (harness.chaos.triggers).
    :param deadline_s: the fault and its undo must be over by then, counted from the trigger.
    """

    name: str
    kind: str
    target: Mapping[str, Any]
    arguments: Mapping[str, Any]
    when: Mapping[str, float]
    deadline_s: float
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """One variant of the system under test.

    :param expect_fail: the checks that must fail here (a planted defect).
    :param load_params: what the load of this arm has otherwise than the plan's; a control's only, since arms are compared under one load.
    """

    name: str
    variants: tuple[str, ...]
    main: bool = True
    expect_fail: tuple[str, ...] = ()
    note: str = ""
    load_params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadSpec:
    """What is sent and read.

    :param scenario: file name in ``scenarios/`` without ``.py``; "" where the load is no mail.
    :param params: the scenario's own parameters; their names and units stand in its docstring. Of DNS: ``model.dnslab.LabLoad``.
    :param kind: ``mail``, or ``dns``: queries for names instead, without mail and without its census.
    """

    scenario: str
    params: Mapping[str, Any]
    intake_deadline_s: float  #: every offered mail must be accepted by then, from the start of the burst
    settle_s: float  #: longest wait for queues to empty after the load
    kind: str = "mail"
    placement: str = "local"  #: ``local``: processes on this host; ``cluster``: pods
    workers: int = 1  #: engines that share the load; more than one in the cluster only

    @property
    def in_cluster(self) -> bool:
        """Whether the load runs in pods."""
        return self.placement == "cluster"


@dataclass(frozen=True)
class DnsSpec:
    """What is counted of DNS in an arm.

    :param capture: components in whose pods' networks every DNS message is captured, from before the load until all is quiet.
    :param look_ups: resolvers whose queries per look-up are measured in a pod before the load (see harness.dns.lookups).
    :param arms: only these arms; () = all. An arm that is left out shows what the counting itself costs.
    """

    capture: tuple[str, ...]
    look_ups: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()


CONTROL_PLANE, LAST_READY = "control-plane", "last-ready"


@dataclass(frozen=True)
class NodeFaults:
    """What a plan lets its faults do to nodes: nothing, unless it says so.

    :param max: so many different nodes in an arm.
    :param control_plane: a node of the control plane may be hit.
    :param last_ready: the last node that takes pods may be hit.
    """

    max: int = 0
    control_plane: bool = False
    last_ready: bool = False

    @property
    def may(self) -> tuple[str, ...]:
        """The permissions as words, for guards that know no plan."""
        return tuple(word for word, given in ((CONTROL_PLANE, self.control_plane), (LAST_READY, self.last_ready)) if given)


@dataclass(frozen=True)
class StopWhen:
    """When a run is ended before its time (exit 9). None = it is not, for this reason.

    :param lost_after_s: an acknowledged mail to a watched mailbox that has not been seen there for so long counts as lost so far.
    :param accepted_share_min: share of the attempts that were answered and accepted, once ``accepted_share_after`` were (the objective is burnt).
    """

    lost_after_s: float | None = None
    accepted_share_min: float | None = None
    accepted_share_after: int = 200


@dataclass(frozen=True)
class Plan:
    """A whole plan, validated."""

    name: str
    title: str
    question: str
    claims: tuple[str, ...]
    profile: str
    topology: str
    seed: int
    time_scale: float
    users: int
    load: LoadSpec
    arms: tuple[Arm, ...]
    checks: tuple[CheckSpec, ...]
    faults: tuple[FaultSpec, ...] = ()
    findings: tuple[str, ...] = ()  #: names of modules in harness.claims
    budget: Mapping[str, float] = field(default_factory=dict)  #: minutes, mails, pods_killed, fault_minutes
    node_faults: NodeFaults = NodeFaults()
    stop_when: StopWhen = StopWhen()
    held_constant: Mapping[str, str] = field(default_factory=dict)  #: what else could bound the intake, printed
    stack_params: Mapping[str, str] = field(default_factory=dict)  #: keys of run-params beside the standard ones, e.g. LIMIT_RATE
    dns: DnsSpec | None = None  #: None: DNS is not counted
    look_ups_per_s: float = 4.0  #: of each pod that asks, where DNS is watched
    experiment: Mapping[str, Any] = field(default_factory=dict)  #: the chaostoolkit part as it stands in the file
    source: str = ""  #: path of the file
    sha256: str = ""  #: of the file's bytes

    def arm(self, name: str) -> Arm:
        """The arm called ``name``; KeyError when there is none."""
        return next(a for a in self.arms if a.name == name) if name in self.arm_names else _missing(name)

    def load_params(self, arm: str) -> Mapping[str, Any]:
        """The parameters of the load in ``arm``."""
        return {**self.load.params, **self.arm(arm).load_params}

    def counts_dns(self, arm: str) -> bool:
        """Whether DNS is counted in ``arm``."""
        return self.dns is not None and (not self.dns.arms or arm in self.dns.arms)

    @property
    def watches_dns(self) -> bool:
        """Whether a check asks about the DNS of the mail stack as pods see it."""
        return any(check.name in DNS_WATCHED_BY for check in self.checks)

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.arms)


def _missing(name: str) -> Arm:
    raise KeyError(name)

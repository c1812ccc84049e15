"""The shape of the extension ``mailgale`` in a plan, as pydantic models. ``mailgale plan schema`` prints it as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoadBlock(_Strict):
    """What is sent and read: mail by a scenario, or (``kind: dns``) queries for names."""

    kind: Literal["mail", "dns"] = "mail"
    scenario: Name | None = Field(default=None, description="file name in scenarios/ without .py; of mail only")
    intake_deadline_s: float = Field(gt=0, le=86400, description="every offered mail is accepted by then, from the start of the burst")
    settle_s: float = Field(gt=0, le=86400, description="longest wait for queues to empty after the load")
    params: dict[str, Any] = Field(default_factory=dict)
    placement: Literal["local", "cluster"] = Field(default="local", description="where the load runs: processes on this host, or pods in the cluster")
    workers: int = Field(default=1, ge=1, le=64, description="engines that share the load; more than one needs placement: cluster")


class ArmBlock(_Strict):
    """One variant of the system under test."""

    name: Name
    variants: list[Name] = Field(min_length=1)
    main: bool = True
    note: str = ""
    load: dict[str, Any] = Field(default_factory=dict, description="load parameters that differ here; only for arms with main: false (controls)")
    expect: dict[str, list[Name]] = Field(default_factory=dict)


class RepeatBlock(_Strict):
    """How often a fault strikes. Each time is a fault of its own; they may overlap."""

    times: int = Field(ge=2, le=50)
    every_s: float = Field(gt=0, le=3600, description="seconds from one beginning to the next")


class FaultBlock(_Strict):
    """When a fault of ``method`` strikes, and in which arms."""

    name: Name
    when: dict[str, float] = Field(min_length=1, max_length=2, description="one trigger, and perhaps then_s: so many seconds after it")
    repeat: RepeatBlock | None = None
    deadline_s: float = Field(gt=0, le=3600)
    arms: list[Name] = Field(default_factory=list)


class CheckBlock(_Strict):
    """Limits of one check."""

    limits: dict[str, float] = Field(default_factory=dict)
    arms: list[Name] = Field(default_factory=list)


class DnsBlock(_Strict):
    """DNS counted by passive capture in the pods' networks."""

    capture: list[Name] = Field(min_length=1, description="components in whose pods' networks every DNS message is captured")
    look_ups: list[Name] = Field(default_factory=list, description="resolvers whose queries per look-up are measured in a pod before the load")
    arms: list[Name] = Field(default_factory=list, description="only these arms; one that is left out shows what the counting costs")


class Budget(_Strict):
    """For each block of arms: before an arm and during it, the run ends when minutes or mails are used up (exit 9).

    Of an arm's faults: more ``pods_killed``, or a fault with a deadline of more than ``fault_minutes``, are refused (exit 7).
    """

    minutes: float = Field(gt=0)
    mails: int = Field(gt=0)
    pods_killed: int = Field(default=0, ge=0)
    fault_minutes: float = Field(default=30, gt=0)


class NodesBlock(_Strict):
    """What faults may do to nodes. Without it no node is touched."""

    max: int = Field(ge=1, description="different nodes that the faults of an arm may hit")
    control_plane: bool = Field(default=False, description="nodes of the control plane may be hit")
    last_ready: bool = Field(default=False, description="the last node that takes pods may be hit")


class StopBlock(_Strict):
    """What ends a run before its time: load stopped, faults undone, evidence collected and sealed (exit 9)."""

    lost_after_s: float | None = Field(default=None, gt=0, description="an acknowledged mail to a watched mailbox unseen for so long is lost so far")
    accepted_share_min: float | None = Field(default=None, gt=0, le=1, description="accepted / answered attempts; below it the objective is burnt")
    accepted_share_after: int = Field(default=200, ge=1, description="answered attempts before the share counts")


class PlanBlock(_Strict):
    """The extension ``mailgale``."""

    name: str = Field(pattern="^mailgale$")
    version: int = Field(ge=1, le=1)
    question: str = Field(min_length=10)
    claims: list[str] = Field(default_factory=list)
    findings: list[Name] = Field(default_factory=list)
    profile: Name = "minimal"
    topology: Name = "single"
    seed: int = Field(ge=0)
    time_scale: float = Field(ge=1, le=1000)
    users: int = Field(ge=8, le=100000)
    budget: Budget
    nodes: NodesBlock | None = None
    stop: StopBlock = StopBlock()
    load: LoadBlock
    arms: list[ArmBlock] = Field(min_length=1)
    faults: list[FaultBlock] = Field(default_factory=list)
    dns: DnsBlock | None = None
    look_ups_per_s: float = Field(
        default=4, gt=0, le=200, description="look-ups a second of each asking pod (4), where the check dns-path or dns-lookups has DNS watched from inside pods",
    )
    checks: dict[Name, CheckBlock] = Field(min_length=1)
    stack: dict[str, str] = Field(default_factory=dict, description="keys of the ConfigMap run-params for every arm, e.g. LIMIT_RATE")
    held_constant: dict[str, str] = Field(default_factory=dict)

"""Which faults exist, how they are aimed and which arguments they take. Data only, so that plans can be validated anywhere.

Each kind is the name of a function in ``harness.chaos.actions``; a test keeps the two equal. Values in ``target`` and
``arguments`` say what is meant, with the unit where there is one; ``required`` names those without a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    :param summary: one line for ``mailgale list``.
    :param target: keys that choose the victim → what they mean. A plan gives at least those in ``required``.
    :param arguments: further arguments → what they mean.
    :param required: keys of ``target`` or ``arguments`` without a default.
    :param ability: what the component must be able to suffer (``component.yaml``); "" = nothing special.
    :param targets: target kinds on which it works (``kind``, ``context``).
    :param evidence: what proves that it took place.
    """

    summary: str
    target: Mapping[str, str]
    arguments: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    ability: str = ""
    targets: tuple[str, ...] = ("kind", "context")
    evidence: str = ""


_COMPONENT = {
    "component": "the component whose pods are the victims", "pods": "how many of its pods (default 1)",
    "workload": "only pods of this one of its workloads, e.g. Deployment/coredns (default: any)",
}

KINDS: Mapping[str, FaultKind] = {
    "kill_pod": FaultKind(
        summary="Delete pods, gracefully or with grace 0, and wait until the component is whole again.",
        target=_COMPONENT,
        arguments={"grace_s": "seconds of grace; 0 kills at once, absent means the pod's own"},
        required=("component",),
        ability="kill",
        evidence="the old UID is gone; with grace 0 on kind the container's process is gone on its node as well",
    ),
    "container_kill": FaultKind(
        summary="SIGKILL the main process of a container; the pod stays and its kubelet restarts the container.",
        target={**_COMPONENT, "container": "the container's name (default: the pod's first)"},
        required=("component",),
        ability="kill",
        targets=("kind",),
        evidence="same pod UID, new container ID, restart count raised",
    ),
    "freeze": FaultKind(
        summary="SIGSTOP every process of a container for a while, then SIGCONT.",
        target={**_COMPONENT, "container": "the container's name (default: the pod's first)"},
        arguments={"for_s": "seconds until SIGCONT (default 20)"},
        required=("component",),
        ability="freeze",
        targets=("kind",),
        evidence="state T of every process in the container",
    ),
    "scale": FaultKind(
        summary="Set the replicas of a component's workloads; the number before is restored at the end.",
        target={"component": "the component that is scaled"},
        arguments={"replicas": "the new number", "for_s": "seconds until the old number is restored (default: at the arm's end)"},
        required=("component", "replicas"),
        ability="scale",
        evidence="the workload's spec and its ready pods show the new number",
    ),
    "drain": FaultKind(
        summary="Cordon a node and evict its pods of the run's namespace (policy/v1), waiting for disruption budgets.",
        target={"component": "the node that carries a pod of this component", "nodes": "how many nodes (default 1)"},
        arguments={"for_s": "seconds that the node stays cordoned after the last eviction (default 0)"},
        required=("component",),
        ability="drain",
        targets=("kind",),
        evidence="the node is unschedulable, every pod that was meant has a new UID or is gone",
    ),
    "cordon": FaultKind(
        summary="Mark a node unschedulable for a while.",
        target={"component": "the node that carries a pod of this component", "nodes": "how many nodes (default 1)"},
        arguments={"for_s": "seconds until it is schedulable again (default 30)"},
        required=("component",),
        targets=("kind",),
        evidence="the node's spec says unschedulable",
    ),
    "node_stop": FaultKind(
        summary="Stop the container that is a kind node, and start it again.",
        target={"component": "the node that carries a pod of this component", "nodes": "how many nodes (default 1)"},
        arguments={"for_s": "seconds until the node is started again (default 30)"},
        required=("component",),
        targets=("kind",),
        evidence="the engine says exited, later the node is Ready again",
    ),
    "dns_fault": FaultKind(
        summary="Let the DNS proxies before the resolvers delay, drop, refuse or falsify answers for a while, by type, zone and share.",
        target={"component": "the component that holds the proxies (dns-proxy)", "pods": "how many of them (default 2: every upstream)"},
        arguments={
            "strike": "delay, drop, servfail, nxdomain, truncate, refuse-tcp", "qtypes": "types that are struck, e.g. [MX, TXT] (default: all)",
            "zones": "zones whose names are struck (default: all)", "rate": "share of those queries (default 1)", "delay_s": "seconds, for delay",
            "for_s": "seconds until the proxies pass everything on again (default 10)",
        },
        required=("component", "strike"),
        ability="dns",
        evidence="the proxies' own counters of what they struck",
    ),
}

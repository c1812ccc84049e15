"""Which faults exist, how they are aimed and which arguments they take. Data only, so that plans can be validated anywhere.

Each kind is the name of a function in ``harness.chaos.actions``; a test keeps the two equal. Values in ``target`` and
``arguments`` say what is meant, with the unit where there is one; ``required`` names those without a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What a plan's ``when`` may wait for (harness.chaos.triggers says what each means) …
TRIGGERS = frozenset({"at_s", "queue_acked", "accepted", "burst_peak", "queue_depth"})
#: … and what may stand beside it: so many seconds after it.
THEN = "then_s"


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
    :param pods: how many are hit where a plan does not say.
    :param hits: what its victims are: ``pods``, ``nodes`` (that carry a pod of the component), ``every node`` (all workers but the edge's)
        or ``workloads``.
    """

    summary: str
    target: Mapping[str, str]
    arguments: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    ability: str = ""
    targets: tuple[str, ...] = ("kind", "context")
    evidence: str = ""
    hits: str = "pods"
    pods: int = 1


_COMPONENT = {
    "component": "the component whose pods are the victims", "pods": "how many of its pods (default 1)",
    "workload": "only pods of this one of its workloads, e.g. Deployment/coredns (default: any)",
}
#: Keys of a target that choose pods and are no arguments of the action: the conductor has named the victims by then.
CHOOSING = frozenset({"share", "one_node", "workload"})
_CHOSEN = {
    **_COMPONENT, "share": "instead of pods: this share of its ready pods (above 0, at most 1; at least one pod)",
    "one_node": "true: all of them on one node (default false)",
}
_NODE = {"component": "the node that carries a pod of this component", "nodes": "how many nodes (default 1)"}
_CONTAINER = {**_COMPONENT, "container": "the container's name (default: the pod's first)"}
_TRAFFIC = {
    "peer": "only traffic with this component (default: with everything but the pod's own node)",
    "direction": "in, out or both, as seen from the pod (default both)",
    "family": "ipv4, ipv6 or both (default both)",
    "port": "only TCP with this port on either side (default: all traffic)",
    "for_s": "seconds until it ends (default 20)",
}
_LOST = {
    "for_s": "seconds until the node is back (default 90)",
    "force_delete": "true: once the node is seen as lost its pods are deleted with grace 0, so that StatefulSets replace them (default false)",
}
_COUNTED = "packets counted by the rules in the pod's network namespace"

KINDS: Mapping[str, FaultKind] = {
    "kill_pod": FaultKind(
        summary="Delete pods, gracefully or with grace 0, and wait until the component is whole again.",
        target=_CHOSEN,
        arguments={"grace_s": "seconds of grace; 0 kills at once, absent means the pod's own"},
        required=("component",),
        ability="kill",
        evidence="the old UID is gone; with grace 0 on kind the container's process is gone on its node as well",
    ),
    "container_kill": FaultKind(
        summary="SIGKILL the main process of a container; the pod stays and its kubelet restarts the container.",
        target=_CONTAINER,
        required=("component",),
        ability="kill",
        targets=("kind",),
        evidence="same pod UID, new container ID, restart count raised",
    ),
    "freeze": FaultKind(
        summary="SIGSTOP processes of a container for a while, then SIGCONT: all of them, or those of a name.",
        target=_CONTAINER,
        arguments={
            "process": "the name of the processes, e.g. qmgr (default: every process)",
            "processes": "how many of them at most (default 0: all)",
            "for_s": "seconds until SIGCONT (default 20)",
        },
        required=("component",),
        ability="freeze",
        targets=("kind",),
        evidence="state T of the processes that were meant; whether readiness and restarts changed stands in its end",
    ),
    "scale": FaultKind(
        summary="Set the replicas of a component's workloads; the number before is restored at the end.",
        target={"component": "the component that is scaled"},
        arguments={"replicas": "the new number", "for_s": "seconds until the old number is restored (default: at the arm's end)"},
        required=("component", "replicas"),
        ability="scale",
        evidence="the workload's spec and its ready pods show the new number",
        hits="workloads",
    ),
    "drain": FaultKind(
        summary="Cordon a node and evict its pods of the run's namespace (policy/v1), waiting for disruption budgets.",
        target=_NODE,
        arguments={"for_s": "seconds that the node stays cordoned after the last eviction (default 0)"},
        required=("component",),
        ability="drain",
        targets=("kind",),
        evidence="the node is unschedulable, every pod that was meant has a new UID or is gone",
        hits="nodes",
    ),
    "cordon": FaultKind(
        summary="Mark a node unschedulable for a while.",
        target=_NODE,
        arguments={"for_s": "seconds until it is schedulable again (default 30)"},
        required=("component",),
        targets=("kind",),
        evidence="the node's spec says unschedulable",
        hits="nodes",
    ),
    "rolling_drain": FaultKind(
        summary="Drain every worker but the edge's in turn, each only when all workloads are whole again (T38).",
        target={"component": "the component whose failed drain would end it first; every pod of the run is evicted"},
        arguments={"for_s": "seconds that each node stays empty (default 0)"},
        required=("component",),
        ability="drain",
        targets=("kind",),
        evidence="each node is unschedulable, every pod that was on it has a new UID or is gone",
        hits="every node",
    ),
    "node_crash": FaultKind(
        summary="Kill the container that is a kind node, and start it again; says when the cluster notices.",
        target=_NODE,
        arguments=_LOST,
        required=("component",),
        targets=("kind",),
        evidence="the engine says exited, later the node is Ready again",
        hits="nodes",
    ),
    "node_stop": FaultKind(
        summary="Stop the container that is a kind node in an orderly way, and start it again.",
        target=_NODE,
        arguments=_LOST,
        required=("component",),
        targets=("kind",),
        evidence="the engine says exited, later the node is Ready again",
        hits="nodes",
    ),
    "node_restart": FaultKind(
        summary="Stop the container that is a kind node and start it at once.",
        target=_NODE,
        required=("component",),
        targets=("kind",),
        evidence="the engine says exited, later the node is Ready again",
        hits="nodes",
    ),
    "node_pause": FaultKind(
        summary="Freeze every process of a kind node for a while; looks for two masters on one volume afterwards.",
        target=_NODE,
        arguments=_LOST,
        required=("component",),
        targets=("kind",),
        evidence="the engine says paused, later the node is Ready again",
        hits="nodes",
    ),
    "partition": FaultKind(
        summary="Cut pods off the network, established flows included: silence (drop), ICMP (reject) or TCP RST (reset).",
        target=_COMPONENT,
        arguments={"how": "drop, reject or reset (default drop)", **_TRAFFIC},
        required=("component",),
        targets=("kind",),
        evidence=_COUNTED,
    ),
    "packet_loss": FaultKind(
        summary="Lose a share of the packets of pods, at random.",
        target=_COMPONENT,
        arguments={"share": "share of the packets (above 0, at most 1)", **_TRAFFIC},
        required=("component", "share"),
        targets=("kind",),
        evidence=_COUNTED,
    ),
    "rate_limit": FaultKind(
        summary="Drop what pods receive or send above a rate.",
        target=_COMPONENT,
        arguments={"kbytes_per_s": "kbytes a second, for each direction and family", **_TRAFFIC},
        required=("component", "kbytes_per_s"),
        targets=("kind",),
        evidence=_COUNTED,
    ),
    "packet_delay": FaultKind(
        summary="Have every packet that pods send wait, where the kernel has netem.",
        target=_COMPONENT,
        arguments={"delay_ms": "milliseconds", "jitter_ms": "± milliseconds (default 0)", "for_s": "seconds until it ends (default 20)"},
        required=("component", "delay_ms"),
        targets=("kind",),
        evidence="packets counted by netem",
    ),
    "rolling_restart": FaultKind(
        summary="Replace a component's pods one after another, as kubectl rollout restart does.",
        target={"component": "the component that is restarted"},
        required=("component",),
        ability="kill",
        evidence="every pod has a new UID and the newest revision runs",
        hits="workloads",
    ),
    "bad_image": FaultKind(
        summary="Roll out an image that does not exist, and roll back.",
        target={"component": "the component that gets it", "container": "the container's name (default: the first)"},
        arguments={"for_s": "seconds until the rollback (default 20)"},
        required=("component",),
        ability="kill",
        evidence="a pod waits for its image; undone when the old image runs everywhere",
        hits="workloads",
    ),
    "volume_stall": FaultKind(
        summary="Suspend writing to a component's volumes for a moment, again and again.",
        target=_COMPONENT,
        arguments={"for_s": "seconds of each stall (default 2)", "times": "how many (default 5)", "pause_s": "seconds between them (default 3)"},
        required=("component",),
        targets=("kind",),
        evidence="for every stall, a write of our own that could not end before it did",
    ),
    "volume_full": FaultKind(
        summary="Leave no room on a component's volumes for a while.",
        target=_COMPONENT,
        arguments={"for_s": "seconds until there is room again (default 20)"},
        required=("component",),
        targets=("kind",),
        evidence="the file system says that nothing is free, and that there is room again",
    ),
    "volume_readonly": FaultKind(
        summary="Make a component's volumes read-only as a disk's error does, until they are repaired.",
        target=_COMPONENT,
        arguments={"for_s": "seconds until the repair begins, for which the workload is stopped (default 20)"},
        required=("component",),
        ability="kill",
        targets=("kind",),
        evidence="a write of our own ends with EROFS; the file system was checked and takes writes again",
    ),
    "power_loss": FaultKind(
        summary="Cut the power of a component's volumes: what nobody had synced is gone, and so are the pods.",
        target=_COMPONENT,
        required=("component",),
        ability="kill",
        targets=("kind",),
        evidence="of two files of our own the synced one is there after the repair and the other is not; the old UID is gone",
    ),
    "attach_refused": FaultKind(
        summary="Delete pods while their volumes cannot be attached, so that they come back late.",
        target=_COMPONENT,
        arguments={"for_s": "seconds until the volume can be attached again (default 20)"},
        required=("component",),
        ability="kill",
        targets=("kind",),
        evidence="the old UID is gone, and the new pod's own event that its volume is not mounted",
    ),
    "hog": FaultKind(
        summary="Start a heavy pod beside a component, on a node that is bounded for it.",
        target=_COMPONENT,
        arguments={
            "resource": "cpu (default), memory or io", "cores": "of CPU (default 1)", "mib": "of memory, or written at a time (default 128)",
            "node_cores": "what the whole node may use meanwhile, on kind (default 1)", "for_s": "seconds (default 20)",
        },
        required=("component",),
        evidence="what the hog's processes used: CPU seconds, resident octets, rounds of writing",
    ),
    "oom_kill": FaultKind(
        summary="Use up a container's memory limit until the kernel kills in it.",
        target={**_COMPONENT, "container": "the container's name (default: the pod's first)"},
        arguments={"mib": "how much is taken; more than the limit (default 1024)"},
        required=("component",),
        ability="kill",
        evidence="the kernel's count of OOM kills in the container's control group has grown",
    ),
    "fd_exhaust": FaultKind(
        summary="Let the processes of a container open few files only, for a while.",
        target={**_COMPONENT, "container": "the container's name (default: the pod's first)"},
        arguments={"files": "the new limit (default 16)", "for_s": "seconds until the old limit is back (default 20)"},
        required=("component",),
        targets=("kind",),
        evidence="the limit of the processes as the kernel has it",
    ),
    "service_hijack": FaultKind(
        summary="Lead a component's Services nowhere, or to an impostor that is silent, slow or answers rubbish.",
        target={"component": "the component that others cannot use"},
        arguments={
            "mode": "refuse (default), silent, slow or garbage", "delay_s": "with slow: seconds for each piece, both ways (default 2)",
            "for_s": "seconds (default 20)",
        },
        required=("component",),
        evidence="the Services' endpoints are not the component's pods; how many connections came to the impostor",
        hits="workloads",
    ),
    "control_plane_loss": FaultKind(
        summary="Take a control-plane node, a member of etcd or the API's load balancer away for a while (topology ha).",
        target={"component": "the component that must not notice"},
        arguments={"part": "node (default), etcd or api-lb", "for_s": "seconds (default 20)"},
        required=("component",),
        targets=("kind",),
        evidence="the engine says that the container does not run, or no process of etcd is left",
        hits="workloads",
    ),
    "dns_fault": FaultKind(
        summary="Let the DNS proxies before the resolvers delay, drop, refuse or falsify answers for a while, by type, zone and share.",
        target={"component": "the component that holds the proxies (dns-proxy)", "pods": "how many of them (default 2: every upstream)"},
        arguments={
            "strike": "delay, drop, servfail, nxdomain, truncate, wrong, refuse-tcp", "qtypes": "types that are struck, e.g. [MX, TXT] (default: all)",
            "zones": "zones whose names are struck (default: all)", "rate": "share of those queries (default 1)", "delay_s": "seconds, for delay",
            "data": "for wrong: type → false records, e.g. {A: [127.0.0.2]}, which a block list's reader takes for a listing",
            "for_s": "seconds until the proxies pass everything on again (default 10)",
        },
        required=("component", "strike"),
        ability="dns",
        pods=2,
        evidence="the proxies' own counters of what they struck",
    ),
}

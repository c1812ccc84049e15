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


_COMPONENT = {"component": "the component whose pods are the victims", "pods": "how many of its pods (default 1)"}

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
    ),
    "control_plane_loss": FaultKind(
        summary="Take a control-plane node, a member of etcd or the API's load balancer away for a while (topology ha).",
        target={"component": "the component that must not notice"},
        arguments={"part": "node (default), etcd or api-lb", "for_s": "seconds (default 20)"},
        required=("component",),
        targets=("kind",),
        evidence="the engine says that the container does not run, or no process of etcd is left",
    ),
}

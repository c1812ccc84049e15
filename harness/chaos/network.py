"""Faults of the network of single pods: partition, loss, rate limit, delay. kind only, where a pod's network namespace can be entered.

The rules lie in the pod's own network namespace, so they hit no other pod and go with it. Traffic with the pod's own node passes unless a
``peer`` is named: between them there is no network, and a kubelet's probes would otherwise fail for a reason that no partition has.
A ``peer`` is the addresses of its pods and Services when the fault begins; a pod that is replaced meanwhile has others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from harness.chaos import netrules
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.netrules import Inside, Rules
from harness.chaos.pods import processes_of
from harness.chaos.world import FaultFailed
from harness.errors import NotSupported
from harness.kube.objects import COMPONENT, Pod

#: The interface of a pod (CNI).
INTERFACE = "eth0"
WAYS = ("drop", "reject", "reset")


def partition(
    component: str, pods: int = 1, how: str = "drop", peer: str = "", direction: str = "both", family: str = "both", port: int = 0,
    for_s: float = 20.0, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Cut the pods ``victims`` off, established flows included, for ``for_s`` seconds.

    :param how: ``drop`` (silence), ``reject`` (ICMP administratively prohibited) or ``reset`` (TCP RST; other protocols pass).
    :param direction: ``in``, ``out`` or ``both``, as seen from the pod. :param family: ``ipv4``, ``ipv6`` or ``both``.
    :param peer: only from this component; "" = from everything. :param port: only TCP with this port on either side.
    Evidence: packets counted by the rules; none means that nothing was cut, and the fault has failed. Undone when the table is gone.
    """
    act = partial(_partition, how=how, rules=partial(Rules, how, direction, family, port=port), peer=peer, for_s=for_s)
    return carry_out("partition", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def packet_loss(
    component: str, share: float, pods: int = 1, peer: str = "", direction: str = "both", family: str = "both", port: int = 0,
    for_s: float = 20.0, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Lose the share ``share`` (0 … 1) of the packets of the pods ``victims``, at random, for ``for_s`` seconds.

    Other parameters, evidence and undo as of :func:`partition`.
    """
    act = partial(_break, rules=partial(Rules, "loss", direction, family, port=port, share=share), peer=peer, for_s=for_s)
    return carry_out("packet_loss", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def rate_limit(
    component: str, kbytes_per_s: int, pods: int = 1, peer: str = "", direction: str = "both", family: str = "both", port: int = 0,
    for_s: float = 20.0, victims: list[str] | None = None, fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Drop what the pods ``victims`` receive or send above ``kbytes_per_s`` (a policer with a burst of one second), for ``for_s`` seconds.

    Each direction and IP family has that rate for itself. Other parameters, evidence and undo as of :func:`partition`.
    """
    act = partial(_break, rules=partial(Rules, "rate", direction, family, port=port, kbytes_per_s=kbytes_per_s), peer=peer, for_s=for_s)
    return carry_out("rate_limit", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def packet_delay(
    component: str, delay_ms: float, pods: int = 1, jitter_ms: float = 0.0, for_s: float = 20.0, victims: list[str] | None = None,
    fault: str = "", when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Have every packet that the pods ``victims`` send wait ``delay_ms`` ± ``jitter_ms`` milliseconds, for ``for_s`` seconds.

    Evidence: packets counted by netem (tc-netem(8)). A kernel without netem: not supported here.
    """
    act = partial(_delay, delay_ms=delay_ms, jitter_ms=jitter_ms, for_s=for_s)
    return carry_out("packet_delay", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _partition(f: Fault, how: str, rules: Callable[..., Rules], peer: str, for_s: float) -> None:
    if how not in WAYS:
        raise FaultFailed(f"cannot cut by '{how}'", where=f.name, todo=", ".join(WAYS))
    _break(f, rules, peer, for_s)


def _break(f: Fault, rules: Callable[..., Rules], peer: str, for_s: float) -> None:
    peers = _addresses(f, peer) if peer else ()
    table = f"mailgale_{hashlib.sha256(f.name.encode()).hexdigest()[:12]}"
    places = {p.name: (p, _namespace(f, p)) for p in map(f.pod, f.victims)}
    made = {name: rules(peers=peers, spared=_own_addresses(f, pod.node)) for name, (pod, _) in places.items()}
    f.arm("whole", workload=f.workload)
    for pod, path in places.values():
        f.arm("network", node=pod.node, netns=path, table=table)
    f.say("begin", for_s=for_s, peers=list(peers), rules=next(iter(made.values())).text(table))
    for name, (pod, path) in places.items():
        netrules.apply(netrules.namespace(f.world.nodes, pod.node, path), table, made[name])
    f.hold(for_s)
    for name, (pod, path) in places.items():
        _proven(f, name, netrules.packets(netrules.namespace(f.world.nodes, pod.node, path), table))
    f.undo_some(len(places))
    f.say("end")


def _delay(f: Fault, delay_ms: float, jitter_ms: float, for_s: float) -> None:
    places = {p.name: (p, _namespace(f, p)) for p in map(f.pod, f.victims)}
    insides: dict[str, Inside] = {n: netrules.namespace(f.world.nodes, pod.node, path) for n, (pod, path) in places.items()}
    f.arm("whole", workload=f.workload)
    for pod, path in places.values():
        f.arm("delay", node=pod.node, netns=path, interface=INTERFACE)
    f.say("begin", for_s=for_s, delay_ms=delay_ms, jitter_ms=jitter_ms)
    for inside in insides.values():
        netrules.delay(inside, INTERFACE, delay_ms, jitter_ms)
    f.hold(for_s)
    for name, inside in insides.items():
        found = netrules.delayed(inside, INTERFACE)
        _proven(f, name, None if found is None else {"out": found})
    f.undo_some(len(places))
    f.say("end")


def _proven(f: Fault, name: str, packets: dict[str, int] | None) -> None:
    """Say what the rules have counted.

    :raises FaultFailed: nothing, or the rules are gone.
    """
    if packets is None:
        raise FaultFailed("its network was whole again before it should be: the pod was replaced, or the rules were taken away", where=name)
    if not sum(packets.values()):
        raise FaultFailed("not one packet met the rules, so nothing was broken", where=name)
    f.say("evidence", pod=name, packets=packets)


def _namespace(f: Fault, pod: Pod) -> str:
    living = processes_of(f, pod)
    if living is None:
        raise NotSupported("the network of a pod can be entered on kind clusters only")
    if not living:
        raise FaultFailed("the pod has no process, so its network cannot be found", where=pod.name)
    path = f.world.nodes.network_of(pod.node, living[0])
    if not path:
        raise NotSupported(f"{pod.name} is on its node's network, where other pods would be hit as well")
    return path


def _own_addresses(f: Fault, node: str) -> tuple[str, ...]:
    """Every address of the node, on whichever interface: the kubelet speaks to a pod from the one next to it."""
    listed = f.world.nodes.inside(node, "ip", "-o", "addr", "show").stdout
    words = (line.split() for line in listed.splitlines())
    return tuple(sorted({w[3].partition("/")[0] for w in words if len(w) > 3 and not w[3].startswith(("127.", "::1"))}))


def _addresses(f: Fault, component: str) -> tuple[str, ...]:
    """Addresses of the component's pods and of the Services before them."""
    cluster, namespace = f.world.cluster, f.world.spec.namespace
    found = {ip for p in cluster.pods(namespace, component=component) for ip in p.ips}
    services, _ = cluster.items(cluster.path_of("v1", "Service", namespace), label_selector=f"{COMPONENT}={component}")
    found |= {ip for s in services for ip in s["spec"].get("clusterIPs") or () if ip != "None"}
    if not found:
        raise FaultFailed(f"the peer '{component}' has no address", where=f.name)
    return tuple(sorted(found))

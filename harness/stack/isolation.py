"""Proof that nothing can leave: a canary listener on this host that a control reaches and ordinary pods do not.

The control (``harness.stack.control``) reaches the canary: so the listener, the addresses and the tool work. Pods reach the
lab's own DNS and resolve its names (second positive control): so their network and the tool in them work. Then pods must
not reach the canary: TCP and UDP, IPv4 and IPv6, from every node that takes pods. And names of the real world must not
resolve.

On kind, nodes are no control: they are closed to the outside too. On a foreign cluster the stack's default-deny egress
policy is what stops the pods, if the cluster's network plugin enforces it; where it does not, that is what this proof finds.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.errors import GuardRefused
from harness.stack import probe
from harness.stack.control import control
from harness.stack.deployed import Stack
from harness.stack.listener import Canary, canaries
from harness.stack.probe import CONNECT_S, Try, send
from harness.support.checkout import Checkout
from harness.support.progress import Progress, SilentProgress

PROBE = "isolation-probe"
#: Of the real world. Looked up only, never connected to; were they answered, a query would have left.
OUTSIDE_NAMES = ("www.debian.org", "www.kernel.org", "www.iana.org")
_NOT_ENFORCED = "the cluster does not enforce NetworkPolicy, or not from a pod's first second on"
_NOT_HEARD = "this machine is not reached even where a policy allows it, so that the pods' silence says nothing of the policies"


@dataclass(frozen=True)
class Isolation:
    """What was tried and how it ended. ``leaks`` and ``unproven`` are sentences; both empty means isolated.

    :param reached: whether one of the leaks is a packet that reached the canary.
    :param unheard: whether one of the unproven is a control that the canary did not hear.
    """

    canary: tuple[str, ...]
    nodes: tuple[str, ...]
    leaks: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    tried: int = 0
    hosts_with_network: tuple[str, ...] = field(default=())  #: pods on the host's network: no ordinary pods, not proven
    reached: bool = False
    unheard: bool = False

    @property
    def isolated(self) -> bool:
        """Whether nothing left and everything that should prove it did."""
        return not self.leaks and not self.unproven and self.tried > 0


def prove_nothing_leaves(stack: Stack, checkout: Checkout, *, progress: Progress | None = None) -> Isolation:
    """Prove that ordinary pods of ``stack`` reach nothing outside the cluster.

    :return: the proof; always ``isolated``.
    :raises GuardRefused: something left, or something that must prove it did not work (exit 7; nothing may run then).
    """
    found = examine(stack, checkout, progress=progress)
    if not found.isolated:
        raise refusal(found, ours=stack.target.ours, where=stack.target.name)
    return found


def refusal(found: Isolation, *, ours: bool, where: str) -> GuardRefused:
    """Why nothing may run on a target of which ``found`` is all that could be shown."""
    details = "; ".join((*found.leaks, *found.unproven)) or "nothing could be tried"
    why, todo = _reason(found, ours)
    return GuardRefused(f"it is not proven that mail stays inside: {why}{details}", where=where, todo=todo)


def _reason(found: Isolation, ours: bool) -> tuple[str, str]:
    """What the details mean on this kind of cluster, and what can be done."""
    if ours:
        return "", "mailgale cluster down, then up"
    if found.reached:
        return f"{_NOT_ENFORCED}: ", "use a network plugin that enforces egress policies, or --target kind"
    if found.unheard:
        return f"{_NOT_HEARD}: ", "let pods reach this machine, or use --target kind"
    return "", "use --target kind"


def examine(stack: Stack, checkout: Checkout, *, progress: Progress | None = None) -> Isolation:
    """As :func:`prove_nothing_leaves`, but the caller judges."""
    say = progress or SilentProgress()
    with say.stage("proof that nothing leaves"), canaries(stack) as listening, _probes(stack, say) as nodes:
        with control(stack, checkout, nodes, listening, say) as once_more:
            say.waiting(f"{len(nodes)} nodes, {len(listening)} addresses")
            with ThreadPoolExecutor(4) as pool:
                tries = [t for found in pool.map(lambda n: _from_pod(stack, n, listening), nodes) for t in found]
            # The controls come last: once they have arrived, whatever the pods sent before has arrived too, or never will.
            return _judged(stack, nodes, listening, [*tries, *once_more()])


def _judged(stack: Stack, nodes: Sequence[str], listening: Sequence[Canary], tries: Sequence[Try]) -> Isolation:
    wrong = [t for t in tries if t.wrong()]
    return Isolation(
        canary=tuple(f"[{c.address}]:{c.port}" for c in listening), nodes=tuple(nodes),
        leaks=tuple(t.what for t in wrong if not t.must_work), unproven=tuple(f"{t.what}: failed" for t in wrong if t.must_work),
        tried=sum(not t.must_work for t in tries), hosts_with_network=_on_host_network(stack),
        reached=any(t.to_canary and not t.must_work for t in wrong), unheard=any(t.to_canary and t.must_work for t in wrong),
    )


def _from_pod(stack: Stack, node: str, listening: Sequence[Canary]) -> list[Try]:
    """What the probe pod on ``node`` must and must not reach."""
    own = f"run-control.{stack.namespace}.svc.{stack.cluster_domain}"
    # `exec N<>/dev/tcp` fails where there is no connection, so the exit status is the answer.
    connects = _run(stack, node, f"timeout {CONNECT_S} bash -c 'exec 3<>/dev/tcp/{stack.dns_address}/53'") == 0
    made = [
        Try(f"the control from a pod on {node} to the lab's DNS at {stack.dns_address}", True, connects),
        Try(f"a pod on {node} looking up the lab's own name {own}", True, _run(stack, node, f"timeout 10 getent ahosts {own}") == 0),
    ]
    for name in OUTSIDE_NAMES:
        made.append(Try(f"a pod on {node} resolves {name}", False, _run(stack, node, f"timeout 20 getent ahosts {name}.") == 0))
    for canary in listening:
        for kind in ("tcp", "udp"):
            token = secrets.token_hex(8)
            _run(stack, node, send(kind, canary.address, canary.port, token))
            made.append(Try(f"a pod on {node} reaches {canary.address} over {kind}", False, partial(canary.heard, token), to_canary=True))
    return made


def _run(stack: Stack, node: str, script: str) -> int:
    return probe.run(stack, PROBE, node, script)


@contextmanager
def _probes(stack: Stack, progress: Progress) -> Iterator[list[str]]:
    """An ordinary pod on every node that takes pods, and the names of these nodes; removed again.

    :raises GuardRefused: there is no such node.
    """
    gateway, nodes = stack.gateway(), [n.name for n in stack.cluster.nodes() if n.takes_pods]
    if not nodes:
        raise GuardRefused("no node takes ordinary pods, so nothing can be proven", where=stack.target.name)
    try:
        gateway.apply([_control_service()], stack.namespace)
        with probe.pods(stack, PROBE, nodes, {}, progress):
            yield nodes
    finally:
        gateway.delete("v1", "Service", "run-control", stack.namespace)


def _control_service() -> dict[str, Any]:
    """A Service of our own, so that a name is known to exist whatever the profile."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "run-control"},
            "spec": {"ports": [{"port": 9, "protocol": "TCP"}], "selector": {"mailgale.dev/none": "none"}}}


def _on_host_network(stack: Stack) -> tuple[str, ...]:
    return tuple(p.name for p in stack.cluster.pods(stack.namespace) if p.raw["spec"].get("hostNetwork"))

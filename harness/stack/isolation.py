"""Proof that nothing can leave: a canary listener on this host that a control reaches and ordinary pods do not.

A container on the nodes' own network, but under none of their rules, reaches it (positive control): so the listener, the
addresses and the tool work. Pods reach the lab's own DNS and resolve its names (second positive control): so their network
and the tool in them work. Then pods must not reach the canary: TCP and UDP, IPv4 and IPv6, from every node that may run
pods. And names of the real world must not resolve.

The nodes themselves are no control: they are closed to the outside too.
"""

from __future__ import annotations

import ipaddress
import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.cluster.engine import Engine, ensure_engine
from harness.errors import CommandFailed, GuardRefused, NotReady
from harness.kube.api import ApiFailed
from harness.kube.guards import CHECKOUT
from harness.stack.deployed import Stack
from harness.stack.ready import Expected, wait_ready
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress, SilentProgress

PROBE = "isolation-probe"
#: Of the real world. Looked up only, never connected to; were they answered, a query would have left.
OUTSIDE_NAMES = ("www.debian.org", "www.kernel.org", "www.iana.org")
_CONNECT_S = 2
_ARRIVES_S = 5.0
_READY_S = 60.0
_BYTES_MAX = 256
_SEEN_MAX = 1000


@dataclass(frozen=True)
class Isolation:
    """What was tried and how it ended. ``leaks`` and ``unproven`` are sentences; both empty means isolated."""

    canary: tuple[str, ...]
    nodes: tuple[str, ...]
    leaks: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    tried: int = 0
    hosts_with_network: tuple[str, ...] = field(default=())  #: pods on the host's network: no ordinary pods, not proven

    @property
    def isolated(self) -> bool:
        """Whether nothing left and everything that should prove it did."""
        return not self.leaks and not self.unproven and self.tried > 0


@dataclass(frozen=True)
class _Try:
    """One try. ``worked``: an answer, or the function that says whether a token arrived."""

    what: str
    must_work: bool
    worked: bool | Callable[[], str]

    def wrong(self) -> bool:
        return bool(self.worked() if callable(self.worked) else self.worked) != self.must_work


class Canary:
    """Listens on TCP and UDP at an address of this host and remembers which tokens arrived. Bounded in size."""

    def __init__(self, address: str) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tcp = socket.create_server((address, 0), family=family, backlog=16)
        self.port = int(self._tcp.getsockname()[1])
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((address, self.port))
        self._seen: dict[str, str] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        for one in (self._tcp, self._udp, self._woken):
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"canary {address}", daemon=True)
        self._thread.start()

    def heard(self, token: str) -> str:
        """Where ``token`` came from; "" when it did not arrive."""
        return self._seen.get(token, "")

    def close(self) -> None:
        """Stop listening."""
        self._wake.send(b"x")
        self._thread.join(5)
        for one in (self._tcp, self._udp, self._wake, self._woken):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                with suppress(OSError):
                    self._accept() if key.fileobj is self._tcp else self._receive()

    def _accept(self) -> None:
        connection, source = self._tcp.accept()
        with connection:
            connection.settimeout(1)
            self._note(connection.recv(_BYTES_MAX), source[0])

    def _receive(self) -> None:
        data, source = self._udp.recvfrom(_BYTES_MAX)
        self._note(data, source[0])

    def _note(self, data: bytes, source: str) -> None:
        if len(self._seen) < _SEEN_MAX:
            self._seen[data.decode(errors="replace").strip()] = source


def prove_nothing_leaves(stack: Stack, checkout: Checkout, *, progress: Progress | None = None) -> Isolation:
    """Prove that ordinary pods of ``stack`` reach nothing outside the cluster.

    :return: the proof; always ``isolated``.
    :raises GuardRefused: something left, or something that must prove it did not work (exit 7; nothing may run then).
    """
    found = examine(stack, checkout, progress=progress)
    if not found.isolated:
        what = "; ".join((*found.leaks, *found.unproven)) or "nothing could be tried"
        raise GuardRefused(f"it is not proven that mail stays inside: {what}", where=stack.target.name, todo="mailgale cluster down, then up")
    return found


def examine(stack: Stack, checkout: Checkout, *, progress: Progress | None = None) -> Isolation:
    """As :func:`prove_nothing_leaves`, but the caller judges."""
    say = progress or SilentProgress()
    with say.stage("proof that nothing leaves"), canaries(stack) as listening, _probes(stack, say) as nodes:
        say.waiting(f"{len(nodes)} nodes, {len(listening)} addresses")
        engine = ensure_engine(checkout, say) if stack.target.kind == "kind" else None
        with ThreadPoolExecutor(4) as pool:
            tries = [t for found in pool.map(lambda n: _from_pod(stack, n, listening), nodes) for t in found]
        # The controls come last: once they have arrived, whatever the pods sent before has arrived too, or never will.
        controls = list(_controls(engine, stack, listening))
        return _judged(stack, nodes, listening, [*tries, *controls])


@contextmanager
def canaries(stack: Stack) -> Iterator[list[Canary]]:
    """Listeners at the addresses under which the nodes see this host, one a family.

    :raises GuardRefused: this host has no address on the nodes' network.
    """
    made: list[Canary] = []
    try:
        for address in _host_addresses(stack):
            made.append(Canary(address))
        if not made:
            raise GuardRefused("this host has no address on the nodes' network, so nothing can be proven", where=stack.target.name)
        yield made
    finally:
        for one in made:
            one.close()


def _host_addresses(stack: Stack) -> list[str]:
    """The kernel's choice of source address towards the edge node, for each family; no packet is sent."""
    found = []
    for edge in stack.edges:
        with socket.socket(socket.AF_INET6 if ":" in edge else socket.AF_INET, socket.SOCK_DGRAM) as asked, suppress(OSError):
            asked.connect((edge, 9))
            address = str(asked.getsockname()[0])
            if not ipaddress.ip_address(address).is_loopback:
                found.append(address)
    return found


def _judged(stack: Stack, nodes: Sequence[str], listening: Sequence[Canary], tries: Sequence[_Try]) -> Isolation:
    wrong = [t for t in tries if t.wrong()]
    return Isolation(
        canary=tuple(f"[{c.address}]:{c.port}" for c in listening), nodes=tuple(nodes),
        leaks=tuple(t.what for t in wrong if not t.must_work), unproven=tuple(f"{t.what}: failed" for t in wrong if t.must_work),
        tried=sum(not t.must_work for t in tries), hosts_with_network=_on_host_network(stack),
    )


def _controls(engine: Engine | None, stack: Stack, listening: Sequence[Canary]) -> Iterator[_Try]:
    """A container beside the nodes, under no rule, must reach every canary."""
    if engine is None:
        yield _Try("sending from beside the nodes, for which this target gives no way,", True, False)
        return
    tokens = {(c, kind): secrets.token_hex(8) for c in listening for kind in ("tcp", "udp")}
    script = "; ".join(_send(kind, c.address, c.port, token) for (c, kind), token in tokens.items())
    edge = stack.target.edge.name
    try:
        network = engine.docker("inspect", "--format", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", edge).stdout.split()[0]
        engine.docker(
            "run", "--rm", "--label", f"{CHECKOUT}={stack.checkout_id}", "--network", network, "--entrypoint", "bash", _probe_image(stack), "-c", script,
            timeout_s=60, check=False,
        )
    except (CommandFailed, IndexError) as error:
        yield _Try(f"a control beside the nodes could not be started: {error}; it", True, False)
        return
    for (canary, kind), token in tokens.items():
        yield _Try(f"the control from beside the nodes over {kind} to {canary.address}", True, _arrived(canary, token))


def _from_pod(stack: Stack, node: str, listening: Sequence[Canary]) -> list[_Try]:
    """What the probe pod on ``node`` must and must not reach."""
    own = f"run-control.{stack.namespace}.svc.{stack.cluster_domain}"
    # `exec N<>/dev/tcp` fails where there is no connection, so the exit status is the answer.
    connects = _run(stack, node, f"timeout {_CONNECT_S} bash -c 'exec 3<>/dev/tcp/{stack.dns_address}/53'") == 0
    made = [
        _Try(f"the control from a pod on {node} to the lab's DNS at {stack.dns_address}", True, connects),
        _Try(f"a pod on {node} looking up the lab's own name {own}", True, _run(stack, node, f"timeout 10 getent ahosts {own}") == 0),
    ]
    for name in OUTSIDE_NAMES:
        made.append(_Try(f"a pod on {node} resolves {name}", False, _run(stack, node, f"timeout 20 getent ahosts {name}.") == 0))
    for canary in listening:
        for kind in ("tcp", "udp"):
            token = secrets.token_hex(8)
            _run(stack, node, _send(kind, canary.address, canary.port, token))
            made.append(_Try(f"a pod on {node} reaches {canary.address} over {kind}", False, partial(canary.heard, token)))
    return made


def _run(stack: Stack, node: str, script: str) -> int:
    """Exit status of ``script`` in the probe pod on ``node``.

    :raises GuardRefused: it cannot be run, so nothing is proven.
    """
    try:
        return stack.cluster.exec(stack.namespace, _pod_name(stack, node), PROBE, ["bash", "-c", script], timeout_s=40).code
    except (ApiFailed, NotReady) as error:
        raise GuardRefused(f"the probe on {node} cannot be asked: {error}", where=stack.namespace) from error


def _send(kind: str, address: str, port: int, token: str) -> str:
    return f"timeout {_CONNECT_S} bash -c 'echo {token} > /dev/{kind}/{address}/{port}'"


def _arrived(canary: Canary, token: str) -> bool:
    try:
        return bool(wait_for(lambda: canary.heard(token), deadline_s=_ARRIVES_S, what="the control", every_s=0.05))
    except NotReady:
        return False


@contextmanager
def _probes(stack: Stack, progress: Progress) -> Iterator[list[str]]:
    """A probe pod on every node that takes pods, and the names of these nodes; removed again."""
    gateway = stack.gateway()
    nodes = [n.name for n in stack.cluster.nodes() if n.ready and n.schedulable and "node-role.kubernetes.io/control-plane" not in n.labels]
    pods = [_probe_pod(stack, n) for n in nodes]
    try:
        gateway.apply([_control_service(), *pods], stack.namespace)
        expected = [Expected(f"Pod/{p['metadata']['name']}", {"mailgale.dev/probe": p["metadata"]["name"]}, 1) for p in pods]
        wait_ready(stack.cluster, stack.namespace, expected, deadline_s=_READY_S, progress=progress)
        yield nodes
    finally:
        for pod in pods:
            gateway.delete_pod(pod["metadata"]["name"], stack.namespace, 0)
        gateway.delete("v1", "Service", "run-control", stack.namespace)


def _pod_name(stack: Stack, node: str) -> str:
    return f"{PROBE}-{node}"[:63].rstrip("-.")


def _probe_image(stack: Stack) -> str:
    """An image of the stack with bash and getent in it."""
    return next((i for i in stack.images if i.startswith("mailgale/postfix:")), next(iter(stack.images)))


def _probe_pod(stack: Stack, node: str) -> dict[str, Any]:
    """An ordinary pod: the stack's own image, DNS and namespace, pinned to a node."""
    name = _pod_name(stack, node)
    dns = {"nameservers": [stack.dns_address], "searches": [f"svc.{stack.cluster_domain}"], "options": [{"name": "ndots", "value": "1"}]}
    container = {
        "name": PROBE, "image": _probe_image(stack), "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
    }
    spec = {"nodeName": node, "dnsPolicy": "None", "dnsConfig": dns, "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
            "enableServiceLinks": False, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"mailgale.dev/probe": name}}, "spec": spec}


def _control_service() -> dict[str, Any]:
    """A Service of our own, so that a name is known to exist whatever the profile."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "run-control"},
            "spec": {"ports": [{"port": 9, "protocol": "TCP"}], "selector": {"mailgale.dev/none": "none"}}}


def _on_host_network(stack: Stack) -> tuple[str, ...]:
    return tuple(p.name for p in stack.cluster.pods(stack.namespace) if p.raw["spec"].get("hostNetwork"))

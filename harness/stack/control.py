"""The positive control of the isolation proof: something that must reach the canary, or the pods' silence proves nothing.

On a cluster of this checkout's own the nodes drop what leaves, so a container beside the nodes, under none of their rules,
is the control. On any other cluster NetworkPolicy is all that holds pods back, so the control is a pod like the probe
pods, on the same node, in the same namespace and pod network, but with the label ``mailgale.dev/control`` by which a
policy lets it out to the canary's addresses and ports, and nowhere else. Address, listener, routes, firewalls and tool are
then the same for both, and the policy is the only difference: where the ordinary pod is silent and the control is heard,
policies are enforced for pods of that namespace on that node. A control pod on the host's network would not show that
pods have a route at all (clusters that masquerade only what leaves the private networks), so there is none.

Known limits: a family in which the control pod has no address has no control (no pod there can send in it). Pods on the
host's network, that is the edge, are under no policy anywhere, and the lab's CoreDNS, which carries no mail, is let out to
ports 443 and 6443, where the API server listens. Some plugins apply an ipBlock to no node of the cluster: run from a
machine that is one, the control fails there. Source: networking.k8s.io/v1 NetworkPolicy (policies add up).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.cluster.engine import Engine, ensure_engine
from harness.errors import CommandFailed, NotReady
from harness.kube.guards import CHECKOUT
from harness.stack import probe
from harness.stack.deployed import Stack
from harness.stack.listener import Canary
from harness.stack.probe import Try, arrived, send
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress

NAME = "isolation-control"
#: Selected by the one policy that lets out; no pod of the stack may carry it.
LABEL = "mailgale.dev/control"
#: Network plugins apply a policy some time after the API has it.
_OPENS_S = 30.0
_KINDS = ("tcp", "udp")
_PARALLEL = 8

#: Sends once more and tells what arrived.
Control = Callable[[], list[Try]]


@contextmanager
def control(stack: Stack, checkout: Checkout, nodes: Sequence[str], listening: Sequence[Canary], progress: Progress) -> Iterator[Control]:
    """The control that fits the target of ``stack``; what it needs is removed again.

    :raises StackFailed: a control pod does not become ready.
    :raises GuardRefused: a control pod cannot be asked.
    """
    if stack.target.ours:
        yield partial(_beside_the_nodes, ensure_engine(checkout, progress), stack, listening)
        return
    gateway = stack.gateway()
    try:
        gateway.apply([policy(listening)], stack.namespace)
        with probe.pods(stack, NAME, nodes, {LABEL: NAME}, progress):
            allowed = _Allowed(stack, _ways(stack, nodes, listening))
            progress.waiting("the control pods to be let out to the canary")
            allowed.open()
            yield allowed.once_more
    finally:
        gateway.delete("networking.k8s.io/v1", "NetworkPolicy", NAME, stack.namespace)


def policy(listening: Sequence[Canary]) -> dict[str, Any]:
    """The NetworkPolicy that lets the control pods, and nobody else, out to the canaries' addresses and ports."""
    rules = [
        {"to": [{"ipBlock": {"cidr": f"{c.address}/{128 if ':' in c.address else 32}"}}], "ports": [{"protocol": k.upper(), "port": c.port} for k in _KINDS]}
        for c in listening
    ]
    spec = {"podSelector": {"matchLabels": {LABEL: NAME}}, "policyTypes": ["Egress"], "egress": rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": NAME}, "spec": spec}


@dataclass(frozen=True)
class _Way:
    """From a node's control pod to a canary."""

    node: str
    canary: Canary
    kind: str

    def sending(self, token: str) -> str:
        return send(self.kind, self.canary.address, self.canary.port, token)

    def tried(self, worked: bool) -> Try:
        where = f"{self.kind} to [{self.canary.address}]:{self.canary.port}"
        return Try(f"the control pod on {self.node}, which a policy of its own lets out over {where},", True, worked, to_canary=True)


def _ways(stack: Stack, nodes: Sequence[str], listening: Sequence[Canary]) -> list[_Way]:
    """Every way in a family in which the control pod has an address."""
    found = []
    for node in nodes:
        pod = stack.cluster.pod(stack.namespace, probe.pod_name(NAME, node))
        six = {":" in ip for ip in pod.ips} if pod else set()
        found += [_Way(node, c, kind) for c in listening if (":" in c.address) in six for kind in _KINDS]
    return found


@dataclass
class _Allowed:
    """Control pods that a policy lets out. They must be heard before the ordinary pods try, and again after them."""

    stack: Stack
    ways: Sequence[_Way]
    heard: set[_Way] = field(default_factory=set)

    def open(self) -> None:
        """Send until every way was heard, at most half a minute."""
        sent: list[tuple[_Way, str]] = []

        def look() -> bool:
            self.heard.update(w for w, token in sent if w.canary.heard(token))
            sent.extend(self._send([w for w in self.ways if w not in self.heard]))
            self.heard.update(w for w, token in sent if w.canary.heard(token))
            return len(self.heard) == len(self.ways)

        with suppress(NotReady):  # what is still silent fails once_more
            wait_for(look, deadline_s=_OPENS_S, what="the control pods to be heard", every_s=0.5)

    def once_more(self) -> list[Try]:
        """Send on every way that was open, and wait."""
        if not self.ways:
            return [Try("sending from a control pod in the canary's address family", True, False, to_canary=True)]
        again = {w: arrived(w.canary, token) for w, token in self._send([w for w in self.ways if w in self.heard])}
        return [w.tried(again.get(w, False)) for w in self.ways]

    def _send(self, ways: Sequence[_Way]) -> list[tuple[_Way, str]]:
        tokens = [(w, secrets.token_hex(8)) for w in ways]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(lambda node: self._send_from(node, tokens), dict.fromkeys(w.node for w in ways)))
        return tokens

    def _send_from(self, node: str, tokens: Sequence[tuple[_Way, str]]) -> None:
        probe.run(self.stack, NAME, node, "; ".join(w.sending(token) for w, token in tokens if w.node == node))


def _beside_the_nodes(engine: Engine, stack: Stack, listening: Sequence[Canary]) -> list[Try]:
    """A container beside the nodes, under no rule, must reach every canary."""
    tokens = {(c, kind): secrets.token_hex(8) for c in listening for kind in _KINDS}
    script = "; ".join(send(kind, c.address, c.port, token) for (c, kind), token in tokens.items())
    edge = stack.target.edge.name
    try:
        network = engine.docker("inspect", "--format", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", edge).stdout.split()[0]
        engine.docker(
            "run", "--rm", "--label", f"{CHECKOUT}={stack.checkout_id}", "--network", network, "--entrypoint", "bash", probe.image(stack), "-c", script,
            timeout_s=60, check=False,
        )
    except (CommandFailed, IndexError) as error:
        return [Try(f"a control beside the nodes could not be started: {error}; it", True, False)]
    return [
        Try(f"the control from beside the nodes over {kind} to {canary.address}", True, arrived(canary, token), to_canary=True)
        for (canary, kind), token in tokens.items()
    ]

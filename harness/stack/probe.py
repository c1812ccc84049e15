"""Pods that try to reach something, for the isolation proof: made, asked to send, removed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.errors import GuardRefused, NotReady
from harness.kube.api import ApiFailed
from harness.stack.deployed import Stack
from harness.stack.listener import Canary
from harness.stack.ready import Expected, wait_ready
from harness.support.clock import wait_for
from harness.support.progress import Progress

CONNECT_S = 2
_ARRIVES_S = 5.0
_READY_S = 60.0
_EXEC_S = 40.0


@dataclass(frozen=True)
class Try:
    """One try. ``worked``: an answer, or the function that says whether a token arrived."""

    what: str
    must_work: bool
    worked: bool | Callable[[], str]
    to_canary: bool = False  #: a packet to the canary, as against a name or an address of the lab

    def wrong(self) -> bool:
        """Whether it ended otherwise than it must."""
        return bool(self.worked() if callable(self.worked) else self.worked) != self.must_work


def send(kind: str, address: str, port: int, token: str) -> str:
    """The shell command that sends ``token``. Datagrams go thrice: a lost one would look like a closed way."""
    line = f"echo {token} > /dev/{kind}/{address}/{port}"
    return f"timeout {CONNECT_S} bash -c '{line if kind == 'tcp' else f'{line}; {line}; {line}'}'"


def arrived(canary: Canary, token: str) -> bool:
    """Whether ``token`` arrives at ``canary`` within a few seconds."""
    try:
        return bool(wait_for(lambda: canary.heard(token), deadline_s=_ARRIVES_S, what="the control", every_s=0.05))
    except NotReady:
        return False


@contextmanager
def pods(
    stack: Stack, name: str, nodes: Sequence[str], labels: Mapping[str, str], progress: Progress, *, capabilities: Sequence[str] = (),
) -> Iterator[None]:
    """A ready pod called ``name`` on each of ``nodes``; removed again.

    :param capabilities: beside those that the cluster gives any container, e.g. ``NET_RAW``.
    :raises StackFailed: one is not ready within a minute.
    """
    gateway, made = stack.gateway(), [_pod(stack, name, n, labels, capabilities) for n in nodes]
    try:
        gateway.apply(made, stack.namespace)
        expected = [Expected(f"Pod/{p['metadata']['name']}", {"mailgale.dev/probe": p["metadata"]["name"]}, 1) for p in made]
        wait_ready(stack.cluster, stack.namespace, expected, deadline_s=_READY_S, progress=progress)
        yield
    finally:
        for pod in made:
            gateway.delete_pod(pod["metadata"]["name"], stack.namespace, 0)


def run(stack: Stack, name: str, node: str, script: str) -> int:
    """Exit status of ``script`` in the pod ``name`` on ``node``.

    :raises GuardRefused: it cannot be run, so nothing is proven.
    """
    try:
        return stack.cluster.exec(stack.namespace, pod_name(name, node), name, ["bash", "-c", script], timeout_s=_EXEC_S).code
    except (ApiFailed, NotReady) as error:
        raise GuardRefused(f"the probe on {node} cannot be asked: {error}", where=stack.namespace) from error


def pod_name(name: str, node: str) -> str:
    """The name of the pod ``name`` on ``node``."""
    return f"{name}-{node}"[:63].rstrip("-.")


def image(stack: Stack) -> str:
    """An image of the stack with bash and getent in it."""
    return next((i for i in stack.images if i.rpartition("/")[2].startswith("postfix:")), next(iter(stack.images)))


def _pod(stack: Stack, name: str, node: str, labels: Mapping[str, str], capabilities: Sequence[str]) -> dict[str, Any]:
    """The stack's own image, DNS and namespace, pinned to a node."""
    whole = pod_name(name, node)
    dns = {"nameservers": [stack.dns_address], "searches": [f"svc.{stack.cluster_domain}"], "options": [{"name": "ndots", "value": "1"}]}
    container = {
        "name": name, "image": image(stack), "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
    }
    if capabilities:
        container["securityContext"] = {"capabilities": {"add": list(capabilities)}}
    spec = {"nodeName": node, "dnsPolicy": "None", "dnsConfig": dns, "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
            "enableServiceLinks": False, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": whole, "labels": {"mailgale.dev/probe": whole, **labels}}, "spec": spec}

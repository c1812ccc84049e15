"""What the cluster itself says, asked with kubectl: does it answer, which nodes, which identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cluster.topology import EDGE_LABEL
from harness.errors import CommandFailed, GuardRefused
from harness.model.target import Node
from harness.support.shell import Completed, run

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
#: kube-system's UID names a cluster for as long as it lives.
_IDENTITY = "kube-system"


@dataclass(frozen=True)
class Api:
    """kubectl with one kubeconfig and one context, never the current one.

    :param kubeconfig: a file, or several joined by ``:`` as in ``KUBECONFIG``.
    :raises GuardRefused: no context is named: kubectl would take the current one.
    """

    kubectl: Path
    kubeconfig: str
    context: str

    def __post_init__(self) -> None:
        if not self.context:
            raise GuardRefused("no context is named, and the current one is never taken", where=self.kubeconfig)

    def __call__(self, *words: str, timeout_s: float = 30, check: bool = True, input: str | None = None) -> Completed:
        """Run ``kubectl words…``.

        :raises CommandFailed: as :func:`harness.support.shell.run` does.
        """
        head: list[str | Path] = [self.kubectl, "--context", self.context, f"--request-timeout={int(timeout_s)}s"]
        # --kubeconfig takes one file only; the variable takes several.
        return run([*head, *words], timeout_s=timeout_s + 5, check=check, input=input, env={"KUBECONFIG": self.kubeconfig})

    def get(self, *words: str) -> Any:
        """The object or list that ``kubectl get words… -o json`` prints."""
        return json.loads(self("get", *words, "-o", "json").stdout)

    def answers(self, timeout_s: float = 5) -> bool:
        """Whether the API server says it is ready."""
        if not Path(self.kubeconfig).exists():
            return False
        try:
            return self("get", "--raw", "/readyz", timeout_s=timeout_s, check=False).stdout.strip() == "ok"
        except CommandFailed:
            return False

    def uid(self) -> str:
        """The cluster's identity."""
        return str(self.get("namespace", _IDENTITY)["metadata"]["uid"])


def node_of(item: Mapping[str, Any]) -> Node:
    """A node out of its API object."""
    labels = item["metadata"].get("labels") or {}
    found = [a["address"] for a in item["status"].get("addresses", []) if a["type"] == "InternalIP"]
    addresses = tuple(sorted(found, key=lambda a: ":" in a))
    role = "control-plane" if _CONTROL_PLANE in labels else "worker"
    return Node(item["metadata"]["name"], role, addresses, edge=labels.get(EDGE_LABEL) == "true")


def is_ready(item: Mapping[str, Any]) -> bool:
    """Whether the node says so, and may take pods."""
    ready = [c["status"] for c in item["status"].get("conditions", []) if c["type"] == "Ready"]
    return ready == ["True"] and not item["spec"].get("unschedulable")

"""The fixture ``stack``: the minimal profile, deployed once a session on the cluster of the fixture ``cluster``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.cluster.tools import kubectl_path
from harness.load.pods import generator_networks
from harness.model.target import Target
from harness.stack import lifecycle
from harness.stack.deployed import Stack
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from harness.support.shell import run

SUFFIX = "test"


@dataclass(frozen=True)
class StackUnderTest:
    """A deployed stack with a kubectl of its namespace; every attribute of ``harness.stack.deployed.Stack`` too."""

    stack: Stack
    checkout: Checkout

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stack, name)

    def kubectl(self, *words: str, timeout_s: float = 60.0, check: bool = True, input: str | None = None) -> str:
        """Standard output of ``kubectl -n NAMESPACE WORDS…``. For tests only: what the harness changes goes through its gateway."""
        target = self.stack.target
        head = [kubectl_path(self.checkout), "--kubeconfig", target.kubeconfig, "--context", target.context, "-n", self.stack.namespace]
        return run([*head, *words], timeout_s=timeout_s, check=check, input=input).stdout

    def json(self, *words: str) -> Any:
        """``kubectl … -o json``, parsed."""
        return json.loads(self.kubectl(*words, "-o", "json"))


@pytest.fixture(scope="session")
def stack(cluster: Target) -> Iterator[StackUnderTest]:
    """Up for the whole session; a stack that was left by a broken session is found and used, and taken down at the end."""
    checkout, progress = Checkout.find(), SilentProgress()
    lifecycle.down(f"mailgale-{checkout.id}-stack", target=cluster, checkout_id=checkout.id, progress=progress)
    made = lifecycle.up(cluster, checkout, profile="minimal", users=50, time_scale=30.0, suffix=SUFFIX, progress=progress, generators=generator_networks(cluster))
    yield StackUnderTest(made, checkout)
    lifecycle.down(made, progress=progress)

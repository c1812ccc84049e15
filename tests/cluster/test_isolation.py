"""The proof that nothing leaves: it holds on our cluster, and each planted hole and each broken control is seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness.errors import GuardRefused
from harness.stack import isolation, listener, probe
from harness.support.shell import run

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]
TABLE = "inet mailgale_egress"


def on_node(node: str, *words: str, input: str | None = None) -> str:
    return run(["docker", "exec", *(["-i"] if input else []), node, *words], timeout_s=60, input=input).stdout


@contextmanager
def no_rules(node: str) -> Iterator[None]:
    """A node without its egress rules, as a plain one would be."""
    saved = on_node(node, "nft", "list", "table", *TABLE.split())
    on_node(node, "nft", "delete", "table", *TABLE.split())
    try:
        yield
    finally:
        on_node(node, "nft", "-f", "-", input=saved)


def test_nothing_leaves(stack):
    proof = isolation.prove_nothing_leaves(stack.stack, stack.checkout)
    assert proof.isolated
    assert len(proof.canary) == 2
    assert set(proof.nodes) == {n.name for n in stack.target.nodes if n.role == "worker"}
    assert stack.cluster.pods(stack.namespace, "mailgale.dev/probe") == []


def test_a_node_without_its_rules_is_seen(stack):
    node = next(n.name for n in stack.target.nodes if n.role == "worker")
    with no_rules(node):
        with pytest.raises(GuardRefused, match=f"a pod on {node} reaches"):
            isolation.prove_nothing_leaves(stack.stack, stack.checkout)


def test_names_of_the_real_world_would_be_seen(stack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolation, "OUTSIDE_NAMES", (f"mx.{stack.namespace}.svc.cluster.local",))
    assert any("resolves" in leak for leak in isolation.examine(stack.stack, stack.checkout).leaks)


def test_a_canary_that_hears_nothing_proves_nothing(stack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener.Canary, "_note", lambda *_: None)
    monkeypatch.setattr(probe, "_ARRIVES_S", 0.5)
    with pytest.raises(GuardRefused, match="the control from beside the nodes"):
        isolation.prove_nothing_leaves(stack.stack, stack.checkout)


def test_pods_whose_network_is_dead_prove_nothing(stack):
    with pytest.raises(GuardRefused, match="the control from a pod"):
        isolation.prove_nothing_leaves(replace(stack.stack, dns_address="10.96.0.254"), stack.checkout)
